//! Taking a descriptor that the caller left open.
#![allow(unsafe_code, reason = "a number from the command line becomes a descriptor")]

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// A close-on-exec copy of the descriptor with this number.
///
/// # Errors
/// If no such descriptor is open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with integers touches no memory; a number that is not open is an error.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
