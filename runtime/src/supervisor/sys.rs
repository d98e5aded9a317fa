//! The raw calls of the supervisor.
#![allow(unsafe_code, reason = "this module is the room for it")]

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives the calling thread mounts of its own, and a root and working directory of its own.
pub(super) fn unshare_mounts() -> rustix::io::Result<()> {
    // SAFETY: only CLONE_FILES makes unshare a danger: descriptors would stop to mean the same in
    // all threads. These two flags are about names.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
}

/// A system call that waits for the supervisor's answer.
#[derive(Debug)]
pub(super) struct Question {
    /// The kernel's number for this question.
    pub(super) id: u64,
    /// The thread, in this process's pid namespace.
    pub(super) thread: u32,
    /// The number of the call.
    pub(super) number: i32,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

/// What a system call that waits gets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// It fails with this errno.
    Errno(i32),
    /// The kernel does it.
    Continue,
}

/// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND` (uapi/linux/seccomp.h): with the sizes
/// of the structures in them, so that a kernel with others refuses.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const _: () = assert!(size_of::<libc::seccomp_notif>() == 0x50);
const _: () = assert!(size_of::<libc::seccomp_notif_resp>() == 0x18);

/// Waits for the next system call at a filter's descriptor.
///
/// # Errors
/// `ENOENT` if the one that waited is gone.
pub(super) fn seccomp_receive(listener: &OwnedFd) -> io::Result<Question> {
    // SAFETY: a structure of integers, for which zeros are valid; the kernel wants zeros.
    let mut notif: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one structure of the size that the request names (asserted above).
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notif) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Question {
        id: notif.id,
        thread: notif.pid,
        number: notif.data.nr,
        arguments: notif.data.args,
    })
}

/// Answers it. One that is gone is no error.
///
/// # Errors
/// Of the ioctl.
pub(super) fn seccomp_answer(listener: &OwnedFd, id: u64, answer: Answer) -> io::Result<()> {
    let (error, flags) = match answer {
        Answer::Errno(errno) => (-errno, 0),
        Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let mut response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the kernel reads one structure of the size that the request names (asserted above).
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw mut response) };
    match io::Error::last_os_error() {
        _ if result >= 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}
