//! Raw system calls that no safe wrapper offers. The only room of this crate with `unsafe`.
#![allow(unsafe_code, reason = "this module is the room for it")]

mod apart;
#[cfg(feature = "test-faults")]
mod fault;
mod map;

pub(crate) use apart::Apart;
#[cfg(feature = "test-faults")]
pub(crate) use fault::kill_myself;
pub(crate) use map::{has_key, map_delete};

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// What a new process gets.
pub struct Program<'a> {
    /// The executable.
    pub executable: BorrowedFd<'a>,
    /// argv, with the program's name.
    pub arguments: &'a [&'a CStr],
    /// envp.
    pub environment: &'a [&'a CStr],
    /// Descriptors of this process and the numbers that they have in the new one. The numbers
    /// are distinct; the descriptors are above all of them.
    pub descriptors: &'a [(RawFd, RawFd)],
    /// `CLONE_NEW*`: namespaces that it gets for itself.
    pub namespaces: u64,
    /// Capabilities that it has at its start although its user is not root: it must have them in
    /// its user namespace.
    pub ambient: &'a [u32],
}

/// A new process.
pub struct Spawned {
    /// Its pid.
    pub pid: u32,
    /// A descriptor that becomes readable when it ends.
    pub pidfd: OwnedFd,
}

/// `struct clone_args` (uapi/linux/sched.h), version 2: with `cgroup`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` (uapi/linux/sched.h); libc's constant is cut to 32 bits.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The first descriptor after stdio.
const FIRST_GIVEN: RawFd = 3;
/// Exit status of a new process that never came to run its program; the reason is the errno
/// that went through the pipe.
const NOT_STARTED: i32 = 127;

/// Starts `program` as a child that is a member of `cgroup` from its first instruction, and
/// that is killed when the calling thread ends. `prepare` is called with the child's pid before
/// `program` runs.
///
/// # Errors
/// The errno of clone3, or of what the child did before and with execveat; or the error of
/// `prepare`, and then the child has ended.
pub fn spawn_into(
    cgroup: Option<BorrowedFd<'_>>,
    program: &Program<'_>,
    prepare: impl FnOnce(u32) -> io::Result<()>,
) -> io::Result<Spawned> {
    let argv = pointers(program.arguments);
    let envp = pointers(program.environment);
    // Every number that the child gives out must be free of descriptors it still needs.
    let highest = program.descriptors.iter().map(|(_, to)| *to).max().unwrap_or(2);
    let (reader, writer) = {
        let (reader, writer) = pipe()?;
        // The first writer must go, or the pipe never ends.
        (reader, above(&writer, highest)?)
    };
    let executable = above_fd(program.executable, highest)?;
    // The child waits here for the parent's word. If the parent is gone, the pipe is at its end.
    let (gate, opener) = {
        let (gate, opener) = pipe()?;
        (above(&gate, highest)?, above(&opener, highest)?)
    };

    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64 | program.namespaces,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the arguments are a valid clone_args of the size given. Without CLONE_VM the
    // child has its own copy of memory, and between here and execveat it makes only
    // async-signal-safe calls on memory prepared above.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        let gate = (gate.as_raw_fd(), opener.as_raw_fd());
        // SAFETY: see above; the function does not return.
        unsafe { child(gate, program, &executable, &argv, &envp, &writer) }
    }
    drop((writer, gate));
    // SAFETY: clone3 has put a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let prepared = prepare(pid as u32).and_then(|()| Ok(rustix::io::write(&opener, b"!")?));
    // Without a word before it, this ends the child.
    drop(opener);
    if let Err(error) = prepared {
        reap(&pidfd);
        return Err(error);
    }
    let mut errno = [0u8; 4];
    let got = loop {
        match rustix::io::read(&reader, &mut errno) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    if got == 0 {
        // The pipe closed with execveat: the program runs.
        return Ok(Spawned { pid: pid as u32, pidfd });
    }
    reap(&pidfd);
    Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
}

