//! Plays the supervisor for a worker, on a machine without BPF: the canary is denied by the file's
//! mode instead, and the worker has no capability that would let it pass.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;
use wasi_guard::audit::{About, Auditor, Sink};
use wasi_guard::cache::Cache;
use wasi_guard::compile::{self, Artifact, Request, Source, worker_command};
use wasi_guard::program::WorkerProgram;
use wasi_guard::protocol::{
    CONFIG_FD, CONTROL_FD, Canary, Channel, ChannelError, FIRST_FD, FromWorker, Kind, Mode,
    Preopen, Role, RunConfig, ToWorker, WorkerConfig, check_options,
};
use wasi_guard::supervisor::syscalls::Syscalls;
use wasi_guard_enforce::isolation::Identity;

pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_wasi-guard-worker");
/// Environment variable with a program to start in place of [`EXECUTABLE`]: see `rows`.
pub(crate) const INSTEAD: &str = "WASI_GUARD_TEST_WORKER";

/// What is started as a worker.
pub(crate) fn worker() -> WorkerProgram {
    let path = std::env::var_os(INSTEAD).map_or_else(|| EXECUTABLE.into(), PathBuf::from);
    WorkerProgram::open(&path).unwrap()
}

pub(crate) const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

/// A run to be.
pub(crate) struct Run {
    pub(crate) module: Vec<u8>,
    pub(crate) args: Vec<&'static str>,
    pub(crate) env: Vec<(&'static str, &'static str)>,
    pub(crate) options: Vec<&'static str>,
    pub(crate) preopens: Vec<(std::path::PathBuf, &'static str)>,
    pub(crate) stdin: &'static str,
    pub(crate) time: Option<u64>,
    pub(crate) fuel: Option<u64>,
    pub(crate) memory: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) mode: Mode,
    /// The canary can be opened, as if nothing enforced the policy.
    pub(crate) dead_canary: bool,
    /// Leave the artifact as it is, but tell the worker it is the other kind.
    pub(crate) wrong_kind: bool,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) messages: Vec<FromWorker>,
    /// System calls that seccomp did not let through.
    pub(crate) denied: Vec<String>,
}

/// What a worker said, and what it was not let do.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) messages: Vec<FromWorker>,
    pub(crate) denied: Vec<String>,
}

impl Outcome {
    /// The exit code; and nothing of what the worker did on its way was denied by seccomp.
    #[track_caller]
    pub(crate) fn code(&self) -> i32 {
        assert!(self.denied.is_empty(), "calls without a row: {self:?}");
        self.status.code().unwrap_or_else(|| panic!("killed: {self:?}"))
    }
}

impl Run {
    pub(crate) fn new(module: impl AsRef<[u8]>) -> Self {
        Self {
            module: module.as_ref().to_vec(),
            args: vec!["app.wasm"],
            env: Vec::new(),
            options: Vec::new(),
            preopens: Vec::new(),
            stdin: "",
            time: None,
            fuel: None,
            memory: None,
            open_files: None,
            mode: Mode::Enforce,
            dead_canary: false,
            wrong_kind: false,
        }
    }

    /// Compiles and runs.
    pub(crate) fn go(&self) -> Outcome {
        let artifact = self.compile(None).unwrap();
        self.go_with(&artifact.file, artifact.kind)
    }

    pub(crate) fn compile(&self, cache: Option<&Cache>) -> Result<Artifact, compile::Error> {
        let options = check_options(&self.options()).unwrap();
        let request = Request {
            name: "app.wasm",
            options: &options,
            fuel: self.fuel.is_some(),
            epochs: self.time.is_some() || options.timeout().is_some(),
            target: None,
            isolated: None,
            worker: &worker(),
        };
        let mut source = Source::read(file_with(&self.module))?;
        compile::obtain(&mut source, &request, cache)
    }

    fn options(&self) -> Vec<String> {
        self.options.iter().map(|&option| option.to_owned()).collect()
    }

    pub(crate) fn go_with(&self, artifact: &File, kind: Kind) -> Outcome {
        let talk = match self.mode {
            Mode::Enforce => supervise,
            Mode::Audit => supervise_audit,
        };
        self.go_talking(artifact, kind, talk)
    }

