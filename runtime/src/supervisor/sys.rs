//! The one raw call of the supervisor.
#![allow(unsafe_code, reason = "this module is the room for it")]

use rustix::{
    io,
    thread::{UnshareFlags, unshare_unsafe},
};

/// Gives the calling thread mounts of its own, and a root and working directory of its own.
pub(super) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only CLONE_FILES makes unshare a danger: descriptors would stop to mean the same in
    // all threads. These two flags are about names.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
}
