//! Starting a worker with descriptors at fixed numbers.
#![allow(unsafe_code, reason = "what happens between fork and exec is outside Rust's rules")]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::program::BUILD;
use crate::protocol::WORKER_NAME;

/// A command that starts `executable` as a worker with the given descriptors at the given numbers,
/// in the caller's cgroup. The caller sets the standard streams. The descriptors are closed here
/// when the command is dropped.
#[must_use]
pub fn worker_command(executable: &Path, descriptors: Vec<(OwnedFd, RawFd)>) -> Command {
    let mut command = Command::new(executable);
    command.arg0(WORKER_NAME).arg(BUILD).env_clear();
    for variable in wasi_guard_enforce::fault::environment() {
        let text = OsString::from_vec(variable.into_bytes());
        if let Some((name, value)) = text.to_str().and_then(|text| text.split_once('=')) {
            command.env(name, value);
        }
    }
    let above = descriptors.iter().map(|(_, number)| number + 1).max().unwrap_or(3);
    let mut copies = vec![-1; descriptors.len()];
    let root = rustix::process::geteuid().is_root();
    let prepare = move || {
        // Only root's worker needs any, to become another user. With `no_new_privs` the executable
        // gives none either.
        if !root {
            wasi_guard_enforce::sys::clear_capabilities()?;
        }
        // SAFETY: prctl on integers touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        place(&descriptors, &mut copies, above)
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: `prepare` makes system
    // calls on memory that was allocated before, and allocates nothing itself.
    unsafe { command.pre_exec(prepare) };
    command
}

/// Copies each descriptor to its number. The first copy goes above all numbers, so that no move
/// overwrites the source of a later one.
fn place(descriptors: &[(OwnedFd, RawFd)], copies: &mut [RawFd], above: RawFd) -> io::Result<()> {
    for ((fd, _), copy) in descriptors.iter().zip(copies.iter_mut()) {
        // SAFETY: fcntl and dup2 on integers touch no memory.
        *copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, above) };
        if *copy < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    for ((_, number), copy) in descriptors.iter().zip(copies.iter()) {
        // SAFETY: as above. The numbers may belong to descriptors of this process, but the
        // process is about to become another program.
        if unsafe { libc::dup2(*copy, *number) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
