//! Role Run: from a hardened process to the guest's exit code. The steps and their numbers are
//! those of [`crate::protocol`].

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode as FileMode, OFlags, openat};
use rustix::io::Errno;
use wasi_guard_broker::{protocol::WINDOW, window::Window};
use wasi_guard_enforce::fault::{self, Point};

use super::failure::{Failure, Step as _};
use super::guest::{self, Given, Preopened};
use super::seccomp;
use super::{Descriptors, harden, landlock, tell};
use crate::protocol::{Channel, FromWorker, Mode, RunConfig, Seccomp, ToWorker, check_options};

/// Runs the guest; the result is the exit code of the process.
///
/// # Errors
/// The step that failed before the guest's first instruction.
pub fn run(
    channel: &Arc<Channel>,
    config: &RunConfig,
    mut descriptors: Descriptors,
) -> Result<i32, Failure> {
    refuse_help(&config.options)?;
    let options = check_options(&config.options).step("read the options of the run")?;
    let canary = descriptors.take(config.canary.directory)?;
    let artifact = descriptors.take(config.artifact)?;
    let mut preopens = Vec::new();
    for preopen in &config.preopens {
        preopens.push(Preopened {
            directory: descriptors.take(preopen.directory)?,
            guest: preopen.guest.clone(),
        });
    }

    let broker = match &config.broker {
        Some(broker) => {
            let channel = Channel::from_fd(descriptors.take(broker.channel)?);
            Some((channel, Window::from_fd(descriptors.take(broker.window)?, WINDOW)))
        }
        None => None,
    };

    fault::at(Point::WorkerStarted);
    tell(channel, &FromWorker::Started)?;

    // 1. Rights.
    let mut layers = harden::harden(channel, harden::Strictness::Everything, &config.identity)?;
    if let Some(open_files) = config.open_files {
        harden::limit_descriptors(open_files, preopens.len())?;
    }
    if config.mode == Mode::Enforce {
        // In audit mode what Landlock denies would neither be let through nor recorded.
        let directories: Vec<_> = preopens.iter().map(|it| it.directory.as_fd()).collect();
        layers.landlock = Some(landlock::confine_guest(&directories)?);
    }

    let event_loop = guest::EventLoop::new()?;
    fault::at(Point::WorkerHardened);

    // Before hostile bytes come in. What the module's loading needs beyond the guest's list, the
    // supervisor lets through until it is loaded.
    let listener = seccomp::install_asking().step("install the seccomp filter")?;
    fault::at(Point::WorkerFiltered);
    layers.seccomp = match config.mode {
        Mode::Enforce => Seccomp::Enforce,
        Mode::Audit => Seccomp::Log,
    };

    // 2. The policy comes into force.
    let hardened = FromWorker::Hardened { layers: layers.clone() };
    channel.send_with(&hardened, listener.as_fd()).step("talk to the supervisor")?;
    // Whoever held it could answer for the supervisor.
    drop(listener);
    fault::at(Point::WorkerTold);
    // While the supervisor is busy: nothing of this depends on the guest's bytes.
    let machine = guest::Machine::new(config, &options)?;
    expect(channel, &ToWorker::Armed)?;
    fault::at(Point::WorkerArmed);

    // 3. Self-test.
    try_canary(channel, config, canary)?;
    fault::at(Point::WorkerTested);
    expect(channel, &ToWorker::Load)?;
    fault::at(Point::WorkerMayLoad);

    // 4. Everything that needs executable memory.
    let given = Given { artifact: File::from(artifact), preopens, broker };
    let ready = guest::prepare(channel, machine, event_loop, config, &options, given)?;
    fault::at(Point::WorkerLoaded);

    // 5. From here on there is none.
    tell(channel, &FromWorker::Loaded { layers })?;
    expect(channel, &ToWorker::Start)?;
    fault::at(Point::WorkerMayStart);

    // 6. The guest. Before, nothing but the answers that the supervisor waits for may be said.
    if config.open_files.is_some() {
        guest::descriptors::watch(channel)?;
    }
    let (end, code) = ready.run();
    fault::at(Point::WorkerDone);
    // The supervisor may be gone or not interested; the exit code is what counts.
    let _ = channel.send(&FromWorker::Ended(end));
    fault::at(Point::WorkerEndSaid);
    Ok(code)
}

/// `-W help` prints and ends the process with success: fine for a command line, not here.
pub(super) fn refuse_help(options: &[String]) -> Result<(), Failure> {
    for option in options {
        if matches!(option.get(2..), Some("help" | "help-long")) {
            return Err(Failure::new("read the options of the run")
                .because(format!("`{option}` asks for help, not for a run")));
        }
    }
    Ok(())
}

fn expect(channel: &Channel, expected: &ToWorker) -> Result<(), Failure> {
    let step = "wait for the supervisor";
    let message: ToWorker = channel.receive(None).step(step)?;
    if message == *expected {
        Ok(())
    } else {
        Err(Failure::new(step).because(format!("it sent {message:?} instead of {expected:?}")))
    }
}

fn try_canary(channel: &Channel, config: &RunConfig, directory: OwnedFd) -> Result<(), Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let result = openat(&directory, config.canary.name.as_str(), flags, FileMode::empty());
    let errno = result.as_ref().err().map(|errno| errno.raw_os_error());
    tell(channel, &FromWorker::Canary { errno })?;
    let step = "see a denied file being denied";
    match (config.mode, result) {
        (Mode::Enforce, Err(Errno::ACCESS)) | (Mode::Audit, Ok(_)) => Ok(()),
        (Mode::Enforce, Ok(_)) => {
            Err(Failure::new(step).because("the kernel let the worker open the canary"))
        }
        (_, Err(errno)) => Err(Failure::new(step).because(format!("opening the canary: {errno}"))),
    }
}
