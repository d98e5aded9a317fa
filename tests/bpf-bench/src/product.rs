//! The product's side: a guest in a process of its own, its broker in a thread of this one, and the
//! confined parser in a third.

use std::io::{BufRead as _, BufReader, Lines};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::{FdFlags, fcntl_setfd};
use wasi_guard::program::WorkerProgram;
use wasi_guard::supervisor::ParserProcess;
use wasi_guard_broker::broker::{self, Broker, Guest, Served};
use wasi_guard_broker::protocol::WINDOW;
use wasi_guard_broker::window::Window;
use wasi_guard_channel::Channel;
use wasi_guard_policy::bpf::{Bpf, ProgramKind, Scope};
use wasi_guard_policy::pattern::Pattern;

use crate::guest::ROLE;

/// A guest at work.
pub(crate) struct Tool {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    broker: JoinHandle<Served>,
}

impl Tool {
    /// Starts `bpf_bench` of the guests' folder with these arguments.
    pub(crate) fn start(objects: &Path, guests: &Path, arguments: &[&str]) -> Result<Self> {
        let (ours, theirs) = Channel::pair()?;
        let window = Window::create(WINDOW)?;
        for fd in [theirs.as_fd(), window.as_fd()] {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        let numbers = [theirs.as_raw_fd(), window.as_fd().as_raw_fd()].map(|it| it.to_string());
        let process = Command::new("/proc/self/exe")
            .arg(ROLE)
            .args(numbers)
            .arg(guests.join("bpf_bench.wasm"))
            .arg(objects)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        fcntl_setfd(&window, FdFlags::CLOEXEC)?;
        drop(theirs);
        let mut process = process.context("start the guest's process")?;
        let stdout = process.stdout.take().context("the guest has no output")?;
        // It is a worker under the name of one.
        let program =
            WorkerProgram::open(Path::new("/proc/self/exe")).context("open this program")?;
        let about = Guest { policy: policy(), audit: false, cgroup: None, preopens: Vec::new() };
        let say = |event| eprintln!("bpf-bench: the broker says {event:?}");
        let broker =
            Broker::new(about, Box::new(ParserProcess::new(Arc::new(program))), Box::new(say));
        let broker = thread::spawn(move || broker::serve(broker, &ours, &window));
        Ok(Self { process, lines: BufReader::new(stdout).lines(), broker })
    }

    /// The next line that the guest says.
    pub(crate) fn line(&mut self) -> Result<String> {
        match self.lines.next() {
            Some(line) => line.context("hear from the guest"),
            None => bail!("the guest ended early"),
        }
    }

    /// The numbers of the next line that it says.
    pub(crate) fn numbers<const N: usize>(&mut self) -> Result<[u64; N]> {
        let line = self.line()?;
        let numbers: Vec<u64> = line
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("the guest says {line:?}"))?;
        numbers.try_into().map_err(|_| anyhow::anyhow!("the guest says {line:?}"))
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Result<()> {
        let status = self.process.wait()?;
        ensure!(status.success(), "the guest's process ended with {status}");
        match self.broker.join() {
            Ok(Served::Gone) => Ok(()),
            other => bail!("the broker ended with {other:?}"),
        }
    }
}

/// What the objects need.
fn policy() -> Bpf {
    Bpf {
        scope: Scope::Host,
        programs: [ProgramKind::Tracepoint].into(),
        tracepoints: vec![Pattern::everything()],
        ..Bpf::default()
    }
}
