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

#[cfg(test)]
mod filters;
#[cfg(test)]
mod list;

/// What build.rs has made of the lists.
mod built {
    use super::{Instruction, Loading};
    include!(concat!(env!("OUT_DIR"), "/seccomp.rs"));
}

use std::io;
use std::os::fd::OwnedFd;

use seccompiler::{BpfProgram, sock_filter};

use super::sys;

/// `struct sock_filter` (uapi/linux/filter.h): code, jt, jf, k.
type Instruction = (u16, u8, u8, u32);
/// A call of the `load` rows, and its conditions: the argument's place, the bits that are looked
/// at, and how they are to be.
type Loading = (usize, &'static [(u8, u64, u64)]);

/// Stands in a filter for the id of the process that installs it. More than any process can have
/// (`PID_MAX_LIMIT`, linux/threads.h), and in no row.
const OWN_PID: u32 = 0x7fff_0001;
/// `BPF_JMP | BPF_JEQ | BPF_K` (uapi/linux/bpf_common.h): what compares with a number.
const IF_EQUAL: u16 = 0x15;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// A guest runs.
    Run,
    /// A module is compiled.
    Compile,
    /// BPF objects are parsed.
    Parse,
}

impl List {
    /// Its filter for this process.
    fn filter(self) -> BpfProgram {
        let own = std::process::id();
        let here = move |&(code, jt, jf, k): &Instruction| {
            let k = if code == IF_EQUAL && k == OWN_PID { own } else { k };
            sock_filter { code, jt, jf, k }
        };
        let program = match self {
            Self::Run => built::RUN,
            Self::Compile => built::COMPILE,
            Self::Parse => built::PARSE,
        };
        program.iter().map(here).collect()
    }

    #[cfg(test)]
    const fn text(self) -> &'static str {
        match self {
            Self::Run => include_str!("../../../../policies/seccomp/run.toml"),
            Self::Compile => include_str!("../../../../policies/seccomp/compile.toml"),
            Self::Parse => include_str!("../../../../policies/seccomp/parse.toml"),
        }
    }

    /// What becomes of calls that the list does not let through.
    #[cfg(test)]
    const fn unlisted(self) -> list::Unlisted {
        match self {
            Self::Run => list::Unlisted::Asked,
            Self::Compile | Self::Parse => list::Unlisted::Denied,
        }
    }
}

/// Whether a call with these arguments is let through until a guest's module is loaded.
#[must_use]
pub fn may_load(call: usize, arguments: &[u64; 6]) -> bool {
    built::LOAD.iter().any(|(listed, conditions)| {
        *listed == call
            && conditions.iter().all(|(place, mask, value)| {
                arguments.get(usize::from(*place)).is_some_and(|it| it & mask == *value)
            })
    })
}

/// Whether this call ends the process of a guest.
#[must_use]
pub fn ends(call: usize) -> bool {
    built::KILL.contains(&call)
}

/// Why no filter could be installed.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The list was written for x86_64; numbers and arguments of calls differ elsewhere.
    #[error("the seccomp lists are written for x86_64, this machine is {0}")]
    Architecture(&'static str),
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
    check_architecture()?;
    seccompiler::apply_filter_all_threads(&list.filter()).map_err(SeccompError::Install)
}

/// Puts the guest's list into force for this thread and all that it will start, for good. About what
/// the list does not name the kernel asks at the descriptor that is returned; until it has an
/// answer, the caller waits.
///
/// # Errors
/// See [`SeccompError`].
pub fn install_asking() -> Result<OwnedFd, SeccompError> {
    check_architecture()?;
    sys::filter_with_listener(&List::Run.filter()).map_err(SeccompError::Listen)
}

const fn check_architecture() -> Result<(), SeccompError> {
    if cfg!(target_arch = "x86_64") {
        Ok(())
    } else {
        Err(SeccompError::Architecture(std::env::consts::ARCH))
    }
}

#[cfg(test)]
pub(super) mod tests;
