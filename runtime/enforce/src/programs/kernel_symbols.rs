//! Addresses of the kernel's own variables.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

use super::btf::KernelTypes;
use crate::error::{Result, Step as _};

const SYMBOLS: &str = "/proc/kallsyms";

/// Address of the sequence number in the kernel's `rename_lock`; 0 if the kernel does not tell
/// (`kernel.kptr_restrict`), and then every decision walks the whole path, which costs time and
/// nothing else.
///
/// # Errors
/// If the kernel has no such lock, or one of another shape.
pub(crate) fn rename_lock(types: &KernelTypes) -> Result<u64> {
    let sequence = types.typedef_member("seqlock_t", "seqcount.seqcount.sequence")?;
    let file = File::open(SYMBOLS).step(|| format!("open {SYMBOLS}"))?;
    let lock = address(BufReader::new(file), b"rename_lock").step(|| format!("read {SYMBOLS}"))?;
    Ok(lock.map_or(0, |lock| lock + u64::from(sequence.offset)))
}

/// The address of a symbol of the kernel proper, if it is told.
fn address(mut symbols: impl BufRead, name: &[u8]) -> std::io::Result<Option<u64>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if symbols.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        // ADDRESS TYPE NAME, and for modules `[MODULE]`.
        let mut fields = line.trim_ascii().split(|byte| byte.is_ascii_whitespace());
        let (address, symbol, module) = (fields.next(), fields.nth(1), fields.next());
        if symbol == Some(name) && module.is_none() {
            let address = address.and_then(|text| std::str::from_utf8(text).ok());
            let address = address.and_then(|text| u64::from_str_radix(text, 16).ok());
            return Ok(address.filter(|address| *address != 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<u64> {
        address(text.as_bytes(), b"rename_lock").unwrap()
    }

    #[test]
    fn a_symbol_of_the_kernel_proper_is_found() {
        let text = "ffffffff81000000 T _stext\nffffffff82a00040 D rename_lock\n";
        assert_eq!(found(text), Some(0xffff_ffff_82a0_0040));
    }

    #[test]
    fn hidden_addresses_modules_and_other_names_are_no_answer() {
        assert_eq!(found("0000000000000000 D rename_lock\n"), None);
        assert_eq!(found("ffffffff82a00040 D rename_lock\t[other]\n"), None);
        assert_eq!(found("ffffffff82a00040 D rename_lock_2\n"), None);
        assert_eq!(found("rename_lock\nx D rename_lock\n"), None);
        assert_eq!(found(""), None);
    }
}
