//! Raw system calls that no safe wrapper offers. The only room of this crate with `unsafe`.
//!
//! Every function here is safe to call with whatever its types allow: lengths are checked here, and
//! not by callers. What bpf(2) gets is `union bpf_attr` as aya's bindings have it, with zeros where
//! nothing is said: a kernel that knows fewer fields takes zeros for absent
//! (`bpf_check_uarg_tail_zero`), one that knows more adds zeros itself.
#![allow(unsafe_code, reason = "this module is the room for it")]

mod link;
mod map;
mod packet;
mod perf;
mod program;

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use rustix::io::Errno;

pub(super) use link::{Target, link_create, raw_tracepoint_open};
pub(super) use map::{RawMap, Shape, possible_cpus};
pub(super) use packet::{bind_to_interface, filter_socket};
pub(super) use perf::{Event, Sampling, perf_enable, perf_event_open, perf_set_program};
pub(super) use program::{btf_load, program_load};

/// An attribute with nothing in it.
fn empty() -> bpf_attr {
    // SAFETY: bpf_attr is a union of structs of integers, for which zeros are a value.
    unsafe { std::mem::zeroed() }
}

/// A descriptor as attributes have it.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Where bytes begin, as attributes have it; null if there are none: of a map without keys the
/// kernel insists on that (`__bpf_copy_key`, kernel/bpf/syscall.c).
fn address(bytes: &[u8]) -> u64 {
    if bytes.is_empty() { 0 } else { bytes.as_ptr() as u64 }
}

/// [`address`] of bytes that the kernel writes.
fn address_mut(bytes: &mut [u8]) -> u64 {
    if bytes.is_empty() { 0 } else { bytes.as_mut_ptr() as u64 }
}

/// bpf(2).
///
/// # Safety
/// Every address in the attribute must be null or point to memory that is valid for as many bytes
/// as the command reads or writes there.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> Result<libc::c_long, Errno> {
    let size = size_of::<bpf_attr>();
    // SAFETY: the attribute is valid for `size` bytes; for its addresses the caller vouches.
    answer(unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size) })
}

/// bpf(2) with a command that answers with a new descriptor.
///
/// # Safety
/// That of [`bpf`], and the command must be such a one.
unsafe fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller vouches for the addresses, and for the kind of the command.
    unsafe { owned(bpf(command, attr)?) }
}

/// What a system call answered.
fn answer(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Takes a descriptor that a system call gave. The kernel's BPF and perf descriptors close on exec
/// (`O_CLOEXEC` in `bpf_map_new_fd`, `bpf_prog_new_fd`, `bpf_link_prime`, `__btf_new_fd`).
///
/// # Safety
/// It must be a new descriptor that nobody else owns.
unsafe fn owned(fd: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the caller vouches for it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
