//! Runs one command: output live to the host, status at the end, orphans reaped.

use std::fs::File;
use std::io::{PipeReader, Read, Write, pipe};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus, wait};
use wasi_guard_vm_agent::Frame;

/// Waits for every child of process 1, the commands and the orphans, as soon as they end:
/// zombies would count in `pids.current` of the cgroups under test.
pub(crate) struct Reaper {
    /// Tells the thread that there is a child again.
    spawned: Sender<()>,
    /// Process id and status of what ended.
    ended: Receiver<(i32, WaitStatus)>,
    /// One byte for each entry of `ended`, so that it can be polled for.
    wake: PipeReader,
}

impl Reaper {
    /// Starts the thread that waits.
    pub(crate) fn start() -> Result<Self> {
        let (spawned, has_child) = channel::<()>();
        let (report, ended) = channel();
        let (wake, mut waker) = pipe().context("cannot make a pipe")?;
        thread::spawn(move || {
            loop {
                match wait(WaitOptions::empty()) {
                    Ok(Some((pid, status))) => {
                        let told = report.send((pid.as_raw_nonzero().get(), status)).is_ok();
                        if !told || waker.write_all(b".").is_err() {
                            return;
                        }
                    }
                    Ok(None) | Err(rustix::io::Errno::INTR) => {}
                    // ECHILD. Without a child there is no other process in this machine, thus no
                    // orphan before the next command.
                    Err(_) => {
                        if has_child.recv().is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Self { spawned, ended, wake })
    }

    /// The status of `pid` if it ended; to be called when `wake` is readable.
    fn status_of(&self, pid: i32) -> Result<Option<u32>> {
        (&self.wake).read_exact(&mut [0]).context("the thread that waits for children died")?;
        let (ended, status) =
            self.ended.recv().context("the thread that waits for children died")?;
        if ended != pid {
            return Ok(None);
        }
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            // Neither: stopped or continued, which wait without options does not report.
            (None, None) => return Ok(None),
        };
        Ok(Some(code as u32))
    }
}

/// Runs `words` through the shell (so that builtins work and a missing program is status 127),
/// sends its output to the host and returns its status.
pub(crate) fn run(words: &[String], reaper: &Reaper, port: &mut File) -> Result<u32> {
    let (out, out_end) = pipe().context("cannot make a pipe")?;
    let (err, err_end) = pipe().context("cannot make a pipe")?;
    let child = Command::new("/bin/sh")
        .args(["-c", "\"$@\"", "sh"])
        .args(words)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .env("TERM", "dumb")
        .env("USER", "root")
        .current_dir("/root")
        .stdin(Stdio::null())
        .stdout(out_end)
        .stderr(err_end)
        .spawn()
        .context("cannot start /bin/sh")?;
    let pid = child.id() as i32;
    reaper.spawned.send(()).context("the thread that waits for children died")?;

    let mut status = None;
    let mut out = Stream { pipe: Some(out), frame: Frame::Stdout };
    let mut err = Stream { pipe: Some(err), frame: Frame::Stderr };
    loop {
        // Ended streams are left out: a pipe without writers would end every poll at once.
        let mut fds = vec![PollFd::new(&reaper.wake, PollFlags::IN)];
        fds.extend(out.pipe.iter().chain(&err.pipe).map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        // After the end of the command take what is in the pipes, then stop: a process that it
        // left behind may hold them open for ever.
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, status.is_some().then_some(&no_wait)).context("cannot poll")?;
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let ended = ready.next() == Some(true);
        let from_out = out.pipe.is_some() && ready.next() == Some(true);
        let from_err = err.pipe.is_some() && ready.next() == Some(true);
        if from_out {
            out.forward(port)?;
        }
        if from_err {
            err.forward(port)?;
        }
        if ended {
            status = reaper.status_of(pid)?.or(status);
        } else if let Some(status) = status
            && !from_out
            && !from_err
        {
            return Ok(status);
        }
    }
}

/// One output stream of a command.
struct Stream {
    /// None after its end.
    pipe: Option<PipeReader>,
    frame: fn(Vec<u8>) -> Frame,
}

impl Stream {
    /// Sends what is in the pipe, at most one buffer; to be called when it is readable.
    fn forward(&mut self, port: &mut File) -> Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut buffer = vec![0; 64 * 1024];
        let length = pipe.read(&mut buffer).context("cannot read a command's output")?;
        if length == 0 {
            self.pipe = None;
            return Ok(());
        }
        buffer.truncate(length);
        (self.frame)(buffer).write_to(port).context("cannot reach the host")
    }
}
