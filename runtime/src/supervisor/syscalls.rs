//! System calls that the worker's seccomp list does not let through: the kernel asks here, the
//! answer is EACCES and a record.
//!
//! Nothing is read but what the kernel has copied: the call's number and its arguments as they are
//! in registers. No pointer is followed, so nothing that the worker does meanwhile counts.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use syscalls::Sysno;
use wasi_guard_policy::Mode;

use super::{Error, sys};
use crate::{
    audit::{Auditor, Syscall, Verdict},
    worker::seccomp,
};

/// No call has such a number.
const NO_NUMBER: usize = usize::MAX;

/// The supervisor's end of a worker's filter.
#[derive(Debug)]
pub struct Syscalls {
    listener: OwnedFd,
    mode: Mode,
    worker: u32,
    loading: bool,
    denied: u64,
    fatal: Option<String>,
    /// Nobody is left who could ask.
    over: bool,
}

impl Syscalls {
    /// Takes over the descriptor that the worker got for its filter.
    #[must_use]
    pub fn new(listener: OwnedFd, mode: Mode, worker: u32) -> Self {
        Self { listener, mode, worker, loading: true, denied: 0, fatal: None, over: false }
    }

    /// The module is loaded: what only its loading needs is denied from here on.
    pub fn loaded(&mut self) {
        self.loading = false;
    }

    /// How many calls were denied, or in audit mode would have been.
    pub fn denied(&self) -> u64 {
        self.denied
    }

    /// The call for which the worker has to end.
    pub fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// What is readable while a call waits. None once nobody is left who could ask: the kernel
    /// says so from the moment at which the worker begins to end (seccomp_notify_poll), long before
    /// it has ended, and whoever went on polling would not wait but spin.
    #[must_use]
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        (!self.over).then(|| self.listener.as_fd())
    }

    /// Answers the calls that wait, `limit` at most. The caller kills the worker if
    /// [`Syscalls::fatal`] says so.
    ///
    /// # Errors
    /// If the kernel cannot be asked; then the worker must not go on.
    pub fn attend(&mut self, limit: usize, auditor: &mut Auditor) -> Result<(), Error> {
        let step = |error: io::Error| Error::step("hear of the worker's system calls", error);
        for _ in 0..limit {
            match asked(&self.listener).map_err(step)? {
                Asked::Yes => {}
                Asked::No => break,
                Asked::NeverAgain => {
                    self.over = true;
                    break;
                }
            }
            match sys::seccomp_receive(&self.listener) {
                Ok(question) => self.answer(&question, auditor).map_err(step)?,
                // Whoever asked was killed meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(step(error)),
            }
        }
        Ok(())
    }

    fn answer(&mut self, question: &sys::Question, auditor: &mut Auditor) -> io::Result<()> {
        let number = usize::try_from(question.number).unwrap_or(NO_NUMBER);
        let call = Sysno::new(number);
        if self.loading && seccomp::may_load(number, &question.arguments) {
            return sys::seccomp_answer(&self.listener, question.id, sys::Answer::Continue);
        }
        let audit = self.mode == Mode::Audit;
        let kill = seccomp::ends(number);
        let name = call
            .map_or_else(|| format!("number {}", question.number), |call| call.name().to_owned());
        self.denied += 1;
        auditor.syscall(&Syscall {
            name: &name,
            arguments: question.arguments,
            verdict: match (audit, kill) {
                (true, _) => Verdict::WouldDeny,
                (false, false) => Verdict::Denied,
                (false, true) => Verdict::Killed,
            },
            process: self.worker,
            thread: question.thread,
        });
        if audit {
            sys::seccomp_answer(&self.listener, question.id, sys::Answer::Continue)
        } else if kill {
            // Without an answer the call never returns; the kill ends the wait.
            self.fatal = Some(name);
            Ok(())
        } else {
            sys::seccomp_answer(&self.listener, question.id, sys::Answer::Errno(libc::EACCES))
        }
    }
}

/// Whether a call waits for its answer.
enum Asked {
    Yes,
    No,
    NeverAgain,
}

fn asked(listener: &OwnedFd) -> io::Result<Asked> {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&at_once)) {
        Ok(_) if fds[0].revents().contains(PollFlags::IN) => Ok(Asked::Yes),
        Ok(_) if fds[0].revents().contains(PollFlags::HUP) => Ok(Asked::NeverAgain),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(Asked::No),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
