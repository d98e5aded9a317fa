//! A process that touches hostile bytes for this one, the compiler's or the parser's of BPF
//! objects: how it is started, and how it ends.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use wasi_guard_enforce::{
    fault,
    isolation::{Identity, Isolation},
    privilege::AsRoot,
    spawn::{self, Ended, Process},
};

use crate::compile::worker_command;
use crate::program::{BUILD, WorkerProgram};
use crate::protocol::WORKER_NAME;

/// How long a process that has answered may take to end by itself: its own status says more than
/// the signal does.
const PATIENCE: Duration = Duration::from_millis(20);

/// Why it could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct Error {
    /// The cause, one line per level.
    pub(crate) cause: String,
    /// What can be done about it.
    pub(crate) hint: Option<String>,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self { cause: error.to_string(), hint: None }
    }
}

/// Leaves no process behind, whatever happens.
pub(crate) struct Confined(Started);

enum Started {
    Plain(Child),
    Isolated(Process),
}

impl Confined {
    /// Starts `worker` with these descriptors, in the caller's namespaces.
    pub(crate) fn plain(
        worker: &WorkerProgram,
        descriptors: Vec<(OwnedFd, RawFd)>,
    ) -> Result<Self, Error> {
        // The caller's copies of the descriptors go with the command, so that the worker's death
        // is seen.
        let mut command = worker_command(worker.path(), descriptors);
        // Only a crash writes to stdout or stderr, and it must not appear in the guest's output.
        command.stdin(Stdio::null()).stdout(io::stderr()).stderr(Stdio::inherit());
        let child = command.spawn().map_err(|error| Error {
            cause: error.to_string(),
            hint: Some(format!("is {} executable here?", worker.path().display())),
        })?;
        Ok(Self(Started::Plain(child)))
    }

    /// Starts it in namespaces of its own, with no network. There is no way around them: what the
    /// host does not allow is an error.
    pub(crate) fn isolated(
        worker: &WorkerProgram,
        identity: Identity,
        descriptors: Vec<(OwnedFd, RawFd)>,
    ) -> Result<Self, Error> {
        let nothing = File::open("/dev/null")?;
        let stderr = io::stderr();
        let mut given: Vec<(BorrowedFd<'_>, RawFd)> =
            vec![(nothing.as_fd(), libc::STDIN_FILENO), (stderr.as_fd(), libc::STDOUT_FILENO)];
        given.extend(descriptors.iter().map(|(fd, number)| (fd.as_fd(), *number)));
        let name = CString::new(WORKER_NAME).map_err(io::Error::from)?;
        let build = CString::new(BUILD).map_err(io::Error::from)?;
        let environment = fault::environment();
        let environment: Vec<_> = environment.iter().map(CString::as_c_str).collect();
        let request = spawn::Request {
            arguments: &[&name, &build],
            environment: &environment,
            descriptors: &given,
            isolation: Some(Isolation { identity, network: true }),
        };
        // For the maps of ids, which are root's where the executable has file capabilities.
        let _root = AsRoot::enter().map_err(of_enforce)?;
        let process = spawn::spawn(None, worker.file(), &request).map_err(of_enforce)?;
        Ok(Self(Started::Isolated(process)))
    }

    /// After its last answer it has nothing to do any more; if it is hostile, it ends here.
    pub(crate) fn end(&mut self) -> io::Result<ExitStatus> {
        match &mut self.0 {
            Started::Plain(child) => {
                for _ in 0..PATIENCE.as_millis() {
                    if let Some(status) = child.try_wait()? {
                        return Ok(status);
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                child.kill()?;
                child.wait()
            }
            Started::Isolated(process) => {
                if !ends_by_itself(process)? {
                    process.signal(Signal::KILL).map_err(io::Error::other)?;
                }
                process.wait().map(status).map_err(io::Error::other)
            }
        }
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // All of these fail only if the process is gone already.
        match &mut self.0 {
            Started::Plain(child) => {
                let _ = (child.kill(), child.wait());
            }
            Started::Isolated(process) => {
                let _ = (process.signal(Signal::KILL), process.wait());
            }
        }
    }
}

/// Whether it ends while there is patience, whatever signals come meanwhile.
fn ends_by_itself(process: &Process) -> io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::from_borrowed_fd(process.pidfd(), PollFlags::IN)];
        match poll(&mut fds, Some(&limit)) {
            Err(Errno::INTR) => {}
            ended => return Ok(ended? == 1),
        }
    }
}

/// As waitpid(2) tells it.
fn status(ended: Ended) -> ExitStatus {
    ExitStatus::from_raw(match ended {
        Ended::Exited(code) => code << 8,
        Ended::Killed(signal) => signal,
    })
}

fn of_enforce(error: wasi_guard_enforce::Error) -> Error {
    let mut causes = vec![error.to_string()];
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    Error { cause: causes.join("\n"), hint: error.hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_by_the_system() {
        assert_eq!(status(Ended::Exited(3)).code(), Some(3));
        assert_eq!(status(Ended::Killed(libc::SIGSYS)).signal(), Some(libc::SIGSYS));
    }
}
