//! The other side of [`crate::protocol`]: the process without rights in which a guest runs, a
//! module is compiled or a BPF object is parsed.
//!
//! Relies on nothing but its descriptors: no environment, no path, no argument. In the order of a
//! start:
//!
//! 1. [`sys::take`] takes over the descriptors, all others are closed.
//! 2. [`harden`] gives up capabilities and sets limits; [`landlock`] adds its domain.
//! 3. [`seccomp`] is installed last, before hostile bytes are touched.
//! 4. [`run`], [`compile`] or [`parse`], the three roles.
//! 5. [`guest`] is wasmtime: linking, running, exit codes.

#[cfg(feature = "test-captive-worker")]
mod captive;
pub mod compile;
pub mod failure;
pub mod guest;
pub mod harden;
pub mod landlock;
pub mod parse;
pub mod run;
pub mod seccomp;
pub mod sys;
#[cfg(feature = "test-unchecked-host")]
mod unchecked;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;
use std::sync::Arc;

use crate::program::BUILD;
use crate::protocol::{
    CONFIG_FD, CONTROL_FD, Channel, EXIT_REFUSED, FromWorker, Role, WorkerConfig,
};
use failure::{Failure, Step as _};

/// Runs a worker from its descriptors to the guest's end.
#[must_use]
pub fn main() -> ExitCode {
    let (channel, config) = match take_over() {
        Ok(taken) => taken,
        Err((channel, failure)) => return refuse(channel.as_ref(), &failure),
    };
    let channel = Arc::new(channel);
    let result = match config {
        Taken { role: Role::Run(config), descriptors } => run::run(&channel, &config, descriptors),
        Taken { role: Role::Compile(config), descriptors } => {
            compile::compile(&channel, &config, descriptors)
        }
        Taken { role: Role::Parse(config), descriptors } => {
            parse::serve(&channel, &config, descriptors)
        }
    };
    match result {
        Ok(code) => exit(code),
        Err(failure) => refuse(Some(&channel), &failure),
    }
}

/// What a worker was given.
struct Taken {
    role: Role,
    descriptors: Descriptors,
}

/// The descriptors that the config names, each to be taken once.
#[derive(Debug)]
pub struct Descriptors(Vec<(i32, OwnedFd)>);

impl Descriptors {
    /// Takes the descriptor that the config calls `number`.
    ///
    /// # Errors
    /// If it was taken before; the config names each number once.
    pub fn take(&mut self, number: i32) -> Result<OwnedFd, Failure> {
        let position = self.0.iter().position(|(known, _)| *known == number);
        match position {
            Some(position) => Ok(self.0.swap_remove(position).1),
            None => Err(Failure::new("take over the descriptors")
                .because(format!("descriptor {number} is not there"))),
        }
    }
}

fn take_over() -> Result<(Channel, Taken), (Option<Channel>, Failure)> {
    const HINT: &str = "a worker is started by `wasi-guard`, not by hand";
    // A worker does what its descriptors say. Where the executable has file capabilities, whoever
    // may execute it could have them used for orders of his own. A worker of wasi-guard's has none
    // of them: they do not count for a file of another mount namespace, or with no_new_privs.
    let capabilities = caps::read(None, caps::CapSet::Permitted)
        .step("read the capabilities")
        .map_err(|failure| (None, failure))?;
    if sys::is_secure() && !capabilities.is_empty() {
        let failure = Failure::new("take orders").because("the executable gave it capabilities");
        return Err((None, failure.hint(HINT)));
    }
    let control = sys::take(CONTROL_FD)
        .step("take over the control socket")
        .map_err(|failure| (None, failure.hint(HINT)))?;
    let channel = Channel::from_fd(control);
    if let Err(failure) = check_build(std::env::args_os().nth(1)) {
        return Err((Some(channel), failure));
    }
    match take_config() {
        Ok(taken) => Ok((channel, taken)),
        Err(failure) => Err((Some(channel), failure)),
    }
}

/// Messages of another build may mean something else.
fn check_build(starter: Option<OsString>) -> Result<(), Failure> {
    let starter = starter.unwrap_or_default();
    if starter.as_bytes() == BUILD.as_bytes() {
        return Ok(());
    }
    let starter = starter.to_string_lossy();
    let cause = format!("the worker's program is of the build {BUILD}, not {starter}");
    let hint = "install `wasi-guard` and `wasi-guard-worker` of the same build";
    Err(Failure::new("take orders").because(cause).hint(hint))
}

fn take_config() -> Result<Taken, Failure> {
    let config = sys::take(CONFIG_FD).step("take over the worker's config")?;
    let config = WorkerConfig::from_memfd(config).step("read the worker's config")?;
    let mut numbers = config.descriptors();
    numbers.push(CONTROL_FD);
    sys::close_all_but(&numbers).step("close the descriptors that no config names")?;
    let mut descriptors = Vec::new();
    for number in config.descriptors() {
        let fd = sys::take(number).step("take over the descriptors")?;
        descriptors.push((number, fd));
    }
    Ok(Taken { role: config.role, descriptors: Descriptors(descriptors) })
}

/// Tells the supervisor; if nobody listens, stderr.
fn refuse(channel: Option<&Channel>, failure: &Failure) -> ExitCode {
    let told = channel.is_some_and(|channel| channel.send(&failure.message()).is_ok());
    if !told {
        // Nothing is left to be done if stderr is closed as well.
        let _ = writeln!(std::io::stderr(), "wasi-guard worker: {failure}");
    }
    exit(EXIT_REFUSED)
}

/// Ends the process at once: threads that wait for stdin do not hold it up. `std` flushes stdout.
fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// Sends a message that the supervisor must get.
fn tell(channel: &Channel, message: &FromWorker) -> Result<(), Failure> {
    channel.send(message).step("talk to the supervisor")
}
