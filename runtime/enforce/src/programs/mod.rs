//! The BPF programs: loaded once a boot and build, pinned, and taken from their pins after
//! that. A warm start parses no BTF and loads no BPF.

pub mod btf;
pub mod btf_ids;
pub mod hooks;
mod kernel_symbols;
mod load;
mod lock;
mod of_maps;
mod pins;
mod tables;

use std::{ffi::OsStr, path::PathBuf};

pub(crate) use kernel_symbols::rename_lock;
pub use load::open;
pub(crate) use load::{maps, offsets};
pub(crate) use lock::SwapLock;
pub use lock::{HostLock, run_dir};
pub(crate) use of_maps::Entering;
pub(crate) use pins::{Entries, Leaving, own_programs, remove_pins};
pub use pins::{Pins, unload};
pub(crate) use tables::Shared;

/// The object built from `bpf-progs/`, embedded with the alignment that its parser wants.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../bpf-progs/wasi-guard.bpf.o"
));

/// Its blake3 digest, in hexadecimal.
const OBJECT_DIGEST: &str = env!("OBJECT_DIGEST");

/// Where bpffs is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Identity of a set of programs: object, layout of the shared types, and whether the debug
/// log is compiled in. Different builds share nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    digest: [u8; 32],
    layout: u32,
    /// The programs write a debug log (`--bpf-log`).
    pub log: bool,
}

impl Build {
    /// This binary's.
    pub fn this(log: bool) -> Self {
        Self::of_layout(wasi_guard_abi::LAYOUT, log)
    }

    /// One that shares nothing with [`Build::this`], with maps of another size: stands in for
    /// another release.
    #[cfg(feature = "test-faults")]
    pub fn other() -> Self {
        Self::of_layout(wasi_guard_abi::LAYOUT + 1, false)
    }

    fn of_layout(layout: u32, log: bool) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(OBJECT_DIGEST.as_bytes());
        hasher.update(&layout.to_le_bytes());
        hasher.update(&[u8::from(log)]);
        // What the loader does with the object belongs to the build as well.
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.update(tables::TableIds::NAME.as_bytes());
        Self { digest: *hasher.finalize().as_bytes(), layout, log }
    }

    /// How many guests its maps take.
    pub(crate) fn max_guests(&self) -> u32 {
        // One more in a layout that is not ours.
        wasi_guard_abi::MAX_GUESTS + (self.layout - wasi_guard_abi::LAYOUT)
    }

    /// Sixteen hexadecimal digits that name it in bpffs and among the cgroups.
    pub fn short(&self) -> String {
        self.digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The name of its directories in bpffs and among the cgroups.
    pub(crate) fn name(&self) -> String {
        format!("{PREFIX}{}", self.short())
    }

    /// The directory of its pins.
    pub fn pin_dir(&self) -> PathBuf {
        PathBuf::from(BPFFS).join(self.name())
    }
}

/// What the names of our directories in bpffs and among the cgroups begin with.
const PREFIX: &str = "wasi-guard-";
/// What the name of a directory of pins begins with until all is in it. bpffs takes no dot.
const UNFINISHED: &str = "wasi-guard-new-";

/// Whether a directory in bpffs or among the cgroups belongs to a build. Others may have names that
/// begin alike, as the slices of systemd units do: what is in them is not ours to end or remove.
pub(crate) fn is_of_a_build(name: &OsStr) -> bool {
    is_digest_behind(name, PREFIX)
}

/// Whether a directory in bpffs has pins that a start was interrupted at.
pub(crate) fn is_unfinished(name: &OsStr) -> bool {
    is_digest_behind(name, UNFINISHED)
}

/// [`Build::short`] behind `prefix`.
fn is_digest_behind(name: &OsStr, prefix: &str) -> bool {
    let digest = name.as_encoded_bytes().strip_prefix(prefix.as_bytes());
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digest.is_some_and(|digest| digest.len() == 16 && digest.iter().all(is_hex))
}

/// How much the programs of `--bpf-log` log: aya-log's numbers, 0 is off, 4 is debug.
pub(crate) const LOG_LEVEL: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_object() {
        assert_eq!(blake3::hash(OBJECT).to_hex().as_str(), OBJECT_DIGEST);
    }

    #[test]
    fn only_digests_are_builds() {
        let build = Build::this(false);
        assert!(is_of_a_build(OsStr::new(&build.name())));
        assert!(is_unfinished(OsStr::new(&format!("{UNFINISHED}{}", build.short()))));
        for name in [
            "wasi-guard-app.slice",
            "wasi-guard-",
            "wasi-guard-new-0123456789abcdef",
            "wasi-guard-0123456789abcde",
            "wasi-guard-0123456789abcdef0",
            "wasi-guard-0123456789ABCDEF",
            "other-0123456789abcdef",
        ] {
            assert!(!is_of_a_build(OsStr::new(name)), "{name}");
        }
        assert!(!is_unfinished(OsStr::new("wasi-guard-new-x")));
        assert!(!is_unfinished(OsStr::new(&build.name())));
    }
}