    pub(crate) fn go_talking(
        &self,
        artifact: &File,
        kind: Kind,
        talk: fn(&Channel) -> Said,
    ) -> Outcome {
        let canary = canary(self.dead_canary || self.mode == Mode::Audit);
        let mut descriptors = vec![
            (artifact.try_clone().unwrap().into(), FIRST_FD),
            (File::open(canary.path()).unwrap().into(), FIRST_FD + 1),
        ];
        let mut preopens = Vec::new();
        for (number, (path, guest)) in (FIRST_FD + 2..).zip(&self.preopens) {
            descriptors.push((File::open(path).unwrap().into(), number));
            preopens.push(Preopen { directory: number, guest: (*guest).to_owned() });
        }
        let kind = match (self.wrong_kind, kind) {
            (true, Kind::Module) => Kind::Component,
            (true, Kind::Component) => Kind::Module,
            (false, kind) => kind,
        };
        let config = WorkerConfig::new(Role::Run(RunConfig {
            mode: self.mode,
            identity: Identity::of_guest(1).into(),
            name: "app.wasm".to_owned(),
            kind,
            artifact: FIRST_FD,
            args: self.args.iter().map(|&arg| arg.to_owned()).collect(),
            env: self.env.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
            preopens,
            canary: Canary { directory: FIRST_FD + 1, name: "canary".to_owned() },
            options: self.options(),
            time: self.time,
            open_files: self.open_files,
            fuel: self.fuel,
            memory: self.memory,
            broker: None,
        }));
        descriptors.push((config.to_memfd().unwrap(), CONFIG_FD));
        start(descriptors, self.stdin, talk)
    }
}

/// Starts a worker with these descriptors and a control socket, lets `talk` speak with it.
pub(crate) fn start(
    mut descriptors: Vec<(OwnedFd, i32)>,
    stdin: &str,
    talk: fn(&Channel) -> Said,
) -> Outcome {
    let (channel, theirs) = Channel::pair().unwrap();
    descriptors.push((theirs, CONTROL_FD));
    let mut command = worker_command(worker().path(), descriptors);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut pipe = child.stdin.take().unwrap();
    // A guest may end without reading.
    let _ = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    let Said { messages, denied } = talk(&channel);
    drop(channel);
    let output = child.wait_with_output().unwrap();
    Outcome {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        messages,
        denied,
    }
}

/// The supervisor's part of role Run, without looking at what the worker says.
pub(crate) fn supervise(channel: &Channel) -> Said {
    supervise_in(channel, wasi_guard_policy::Mode::Enforce)
}

fn supervise_audit(channel: &Channel) -> Said {
    supervise_in(channel, wasi_guard_policy::Mode::Audit)
}

fn supervise_in(channel: &Channel, mode: wasi_guard_policy::Mode) -> Said {
    let audit = tempfile::NamedTempFile::new().unwrap();
    let [policy, policy_digest, module, module_digest] = [(); 4].map(|()| String::new());
    let about = About { policy, policy_digest, module, module_digest, mode };
    let mut auditor = Auditor::new(Sink::file(audit.path()).unwrap(), about);
    let mut syscalls: Option<Syscalls> = None;
    let mut messages = Vec::new();
    let mut fatal = false;
    while !fatal {
        let listener = syscalls.as_ref().and_then(Syscalls::listener);
        let mut fds = vec![PollFd::new(channel, PollFlags::IN)];
        fds.extend(listener.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        poll(&mut fds, None).unwrap();
        if fds[0].revents().is_empty() {
            let syscalls = syscalls.as_mut().unwrap();
            syscalls.attend(16, &mut auditor).unwrap();
            fatal = syscalls.fatal().is_some();
            continue;
        }
        match channel.receive_with(PATIENCE) {
            Ok((message, descriptor)) => {
                let answer = match message {
                    FromWorker::Hardened { .. } => Some(ToWorker::Armed),
                    FromWorker::Canary { .. } => Some(ToWorker::Load),
                    FromWorker::Loaded { .. } => Some(ToWorker::Start),
                    _ => None,
                };
                if let Some(listener) = descriptor {
                    syscalls = Some(Syscalls::new(listener, mode, 1));
                }
                if matches!(message, FromWorker::Loaded { .. }) {
                    syscalls.as_mut().unwrap().loaded();
                }
                messages.push(message);
                if let Some(answer) = answer {
                    // The worker may refuse and be gone already.
                    let _ = channel.send(&answer);
                }
            }
            Err(ChannelError::Closed) => break,
            Err(error) => panic!("{error}: {messages:?}"),
        }
    }
    let lines = read(audit.path());
    let name = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["syscall"].as_str().unwrap().to_owned()
    };
    Said { messages, denied: lines.lines().map(name).collect() }
}

fn canary(readable: bool) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("canary");
    std::fs::write(&path, "x").unwrap();
    let mode = if readable { 0o600 } else { 0o000 };
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    directory
}

pub(crate) fn file_with(bytes: &[u8]) -> File {
    use std::io::Seek as _;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}
