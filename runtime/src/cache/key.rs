//! What an entry is found by.

use blake3::{Hash, Hasher};

/// Names one compiled module: its bytes, wasmtime's and wasi-guard's versions, the architecture
/// and the options that change the code. Not the features of the CPU: an artifact for all CPUs of
/// an architecture, made elsewhere with `--target`, shall be found, and wasmtime refuses one that
/// needs more than this CPU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(Hash);

/// wasmtime puts its version into each artifact and refuses another's; `Engine` tells it only in
/// that form.
const WASMTIME: &str = "48";

/// What an entry's file name ends in.
const ENDING: &str = ".cwasm";

impl Key {
    /// The key for a module.
    #[must_use]
    pub fn new(module: &Hash, architecture: &str, options: &str) -> Self {
        let mut hasher = Hasher::new_derive_key("wasi-guard 2025 compiled module");
        for part in [
            module.as_bytes().as_slice(),
            WASMTIME.as_bytes(),
            env!("CARGO_PKG_VERSION").as_bytes(),
            if cfg!(feature = "test-unchecked-host") { b"unchecked" } else { b"" },
            architecture.as_bytes(),
            options.as_bytes(),
        ] {
            // The length first, so that no two lists of parts run together to the same bytes.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize())
    }

    /// The key's 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The entry's file name.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}{ENDING}", self.0.to_hex())
    }

    /// The key whose entry has this name, if an entry can have it.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        let key = Hash::from_hex(name.strip_suffix(ENDING)?).ok().map(Self)?;
        (key.file_name() == name).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_key() {
        let module = blake3::hash(b"a");
        let key = Key::new(&module, "x86_64", "-O2");
        assert_eq!(key, Key::new(&module, "x86_64", "-O2"));
        assert_ne!(key, Key::new(&blake3::hash(b"b"), "x86_64", "-O2"));
        assert_ne!(key, Key::new(&module, "aarch64", "-O2"));
        assert_ne!(key, Key::new(&module, "x86_64", "-O1"));
        assert_ne!(key, Key::new(&module, "x86_64-", "O2"));
        let name = key.file_name();
        assert_eq!(Key::of_file_name(&name), Some(key));
        for other in [&name[1..], name.trim_end_matches(".cwasm"), &name.to_uppercase(), ""] {
            assert_eq!(Key::of_file_name(other), None);
        }
        assert_eq!(Key::of_file_name(&format!("{}.cwasm", "A".repeat(64))), None);
    }
}
