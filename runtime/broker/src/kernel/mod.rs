//! What the broker does with the kernel: makes maps, loads and attaches programs, reads buffers.
//!
//! It asks nobody whether it may: whoever calls it has held what it is given against the policy.
//! Still no input makes it panic, and none lets the kernel read or write beyond it.
//!
//! What the kernel gives is a descriptor each time, and whatever it stands for ends with it: nothing
//! is pinned, and nothing is attached in a way that outlives its descriptor. So what a guest loaded
//! is gone when its broker is, even if that was killed.

pub mod attach;
pub mod buffers;
pub mod elf;
mod map;
mod program;
mod sys;
mod types;

use rustix::io::Errno;

pub use attach::Link;
pub use buffers::{Buffer, Collected};
pub use map::{Map, map_create};
pub use program::{LoadSpec, btf_load, program_load};
pub use types::{Traced, attach_btf_id, attach_btf_ids};

/// A step that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not {step}: {errno}")]
pub struct LoadError {
    /// What was being done, to be read after "could not".
    pub step: String,
    /// The kernel's reason.
    pub errno: Errno,
    /// What it has to say besides: the verifier's log. Empty if that is nothing.
    pub log: String,
}

impl LoadError {
    /// An error without a log.
    pub(crate) fn new(step: impl Into<String>, errno: Errno) -> Self {
        Self { step: step.into(), errno, log: String::new() }
    }
}

/// A name as the kernel takes it for maps and programs: 15 letters, digits, underscores and dots, and
/// a NUL (`bpf_obj_name_cpy`, kernel/bpf/syscall.c). What is too long is cut, what is not allowed is
/// an underscore.
fn object_name(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().take(15).zip(name.bytes()) {
        let allowed = from.is_ascii_alphanumeric() || matches!(from, b'_' | b'.');
        *to = if allowed { from } else { b'_' };
    }
    short
}

/// The end of a log that the kernel wrote: all up to the first NUL, but of more than `most` bytes
/// only the last, which is where the reason stands.
fn end_of_log(log: &[u8], most: usize) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let log = log.get(..end).unwrap_or_default();
    String::from_utf8_lossy(log.get(log.len().saturating_sub(most)..).unwrap_or_default())
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_what_the_kernel_takes() {
        assert_eq!(&object_name(".rodata"), b".rodata\0\0\0\0\0\0\0\0\0");
        assert_eq!(&object_name("0123456789abcdefgh"), b"0123456789abcde\0");
        assert_eq!(&object_name("a b-c\0d"), b"a_b_c_d\0\0\0\0\0\0\0\0\0");
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        assert_eq!(end_of_log(b"abcdef\n\0xyz", 4), "def");
        assert_eq!(end_of_log(b"abc", 16), "abc");
        assert_eq!(end_of_log(b"", 16), "");
    }
}
