//! Starting a process straight into a cgroup.

use std::{
    ffi::CStr,
    fs::File,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
};

use crate::{
    error::{Error, Result, Step as _},
    isolation::Isolation,
    sys,
};

pub use crate::sys::Ended;

/// What to start.
pub struct Request<'a> {
    /// argv, with the program's name; the program is always this one.
    pub arguments: &'a [&'a CStr],
    /// envp.
    pub environment: &'a [&'a CStr],
    /// Descriptors to pass on and the numbers that they get; nothing else is passed on.
    pub descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    /// Namespaces of its own.
    pub isolation: Option<Isolation>,
}

/// A process that was started. Dropping it does not end it.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
}

impl Process {
    /// Its pid in this process's namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Becomes readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If somebody else has waited for it.
    pub fn wait(&self) -> Result<Ended> {
        sys::wait(&self.pidfd).step(|| format!("wait for process {}", self.pid))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        rustix::process::pidfd_send_signal(&self.pidfd, signal)
            .step(|| format!("signal process {}", self.pid))
    }
}

/// Starts `executable`, in `cgroup` if one is given. It is killed when the calling thread ends.
///
/// # Errors
/// If the kernel refuses; in a guarded cgroup also if the executable has no mark.
pub fn spawn(
    cgroup: Option<BorrowedFd<'_>>,
    executable: &File,
    request: &Request<'_>,
) -> Result<Process> {
    let highest = request.descriptors.iter().map(|(_, to)| *to).max().unwrap_or(2);
    let mut lifted = Vec::with_capacity(request.descriptors.len());
    for (from, to) in request.descriptors {
        let fd = sys::lift(*from, highest).step(|| "duplicate a descriptor".into())?;
        lifted.push((fd, *to));
    }
    let descriptors: Vec<(RawFd, RawFd)> =
        lifted.iter().map(|(from, to)| (from.as_raw_fd(), *to)).collect();
    let program = sys::Program {
        executable: executable.as_fd(),
        arguments: request.arguments,
        environment: request.environment,
        descriptors: &descriptors,
        namespaces: request.isolation.as_ref().map_or(0, Isolation::flags),
        ambient: request.isolation.as_ref().map_or(&[], Isolation::ambient),
    };
    let spawned = sys::spawn_into(cgroup, &program, |pid| match &request.isolation {
        Some(isolation) => isolation.map_ids(pid),
        None => Ok(()),
    })
    .map_err(|error| {
        // user_namespaces(7), pid_namespaces(7): the limits of /proc/sys/user.
        let limited = request.isolation.is_some() && error.raw_os_error() == Some(libc::ENOSPC);
        let error = Error::new("start the worker process").because(error);
        if limited {
            error.hint("the host allows no more namespaces: raise the limits user.max_*_namespaces (sysctl)")
        } else {
            error
        }
    })?;
    Ok(Process { pid: spawned.pid, pidfd: spawned.pidfd })
}
