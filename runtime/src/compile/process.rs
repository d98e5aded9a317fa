//! Starts a worker in role Compile and waits for its artifact.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use wasi_guard_enforce::{
    fault::{self, Point},
    isolation::Identity,
};

use super::{Error, Request, source};
use crate::confined::{self, Confined};
use crate::protocol::{
    CONFIG_FD, CONTROL_FD, Channel, ChannelError, CompileConfig, CompileStep, FIRST_FD, FromWorker,
    Kind, Layers, Role, WorkerConfig,
};
use crate::supervisor::{Signals, Woken};

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
    let identity = Identity::of_compiler();
    let config = WorkerConfig::new(Role::Compile(CompileConfig {
        identity: identity.into(),
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
    let mut compiler = match request.isolated {
        Some(_) => Confined::isolated(request.worker, identity, descriptors),
        None => Confined::plain(request.worker, descriptors),
    }
    .map_err(|confined::Error { cause, hint }| Error { hint, ..Error::new(step, cause) })?;
    fault::at(Point::CompilerStarted);
    let answer = listen(&channel, request.isolated)?;
    let status = compiler.end();
    finish(answer, status, output)
}

/// The first message that is an answer.
///
/// # Errors
/// If one of the signals came first.
fn listen(
    channel: &Channel,
    signals: Option<&Signals>,
) -> Result<Result<FromWorker, ChannelError>, Error> {
    loop {
        if let Some(signals) = signals {
            wait(channel, signals)?;
        }
        match channel.receive(Some(LIMIT)) {
            Ok(FromWorker::Hardened { .. }) => {}
            answer => return Ok(answer),
        }
    }
}

/// Waits for a message, or for one of the signals, which is an error.
fn wait(channel: &Channel, signals: &Signals) -> Result<(), Error> {
    let step = CompileStep::Compile.text();
    match signals.or_readable(&[channel.as_fd()], LIMIT) {
        Ok(Woken::Readable(_)) => Ok(()),
        Ok(Woken::Signal(signal)) => {
            Err(Error { signal: Some(signal), ..Error::new(step, format!("signal {signal} came")) })
        }
        Ok(Woken::TimedOut) => Err(Error::new(step, ChannelError::TimedOut(LIMIT))),
        Err(error) => Err(Error::new(error.step, error.causes.join("\n"))),
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
        Ok(FromWorker::Failed { step, message, hint }) => {
            Err(Error { hint, ..Error::new(step, message) })
        }
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
