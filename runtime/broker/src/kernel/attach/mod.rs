//! Attaches programs. Each attachment lasts as long as its [`Link`].

mod net;
mod perf;
mod tracefs;

use std::ffi::CString;
use std::fmt::Display;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::LoadError;
use super::sys::{self, Target};

pub use net::{if_index, socket_filter, tc, xdp};
pub use perf::{kprobe, perf_event, tracepoint, uprobe};

/// An attached program. Dropping it detaches the program, and so does the end of the process.
#[derive(Debug)]
pub struct Link {
    #[expect(dead_code, reason = "the kernel detaches when they are closed")]
    descriptors: Vec<OwnedFd>,
}

impl Link {
    fn of(descriptor: OwnedFd) -> Self {
        Self { descriptors: vec![descriptor] }
    }
}

/// Attaches a program to a raw tracepoint.
///
/// # Errors
/// `ENOENT` if the kernel has none with this name (`bpf_get_raw_tracepoint`, kernel/trace/bpf_trace.c).
pub fn raw_tracepoint(program: BorrowedFd<'_>, name: &str) -> Result<Link, LoadError> {
    let step = || format!("attach to the raw tracepoint {name:?}");
    let name = text(name, step)?;
    sys::raw_tracepoint_open(program, Some(&name)).map(Link::of).map_err(failed(step))
}

/// Attaches a program to what it was loaded for with
/// [`LoadSpec::attach_btf_id`](super::LoadSpec::attach_btf_id): a tracepoint with types, the beginning
/// or the end of a function, an LSM hook.
///
/// # Errors
/// `EBUSY` if another program modifies that function's return value; `EPERM`; `E2BIG` if too many
/// programs are attached there (`bpf_tracing_prog_attach`, kernel/bpf/syscall.c).
pub fn tracing(program: BorrowedFd<'_>) -> Result<Link, LoadError> {
    let step = || "attach to the function that the program was loaded for".to_owned();
    sys::raw_tracepoint_open(program, None).map(Link::of).map_err(failed(step))
}

/// Attaches a program to a cgroup, of which the descriptor is the directory. `attach_type` is an
/// `enum bpf_attach_type`. Programs of others stay attached.
///
/// # Errors
/// `EPERM` if one is attached that wants no others (`cgroup_bpf_attach`, kernel/bpf/cgroup.c);
/// `EINVAL` if the program is of another type; `EBADF` if it is no cgroup.
pub fn cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> Result<Link, LoadError> {
    let step = || "attach to the cgroup".to_owned();
    sys::link_create(program, Target::Descriptor(cgroup), attach_type, 0)
        .map(Link::of)
        .map_err(failed(step))
}

/// Names the step of an error.
fn failed<S: Display>(step: impl Fn() -> S) -> impl Fn(Errno) -> LoadError {
    move |errno| LoadError::new(step().to_string(), errno)
}

/// Text for the kernel.
fn text<S: Display>(text: &str, step: impl Fn() -> S) -> Result<CString, LoadError> {
    CString::new(text).map_err(|_| failed(step)(Errno::INVAL))
}
