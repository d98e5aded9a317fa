//! The actor: this program once more, in a process of its own, doing what it is told.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair, sockopt,
};
use wasi_guard_enforce::{
    guest::Guest,
    spawn::{self, Ended, Process, Request},
};

use crate::{
    operation::{Answer, Do},
    perform::{FIRST_HANDLE, perform},
    sys,
};

/// argv[0] of an actor.
const NAME: &CStr = c"actor";
/// The actor's end of the control socket.
const CONTROL: i32 = 3;
/// Longest message.
const MESSAGE: usize = 128 * 1024;
/// How long an answer may take, under emulation too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Serves and returns true if this process was started as an actor; `main` calls it first.
///
/// # Errors
/// If the other end sends what is no message.
pub fn serve_if_asked() -> Result<bool> {
    let name = std::env::args_os().next().unwrap_or_default();
    if name == "true" {
        return Ok(true);
    }
    if name.as_encoded_bytes() != NAME.to_bytes() {
        return Ok(false);
    }
    let control = sys::inherited(CONTROL)?;
    let mut buffer = vec![0; MESSAGE];
    loop {
        let (length, _) = rustix::net::recv(control, &mut buffer[..], RecvFlags::empty())?;
        if length == 0 {
            return Ok(true);
        }
        let operation: Do = postcard::from_bytes(&buffer[..length])?;
        let answer = postcard::to_stdvec(&perform(&operation))?;
        rustix::net::send(control, &answer, SendFlags::NOSIGNAL)?;
    }
}

/// An actor, seen from the suite. Dropping it ends it.
pub struct Actor {
    process: Process,
    control: OwnedFd,
}

impl Actor {
    /// Starts an actor in `guest`'s cgroup, with these handles.
    ///
    /// # Errors
    /// If the kernel refuses, or the actor does not answer.
    pub fn inside(guest: &mut Guest, handles: &[(BorrowedFd<'_>, u8)]) -> Result<Self> {
        Self::start(handles, |request| guest.spawn(request))
    }

    /// Starts an actor that nothing guards.
    ///
    /// # Errors
    /// If the kernel refuses, or the actor does not answer.
    pub fn outside(handles: &[(BorrowedFd<'_>, u8)]) -> Result<Self> {
        let executable = own_program()?;
        Self::start(handles, |request| spawn::spawn(None, &executable, request))
    }

    fn start(
        handles: &[(BorrowedFd<'_>, u8)],
        spawn: impl FnOnce(&Request<'_>) -> wasi_guard_enforce::Result<Process>,
    ) -> Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .context("make a control socket")?;
        sockopt::set_socket_timeout(&ours, sockopt::Timeout::Recv, Some(PATIENCE))?;
        let mut descriptors = vec![(theirs.as_fd(), CONTROL)];
        for (fd, handle) in handles {
            descriptors.push((*fd, FIRST_HANDLE + i32::from(*handle)));
        }
        let backtrace = CString::new("RUST_BACKTRACE=0")?;
        let request = Request {
            arguments: &[NAME],
            environment: &[&backtrace],
            descriptors: &descriptors,
            isolation: None,
        };
        let process = spawn(&request).map_err(describe).context("start an actor")?;
        drop(descriptors);
        drop(theirs);
        let actor = Self { process, control: ours };
        match actor.ask(&Do::Nothing).context("wait for the actor's first answer")? {
            Answer::Done(_) => Ok(actor),
            other => bail!("the actor's first answer is {other:?}"),
        }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Asks without waiting for the answer.
    ///
    /// # Errors
    /// If the actor is gone.
    pub fn tell(&self, operation: &Do) -> Result<()> {
        let bytes = postcard::to_stdvec(operation)?;
        rustix::net::send(&self.control, &bytes, SendFlags::NOSIGNAL)
            .with_context(|| format!("tell the actor {operation:?}"))?;
        Ok(())
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// If the actor is gone, or says nothing for two minutes.
    pub fn answer(&self) -> Result<Answer> {
        self.received(RecvFlags::empty())?.ok_or_else(|| anyhow!("the actor is silent"))
    }

    /// The next answer if it is there.
    ///
    /// # Errors
    /// If the actor is gone.
    pub fn answered(&self) -> Result<Option<Answer>> {
        self.received(RecvFlags::DONTWAIT)
    }

    fn received(&self, flags: RecvFlags) -> Result<Option<Answer>> {
        let mut buffer = vec![0; MESSAGE];
        match rustix::net::recv(&self.control, &mut buffer[..], flags) {
            Ok((0, _)) => bail!("the actor is gone"),
            Ok((length, _)) => Ok(Some(postcard::from_bytes(&buffer[..length])?)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error).context("hear the actor"),
        }
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// If the actor is gone, or says nothing for two minutes.
    pub fn ask(&self, operation: &Do) -> Result<Answer> {
        self.tell(operation)?;
        self.answer().with_context(|| format!("after {operation:?}"))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If somebody else has waited for it.
    pub fn wait(&self) -> Result<Ended> {
        self.process.wait().map_err(describe)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have ended, and then there is nothing left to do.
        let _ = self.process.signal(rustix::process::Signal::KILL);
        let _ = self.process.wait();
    }
}

/// The crate's error with its hint and its details, which a report of a failed test needs.
pub fn describe(error: wasi_guard_enforce::Error) -> anyhow::Error {
    let mut text = String::new();
    for part in [&error.hint, &error.details].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(part);
    }
    let outer = format!("{error}{text}");
    match error.source {
        Some(source) => anyhow!("{outer}: {source}"),
        None => anyhow!(outer),
    }
}

/// This program, which is started again in guarded cgroups.
///
/// # Errors
/// If it cannot be opened.
pub fn own_program() -> Result<File> {
    File::open("/proc/self/exe").context("open /proc/self/exe")
}
