//! The raw calls of a worker: taking over inherited descriptors, loading compiled code.
#![allow(unsafe_code, reason = "the worker's one room for raw calls")]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::protocol::Identity;

/// Takes over a descriptor that this process was started with, and makes it close-on-exec. The
/// caller takes each number once.
///
/// # Errors
/// `EBADF` if it is not open.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD takes an integer and touches no memory; a number that is not open is
    // answered with EBADF.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open. It was inherited through exec, so nothing in this process
    // owns it yet, and the protocol's numbers are pairwise different and taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether the executable of this process gives rights, as file capabilities do (`AT_SECURE`,
/// getauxval(3)), be it that the process could take them or not.
pub fn is_secure() -> bool {
    // SAFETY: reads the vector that the kernel has put on the stack; no preconditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Becomes `identity` for everything that this thread and those that it will start do. The caller
/// has given the calls that change ids their rights (`CAP_SETUID`, `CAP_SETGID`) unless nothing is
/// to change.
///
/// # Errors
/// If an id is not as it should be afterwards.
pub fn become_user(identity: &Identity) -> io::Result<()> {
    let Identity { user, group, file_user, file_group } = *identity;
    // SAFETY: plain numbers; these calls touch no memory. The raw calls, because the C library's
    // ask all threads of a process, and here is only one yet.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setresgid, group, group, group),
            libc::syscall(libc::SYS_setfsgid, file_group),
            libc::syscall(libc::SYS_setresuid, user, user, user),
            libc::syscall(libc::SYS_setfsuid, file_user),
        ]
    };
    // setfsuid and setfsgid answer with the id before, whatever happened.
    if results[0] < 0 || results[2] < 0 {
        return Err(io::Error::last_os_error());
    }
    let found = who_am_i()?;
    if found == ([user; 3], [group; 3], *identity) {
        Ok(())
    } else {
        Err(io::Error::other(format!("the kernel says {found:?}")))
    }
}

/// Real, effective and saved user and group ids, and the ids for files.
fn who_am_i() -> io::Result<([u32; 3], [u32; 3], Identity)> {
    let (mut users, mut groups) = ([0; 3], [0; 3]);
    let ([r, e, s], [rg, eg, sg]) = (&mut users, &mut groups);
    // SAFETY: six places for an id each, all of them distinct and valid to write.
    let failed = unsafe { libc::getresuid(r, e, s) != 0 || libc::getresgid(rg, eg, sg) != 0 };
    if failed {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain numbers. No id is -1, so this changes nothing and answers what is.
    let (file_user, file_group) = unsafe {
        (libc::syscall(libc::SYS_setfsuid, u32::MAX), libc::syscall(libc::SYS_setfsgid, u32::MAX))
    };
    let [user, group] = [users[0], groups[0]];
    let (file_user, file_group) = (file_user as u32, file_group as u32);
    Ok((users, groups, Identity { user, group, file_user, file_group }))
}

/// Closes every descriptor above 2 whose number is not in `keep`.
///
/// # Errors
/// If the kernel has no `close_range` (Linux 5.9).
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if first < fd {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd.saturating_add(1));
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: called before anything but `take` has opened or owns a descriptor, and what was
    // taken is kept by the caller: no owner's descriptor is closed behind its back.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Installs a seccomp filter for this thread and those that it will start, with a descriptor at
/// which the kernel asks about calls that the filter wants to have asked about.
///
/// # Errors
/// Of seccomp(2): an older kernel than 5.19, or another filter with such a descriptor.
pub fn filter_with_listener(program: &[seccompiler::sock_filter]) -> io::Result<OwnedFd> {
    /// A caller whose question was read waits for the answer, whatever signals come.
    const WAIT_KILLABLE: libc::c_ulong = 1 << 5;
    let length = libc::c_ushort::try_from(program.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program is as long as it says and is only read; seccompiler's instruction has
    // the layout of the kernel's (both are `repr(C)` with the fields of uapi/linux/filter.h).
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE,
            &raw const program,
        )
    };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a compiled core module.
///
/// # Errors
/// If wasmtime does not accept it: other version, options or CPU, or damaged.
pub fn load_module(engine: &Engine, file: File) -> wasmtime::Result<Module> {
    let copy = file.try_clone()?;
    // SAFETY: wasmtime runs the artifact's code, so it must be its own work and must not change
    // while it is mapped. It comes from our compile process through a sealed memfd, or from the
    // cache, whose checksum was compared and whose directory no guest can write. If it is hostile
    // all the same, it meets what a hostile guest that broke out would meet: this process holds no
    // right beyond the guest's policy.
    let mapped = unsafe { Module::deserialize_open_file(engine, file) };
    mapped.or_else(|_| {
        // A file system mounted noexec refuses executable mappings of its files; memory does not.
        let bytes = read(copy)?;
        // SAFETY: as above; the bytes are a private copy.
        unsafe { Module::deserialize(engine, bytes) }
    })
}

/// Loads a compiled component.
///
/// # Errors
/// As [`load_module`].
pub fn load_component(engine: &Engine, file: File) -> wasmtime::Result<Component> {
    let bytes = read(file)?;
    // SAFETY: as in `load_module`; the bytes are a private copy.
    unsafe { Component::deserialize(engine, bytes) }
}

/// Loads a core module that this process compiled itself.
///
/// # Errors
/// As [`load_module`].
pub fn load_module_bytes(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Module> {
    // SAFETY: the bytes are wasmtime's own work, made in this process a moment ago.
    unsafe { Module::deserialize(engine, bytes) }
}

/// Loads a component that this process compiled itself.
///
/// # Errors
/// As [`load_module`].
pub fn load_component_bytes(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are wasmtime's own work, made in this process a moment ago.
    unsafe { Component::deserialize(engine, bytes) }
}

/// Asks whether a signal may go to the main thread of `process`: signal 0, which is checked like
/// any other and then not sent.
///
/// # Errors
/// What the kernel answers.
#[cfg(test)]
pub(crate) fn try_signal(process: u32) -> io::Result<()> {
    // SAFETY: tgkill takes three integers and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, process, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A call of the x32 interface: getpid.
///
/// # Errors
/// What the kernel answers.
#[cfg(test)]
pub(crate) fn try_x32() -> io::Result<()> {
    // SAFETY: getpid takes nothing and touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_getpid | 0x4000_0000) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn read(mut file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
