//! The system calls that a worker may make: an allow-list kept as data in `policies/seccomp/`.
//!
//! A call that no row names is answered with EACCES. Not with EPERM: the WASI layer takes EPERM
//! from openat2 for "this kernel has no openat2" and walks the path by hand, through code in which
//! its escapes were. A few calls that nobody innocent makes end the process instead.
//!
//! Where a guest runs, the kernel asks the supervisor about each call that is not let through
//! ([`install_asking`]), so that it is recorded. The worker cannot abuse this: the supervisor's
//! end of the filter leaves the process before hostile bytes come in; the supervisor looks at
//! nothing but the number and the arguments themselves, which the kernel has copied; from the
//! guest's start on it lets nothing through; and without a supervisor the kernel answers ENOSYS.
//!
//! Calls of the 32-bit and x32 interfaces end the process: other numbers, other arguments, and
//! nobody who could need them.

mod list;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use seccompiler::{BpfProgram, sock_filter};

pub use list::{ListError, Rows, Unlisted};

use super::sys;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// A guest runs.
    Run,
    /// A module is compiled.
    Compile,
}

impl List {
    /// The list's TOML text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Run => include_str!("../../../../policies/seccomp/run.toml"),
            Self::Compile => include_str!("../../../../policies/seccomp/compile.toml"),
        }
    }
}

/// Why no filter could be installed.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The list is wrong.
    #[error(transparent)]
    List(#[from] ListError),
    /// The list was written for x86_64; numbers and arguments of calls differ elsewhere.
    #[error("the seccomp lists are written for x86_64, this machine is {0}")]
    Architecture(&'static str),
    /// The filter library does not accept the list.
    #[error("the seccomp list cannot be made a filter")]
    Filter(#[from] seccompiler::Error),
    /// The kernel does not accept the filter.
    #[error("the kernel does not accept the seccomp filter")]
    Install(#[source] seccompiler::Error),
    /// The kernel does not accept the filter that asks the supervisor.
    #[error("the kernel does not accept the seccomp filter that asks the supervisor")]
    Listen(#[source] io::Error),
}

/// Puts `list` into force for all threads, for good: what it does not name is denied.
///
/// # Errors
/// See [`SeccompError`].
pub fn install(list: List) -> Result<(), SeccompError> {
    for program in programs(&Rows::parse(list.text())?, Unlisted::Denied)? {
        seccompiler::apply_filter_all_threads(&program).map_err(SeccompError::Install)?;
    }
    Ok(())
}

/// Puts `list` into force for this thread and all that it will start, for good. About what the
/// list does not name the kernel asks at the descriptor that is returned; until it has an answer,
/// the caller waits.
///
/// # Errors
/// See [`SeccompError`].
pub fn install_asking(list: List) -> Result<OwnedFd, SeccompError> {
    let mut programs = programs(&Rows::parse(list.text())?, Unlisted::Asked)?;
    let last = programs.pop().unwrap_or_default();
    for program in programs {
        seccompiler::apply_filter(&program).map_err(SeccompError::Install)?;
    }
    sys::filter_with_listener(&last).map_err(SeccompError::Listen)
}

/// The filters of a list, in the order in which they must be installed: the last one denies the
/// call that installs filters. Of several filters' verdicts the kernel takes the strictest.
fn programs(rows: &Rows, unlisted: Unlisted) -> Result<Vec<BpfProgram>, SeccompError> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(SeccompError::Architecture(std::env::consts::ARCH));
    }
    let json = rows.to_json(unlisted);
    let architecture = seccompiler::TargetArch::x86_64;
    let mut programs: BTreeMap<_, _> =
        seccompiler::compile_from_json(json.as_bytes(), architecture)?.into_iter().collect();
    if unlisted == Unlisted::Asked {
        programs.values_mut().for_each(ask);
    }
    // Their names sort in the right order.
    let listed = programs.into_values();
    Ok(std::iter::once(without_x32()).chain(listed).collect())
}

/// `BPF_RET | BPF_K` (uapi/linux/bpf_common.h).
const RETURN: u16 = 0x06;

/// Turns `trace` into "ask": the filter library has no word for the latter.
fn ask(program: &mut BpfProgram) {
    for instruction in program {
        if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_TRACE {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
}

/// Ends the process at a call of the x32 interface, which has the architecture of the others and
/// one bit more in its numbers (`__X32_SYSCALL_BIT`, asm/unistd.h). The filter library ends it at
/// calls of other architectures.
fn without_x32() -> BpfProgram {
    /// `BPF_LD | BPF_W | BPF_ABS` and `BPF_JMP | BPF_JSET | BPF_K` (uapi/linux/bpf_common.h).
    const LOAD: u16 = 0x20;
    const IF_BIT: u16 = 0x45;
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    vec![
        // `seccomp_data.nr` (uapi/linux/seccomp.h).
        step(LOAD, 0, 0),
        step(IF_BIT, 1, X32),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}

#[cfg(test)]
mod tests;
