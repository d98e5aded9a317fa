//! `bpf(2)` that attaches programs.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use aya_obj::generated::bpf_cmd;
use rustix::io::Errno;

use super::{bpf_fd, empty, number};

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) enum Target<'a> {
    /// A perf event or a cgroup.
    Descriptor(BorrowedFd<'a>),
    /// A network interface by its number.
    Interface(u32),
}

/// `BPF_LINK_CREATE`: attaches a program for as long as the descriptor lives.
pub(in crate::kernel) fn link_create(
    program: BorrowedFd<'_>,
    target: Target<'_>,
    attach_type: u32,
    flags: u32,
) -> Result<OwnedFd, Errno> {
    let mut attr = empty();
    attr.link_create.__bindgen_anon_1.prog_fd = number(program);
    match target {
        Target::Descriptor(fd) => attr.link_create.__bindgen_anon_2.target_fd = number(fd),
        Target::Interface(index) => attr.link_create.__bindgen_anon_2.target_ifindex = index,
    }
    attr.link_create.attach_type = attach_type;
    attr.link_create.flags = flags;
    // SAFETY: there is no address in the attribute, and the command gives a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr) }
}

/// `BPF_RAW_TRACEPOINT_OPEN`: of a raw tracepoint by its name; without one, of that which the
/// program was loaded for (`bpf_raw_tp_link_attach`, kernel/bpf/syscall.c).
pub(in crate::kernel) fn raw_tracepoint_open(
    program: BorrowedFd<'_>,
    name: Option<&CStr>,
) -> Result<OwnedFd, Errno> {
    let mut attr = empty();
    attr.raw_tracepoint.prog_fd = number(program);
    attr.raw_tracepoint.name = name.map_or(0, |name| name.as_ptr() as u64);
    // SAFETY: the kernel reads the name to its NUL, and the command gives a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr) }
}
