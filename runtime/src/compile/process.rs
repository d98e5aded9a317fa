//! Starts a worker in role Compile and waits for its artifact.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use wasi_guard_enforce::{
    fault::{self, Point},
    isolation::Identity,
};

use super::{Error, Request, source, sys};
use crate::protocol::{
    CONFIG_FD, CONTROL_FD, Channel, ChannelError, CompileConfig, CompileStep, FIRST_FD, FromWorker,
    Kind, Layers, Role, WorkerConfig,
};

/// Wall time for one module. Its CPU time is limited as well, by the worker itself.
const LIMIT: Duration = Duration::from_secs(1200);
const MODULE: i32 = FIRST_FD;
const OUTPUT: i32 = FIRST_FD + 1;

/// What the worker made.
pub(super) struct Compiled {
    pub(super) file: File,
    pub(super) kind: Kind,
    pub(super) layers: Layers,
    pub(super) imports_checked: bool,
}

pub(super) fn run(module: &File, request: &Request<'_>) -> Result<Compiled, Error> {
    let step = "start the compiler";
    let output = source::memfd("wasi-guard-artifact").map_err(|error| Error::new(step, error))?;
    let config = WorkerConfig::new(Role::Compile(CompileConfig {
        identity: Identity::of_compiler().into(),
        name: request.name.to_owned(),
        module: MODULE,
        output: OUTPUT,
        options: request.options.raw().to_vec(),
        fuel: request.fuel,
        epochs: request.epochs,
        target: request.target.map(str::to_owned),
    }));
    let config = config.to_memfd().map_err(|error| Error::new(step, error))?;
    let (channel, theirs) = Channel::pair().map_err(|error| Error::new(step, error))?;
    let copy = |file: &File| file.try_clone().map(OwnedFd::from);
    let module = copy(module).map_err(|error| Error::new(step, error))?;
    let for_worker = copy(&output).map_err(|error| Error::new(step, error))?;
    let descriptors =
        vec![(theirs, CONTROL_FD), (config, CONFIG_FD), (module, MODULE), (for_worker, OUTPUT)];
    let mut command = sys::worker_command(request.worker, descriptors);
    // Only a crash writes to stdout or stderr, and it must not appear in the guest's output.
    command.stdin(Stdio::null()).stdout(io::stderr()).stderr(Stdio::inherit());
    let child = command.spawn().map_err(|error| Error {
        hint: Some(format!("is {} executable here?", request.worker.display())),
        ..Error::new(step, error)
    })?;
    // Closes our copy of the worker's end of the socket, so that its death is seen.
    drop(command);
    let mut child = Guard(child);
    fault::at(Point::CompilerStarted);
    let answer = listen(&channel);
    let status = child.end();
    finish(answer, status, output)
}

/// The first message that is an answer.
fn listen(channel: &Channel) -> Result<FromWorker, ChannelError> {
    loop {
        match channel.receive(Some(LIMIT))? {
            FromWorker::Hardened { .. } => {}
            answer => return Ok(answer),
        }
    }
}

fn finish(
    answer: Result<FromWorker, ChannelError>,
    status: io::Result<ExitStatus>,
    output: File,
) -> Result<Compiled, Error> {
    let step = CompileStep::Compile.text();
    match answer {
        Ok(FromWorker::Compiled { kind, length, imports_checked, layers }) => {
            let found = source::seal(&output).and_then(|()| output.metadata());
            let found = found.map_err(|error| Error::new(step, error))?.len();
            if found != length || length == 0 {
                let cause = format!("the compiler announced {length} bytes and wrote {found}");
                return Err(Error::new(step, cause));
            }
            Ok(Compiled { file: output, kind, layers, imports_checked })
        }
        Ok(FromWorker::Failed { step, message, hint }) => Err(Error { step, cause: message, hint }),
        Ok(other) => Err(Error::new(step, format!("the compiler sent {other:?}"))),
        Err(ChannelError::Closed) => Err(died(status)),
        Err(error) => Err(Error::new(step, error)),
    }
}

fn died(status: io::Result<ExitStatus>) -> Error {
    let step = CompileStep::Compile.text();
    let status = match status {
        Ok(status) => status,
        Err(error) => return Error::new(step, error),
    };
    let hint = match status.signal() {
        Some(libc::SIGXCPU | libc::SIGKILL) => "it hit its limit of CPU time or memory",
        Some(libc::SIGSYS) => "it made a call that policies/seccomp/compile.toml forbids",
        _ => "the module may be larger than what the compiler's memory limit allows",
    };
    Error {
        hint: Some(hint.to_owned()),
        ..Error::new(step, format!("the compiler ended early ({status})"))
    }
}

/// Leaves no child behind, whatever happens.
struct Guard(Child);

impl Guard {
    /// After its answer the worker has nothing to do any more; if it is hostile, it ends here.
    fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(status);
        }
        // A worker that just answered is about to end on its own: its own status says more than
        // the signal does.
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
        }
        self.0.kill()?;
        self.0.wait()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only if the child is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