fn pointers(strings: &[&CStr]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

fn above(fd: &OwnedFd, floor: RawFd) -> io::Result<OwnedFd> {
    above_fd(std::os::fd::AsFd::as_fd(fd), floor)
}

/// A duplicate with a number above `floor`, closed on exec.
fn above_fd(fd: BorrowedFd<'_>, floor: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, floor + 1)?)
}

/// A duplicate whose number lies above what [`Program::descriptors`] may give out.
///
/// # Errors
/// Of `fcntl(F_DUPFD_CLOEXEC)`.
pub fn lift(fd: BorrowedFd<'_>, floor: RawFd) -> io::Result<OwnedFd> {
    above_fd(fd, floor)
}

/// # Safety
/// Runs in a child of clone3 without `CLONE_VM`; all pointers are valid.
unsafe fn child(
    (gate, opener): (RawFd, RawFd),
    program: &Program<'_>,
    executable: &OwnedFd,
    argv: &[*const libc::c_char],
    envp: &[*const libc::c_char],
    report: &OwnedFd,
) -> ! {
    // SAFETY: system calls on plain numbers and on memory that outlives them; the caller
    // guarantees the rest.
    unsafe {
        let failed = 'run: {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                break 'run *libc::__errno_location();
            }
            // The parent may have died before the line above: then nobody opens the gate.
            libc::close(opener);
            let mut word = 0u8;
            loop {
                match libc::read(gate, (&raw mut word).cast(), 1) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    _ => break 'run libc::ESRCH,
                }
            }
            // Nothing may cross but stdio and what is handed out below.
            if libc::syscall(
                libc::SYS_close_range,
                FIRST_GIVEN as libc::c_uint,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            ) != 0
            {
                break 'run *libc::__errno_location();
            }
            if !program.ambient.is_empty() && !keep(program.ambient) {
                break 'run *libc::__errno_location();
            }
            for &(from, to) in program.descriptors {
                if libc::dup2(from, to) < 0 {
                    break 'run *libc::__errno_location();
                }
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE] {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::syscall(
                libc::SYS_execveat,
                executable.as_raw_fd(),
                c"".as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            *libc::__errno_location()
        };
        let bytes = failed.to_ne_bytes();
        libc::write(report.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        libc::_exit(NOT_STARTED)
    }
}

/// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct`
/// (uapi/linux/capability.h), version 3.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Keeps these capabilities through execve: inheritable and ambient (capabilities(7)). Sets errno if
/// it answers false.
///
/// # Safety
/// Async-signal-safe: system calls on memory of this frame.
unsafe fn keep(capabilities: &[u32]) -> bool {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData::default(); 2];
    // SAFETY: header and data have the layout that version 3 has, and are valid to read and write.
    unsafe {
        if libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) != 0 {
            return false;
        }
        for part in &mut data {
            part.inheritable = part.permitted;
        }
        if libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) != 0 {
            return false;
        }
        capabilities.iter().all(|capability| {
            let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
            libc::prctl(libc::PR_CAP_AMBIENT, raise, libc::c_ulong::from(*capability), 0, 0) == 0
        })
    }
}

/// Waits for the child behind `pidfd` and forgets how it ended.
fn reap(pidfd: &OwnedFd) {
    // An error means that there is nothing left to wait for.
    let _ = wait(pidfd);
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// Waits until the child behind `pidfd` has ended.
///
/// # Errors
/// Of waitid(2).
pub fn wait(pidfd: &OwnedFd) -> io::Result<Ended> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    loop {
        match waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(pidfd)), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(None) => return Err(io::ErrorKind::WouldBlock.into()),
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Ended::Exited(code),
                    (None, Some(signal)) => Ended::Killed(signal),
                    (None, None) => Ended::Killed(0),
                });
            }
        }
    }
}

/// Gives up all capabilities of this thread but the bounding set. Async-signal-safe.
///
/// # Errors
/// Of capset(2).
pub fn clear_capabilities() -> io::Result<()> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapData::default(); 2];
    // SAFETY: header and data have the layout that version 3 has, and are valid to read.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, none.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// This thread's user and group id for files.
pub(crate) fn file_ids() -> (u32, u32) {
    // SAFETY: plain numbers. No id is -1, so these calls change nothing and answer what is.
    unsafe {
        (
            libc::syscall(libc::SYS_setfsuid, u32::MAX) as u32,
            libc::syscall(libc::SYS_setfsgid, u32::MAX) as u32,
        )
    }
}

/// Changes this thread's user and group id for files.
///
/// # Errors
/// `EPERM` if they are not these afterwards.
pub(crate) fn set_file_ids(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: plain numbers; the calls answer with the ids before, whatever happened.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, group);
        libc::syscall(libc::SYS_setfsuid, user);
    }
    if file_ids() == (user, group) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// The leading fields of `union bpf_attr` for `BPF_MAP_CREATE` (uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

/// `BPF_MAP_CREATE` and `BPF_MAP_TYPE_HASH_OF_MAPS` (uapi/linux/bpf.h).
const BPF_MAP_CREATE: libc::c_long = 0;
const HASH_OF_MAPS: u32 = 13;

/// Creates a hash map of maps like `template`, with keys of eight bytes. aya makes such maps only
/// together with an object, and then with a template that carries BTF: kernels before 6.2 take
/// no inner map without the same BTF, which a later start does not have.
///
/// # Errors
/// Of bpf(2).
pub fn hash_of_maps(name: &str, max_entries: u32, template: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        map_type: HASH_OF_MAPS,
        key_size: 8,
        value_size: 4,
        max_entries,
        inner_map_fd: template.as_raw_fd() as u32,
        ..MapCreate::default()
    };
    // The last byte stays zero.
    for (to, from) in attr.map_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the attribute is a valid prefix of union bpf_attr, of the size given.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw mut attr, size_of::<MapCreate>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
