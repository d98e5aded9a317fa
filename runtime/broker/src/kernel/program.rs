//! Programs and their types.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::{LoadError, end_of_log, object_name, sys};

/// Room for the log of a refused program in bytes. Kernels from 6.4 keep the log's end if it is
/// longer (`bpf_verifier_vlog`), those before its beginning.
const LOG_ROOM: usize = 1 << 20;
/// Longest end of it that is kept.
const LOG_KEPT: usize = 16 << 10;
/// How often a program is tried that the verifier gave up for a signal, as libbpf does
/// (`PROG_LOAD_ATTEMPTS`).
const ATTEMPTS: usize = 5;

/// A program to be loaded: the fields of `BPF_PROG_LOAD` (uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug)]
pub struct LoadSpec<'a> {
    /// Its name, of which the kernel gets the beginning.
    pub name: &'a str,
    /// `enum bpf_prog_type`.
    pub prog_type: u32,
    /// `enum bpf_attach_type`; 0 where the type of program has none.
    pub expected_attach_type: u32,
    /// `BPF_F_SLEEPABLE`, `BPF_F_XDP_HAS_FRAGS`.
    pub flags: u32,
    /// License.
    pub license: &'a str,
    /// Instructions (`struct bpf_insn`), each as its eight bytes in the order of little endian. Those
    /// that load maps have descriptors.
    pub instructions: &'a [u64],
    /// The object's types; without them the records below are not looked at.
    pub btf: Option<BorrowedFd<'a>>,
    /// `func_info`, for these types; may be empty.
    pub func_info: &'a [u8],
    /// Bytes of one record of it.
    pub func_info_size: u32,
    /// `line_info`, for these types; may be empty.
    pub line_info: &'a [u8],
    /// Bytes of one record of it.
    pub line_info_size: u32,
    /// The kernel's type that it is attached to, see [`super::attach_btf_id`]; 0 for none.
    pub attach_btf_id: u32,
    /// `LINUX_VERSION_CODE`, which kernels from 5.0 do not look at.
    pub kernel_version: u32,
}

/// Loads types of an object's (`.BTF`).
///
/// # Errors
/// Of `BPF_BTF_LOAD`, with what the kernel has to say about them.
pub fn btf_load(btf: &[u8]) -> Result<OwnedFd, LoadError> {
    with_log("load the object's types", |log| sys::btf_load(btf, log))
}

/// Loads a program. It lives as long as the descriptor or something that it is attached to.
///
/// # Errors
/// Of `BPF_PROG_LOAD`, with the end of the verifier's log if it was the verifier that refused.
pub fn program_load(spec: &LoadSpec<'_>) -> Result<OwnedFd, LoadError> {
    let step = format!("load the program {:?}", spec.name);
    let name = object_name(spec.name);
    let license =
        CString::new(spec.license).map_err(|_| LoadError::new(step.as_str(), Errno::INVAL))?;
    with_log(&step, |log| {
        let mut answer = sys::program_load(spec, name, &license, log);
        for _ in 1..ATTEMPTS {
            if !matches!(answer, Err(Errno::AGAIN)) {
                break;
            }
            answer = sys::program_load(spec, name, &license, log);
        }
        answer
    })
}

/// Tries without a log, which takes time to write, and if that fails with one.
fn with_log(
    step: &str,
    load: impl Fn(&mut [u8]) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, LoadError> {
    load(&mut []).or_else(|errno| {
        let mut log = vec![0; LOG_ROOM];
        // The second error may be another one, that of a log that did not fit (`ENOSPC`).
        load(&mut log).map_err(|_| LoadError {
            step: step.to_owned(),
            errno,
            log: end_of_log(&log, LOG_KEPT),
        })
    })
}
