//! While the guest runs: records, limits, signals, and the end.

use std::{
    cell::Cell,
    fs,
    io::Read as _,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use wasi_guard_enforce::{
    fault::{self, Point},
    spawn::Ended,
};

use super::{BATCH, Error, Plan, start::Running, told::Told};
use crate::{
    audit::{Auditor, End as AuditEnd},
    cli::report,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The worker exited with this status: the guest's own, or that of its trap.
    Exited(i32),
    /// The worker was killed by this signal, which nobody sent through us.
    Killed(i32),
    /// We were told to end by this signal.
    Signalled(i32),
}

/// Past its time the guest is ended by its own runtime; this much later by us.
const GRACE: Duration = Duration::from_secs(2);

/// The signals that end a run or ask for the policy anew, as something to poll: a socket for each.
#[derive(Debug)]
pub struct Signals {
    readers: Vec<(i32, UnixStream)>,
    /// SIGHUP asks for the policy anew.
    reloads: bool,
    /// It has, and nobody has listened yet.
    hangup: Cell<bool>,
    /// SIGTSTP came, and nobody has listened yet.
    stop: Cell<bool>,
}

/// Signals that end the run, but for SIGHUP where it asks for the policy anew; and the terminal's
/// stop. None of them would do anything to the worker: it is the first process of its pid
/// namespace (pid_namespaces(7)), which only SIGKILL and SIGSTOP from outside reach.
const CAUGHT: &[i32] = &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP];

/// What ended a wait.
pub(crate) enum Woken {
    /// The descriptor at this place of the list.
    Readable(usize),
    Signal(i32),
    TimedOut,
}

impl Signals {
    /// `reloads`: there is a policy that SIGHUP can ask for.
    pub(crate) fn catch(reloads: bool) -> Result<Self, Error> {
        let step = |error| Error::step("catch signals", error);
        let mut readers = Vec::new();
        for &number in CAUGHT {
            let (reader, writer) = UnixStream::pair().map_err(step)?;
            reader.set_nonblocking(true).map_err(step)?;
            signal_hook::low_level::pipe::register(number, writer).map_err(step)?;
            readers.push((number, reader));
        }
        let (hangup, stop) = (Cell::new(false), Cell::new(false));
        Ok(Self { readers, reloads, hangup, stop })
    }

    /// A signal that is to end the run.
    fn take(&self) -> Option<i32> {
        let mut bytes = [0; 64];
        self.readers.iter().find_map(|(number, reader)| {
            let mut reader: &UnixStream = reader;
            if !matches!(reader.read(&mut bytes), Ok(1..)) {
                return None;
            }
            if self.reloads && *number == libc::SIGHUP {
                self.hangup.set(true);
                return None;
            }
            if *number == libc::SIGTSTP {
                self.stop.set(true);
                return None;
            }
            Some(*number)
        })
    }

    fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.readers.iter().map(|(_, reader)| PollFd::new(reader, PollFlags::IN))
    }

    /// Waits for a signal or for the first of `fds` that is readable.
    pub(crate) fn or_readable(
        &self,
        wanted: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<Woken, Error> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(signal) = self.take() {
                return Ok(Woken::Signal(signal));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Woken::TimedOut);
            }
            let mut fds: Vec<PollFd<'_>> =
                wanted.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            fds.extend(self.fds());
            wait(&mut fds, Some(left))?;
            let ready = fds[..wanted.len()].iter().position(|fd| !fd.revents().is_empty());
            if let Some(place) = ready {
                return Ok(Woken::Readable(place));
            }
        }
    }
}

fn wait(fds: &mut [PollFd<'_>], limit: Option<Duration>) -> Result<(), Error> {
    let timeout = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(Error::step("wait for the guest", std::io::Error::from(error))),
    }
}

/// Follows the guest to its end.
pub(crate) fn watch(
    mut running: Running,
    plan: &Plan,
    mut auditor: Auditor,
    signals: &Signals,
) -> Result<Outcome, Error> {
    let deadline = plan.time.map(|time| running.started + time + GRACE);
    let mut told = Told::default();
    let mut signalled: Option<i32> = None;
    let mut overtime = false;
    let mut listening = true;
    let mut log = if running.bpf_log { Some(running.guest.pins().debug_log()?) } else { None };
    let mut population = running.guest.population()?;
    let (mut empty, mut moved) = (false, false);
    let mut bpf_denied = 0;
    fault::at(Point::Watching);
    loop {
        bpf_denied += drain(&mut running, &mut auditor);
        running.reload.drain(BATCH, &mut running.guest, &mut auditor);
        running.guest.settle();
        if let Some(log) = &mut log {
            log.flush();
        }
        // Only root can move a worker out. Outside nothing guards it, so it must not run there.
        if !empty && population.is_empty() {
            empty = true;
            moved = is_elsewhere(&running);
            // A worker that ends leaves as well, and what kills it then changes nothing of its end.
            // It may be gone already.
            let _ = running.worker.signal(Signal::KILL);
        }
        let now = Instant::now();
        let next = deadline.filter(|_| !overtime);
        let wake = [next, running.reload.deadline()].into_iter().flatten().min();
        if next.is_some_and(|next| next <= now) {
            // It did not end by itself. Nothing in the cgroup survives this.
            overtime = true;
            running.guest.kill()?;
        }
        let ready = {
            let limit = if next.is_some_and(|next| next <= now) {
                None
            } else {
                wake.map(|wake| wake.saturating_duration_since(now))
            };
            // Nothing is polled that has hung up: that would end every wait at once.
            let mut fds = vec![PollFd::from_borrowed_fd(running.worker.pidfd(), PollFlags::IN)];
            if listening {
                fds.push(PollFd::new(&running.channel, PollFlags::IN));
            }
            let ring = running.guest.ring();
            let others = [running.syscalls.listener(), ring].into_iter().flatten();
            let others = others.chain(running.guest.waiting());
            fds.extend(others.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            fds.extend(signals.fds());
            fds.extend(log.as_ref().map(|log| PollFd::new(log, PollFlags::IN)));
            fds.extend(running.reload.fds());
            fds.extend(running.broker.as_ref().map(|broker| PollFd::new(broker, PollFlags::IN)));
            if !empty {
                fds.push(PollFd::new(&population, PollFlags::PRI));
            }
            wait(&mut fds, limit)?;
            let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
            (ready(0), listening && ready(1))
        };
        running.syscalls.attend(BATCH, &mut auditor)?;
        if running.syscalls.fatal().is_some() {
            running.guest.kill()?;
        }
        if let Some(signal) = signals.take() {
            // What the signal would have done.
            running.guest.kill()?;
            signalled = Some(signal);
        }
        if signals.stop.take() {
            stop(&running)?;
        }
        running.reload.attend(signals.hangup.take(), &mut running.guest, &mut auditor);
        if ready.1 {
            listening = told.hear(&running.channel);
            told.record(running.worker.pid(), &mut auditor);
        }
        if ready.0 {
            break;
        }
    }
    let ended = running.worker.wait()?;
    fault::at(Point::WorkerEnded);
    if let Some(log) = &mut log {
        log.flush();
    }
    told.hear_last(&running.channel);
    told.record(running.worker.pid(), &mut auditor);
    if let Some(broker) = &mut running.broker {
        // It has seen the worker's end and lets go of what the guest had in the kernel.
        broker.end();
    }
    bpf_denied += drain(&mut running, &mut auditor);
    // The kernel takes its time, in which the rest is written.
    running.guest.begin_end();
    // Nobody adds to them any more.
    running.reload.drain(usize::MAX, &mut running.guest, &mut auditor);
    let mut counts = running.guest.counts();
    // The self-test's denial is ours, not the guest's.
    counts.denied =
        counts.denied.saturating_sub(1) + running.syscalls.denied() + told.denied() + bpf_denied;
    if counts.lost > 0 {
        auditor.loss(counts.lost);
    }
    let pressure = running.guest.pressure();
    let limits = running.reload.limits();
    if pressure.refused_pids > 0 {
        let pids = limits.pids.unwrap_or(0);
        auditor.limit("pids", &format!("{pids} threads, {} refused", pressure.refused_pids));
    }
    if !pressure.throttled.is_zero() {
        let cpu = limits.cpu.unwrap_or(0.0);
        auditor.limit("cpu", &format!("{cpu} processors, waited {:?}", pressure.throttled));
    }
    if !limits.disks.numbers.is_empty() && !pressure.waited_for_disks.is_zero() {
        let waited = pressure.waited_for_disks;
        auditor.limit("disk", &format!("{}, waited {waited:?} for disks", limits.disks.limits));
    }
    if let Some(files) = told.files_ran_out(plan.policy.limits.open_files) {
        auditor.limit("open_files", &format!("{files} open files, by the worker's own word"));
    }
    if pressure.oom_kills > 0 {
        let bytes = limits.memory.unwrap_or(0);
        auditor.limit("memory", &format!("{bytes} bytes"));
        report::warning(&format!(
            "the guest was ended: it needs more than its {bytes} bytes of memory ([limits] memory)"
        ));
    } else if overtime || told.timed_out(&running, plan) {
        auditor.limit("time", &format!("{:?}", plan.time.unwrap_or_default()));
    } else if told.fuel_ran_out(plan) {
        auditor.limit("fuel", &format!("{}", plan.fuel.unwrap_or(0)));
    }
    if moved {
        report::warning("the guest was ended: its worker was no longer in its cgroup");
    }
    if let Some(call) = running.syscalls.fatal() {
        report::warning(&format!(
            "the guest was ended: its worker made the system call {call}, which no guest needs"
        ));
    }
    let outcome = match (ended, signalled) {
        // As the kernel itself would have done it.
        (Ended::Killed(libc::SIGKILL), None) if running.syscalls.fatal().is_some() => {
            Outcome::Killed(libc::SIGSYS)
        }
        (Ended::Killed(_), Some(signal)) => Outcome::Signalled(signal),
        (Ended::Exited(code), _) => Outcome::Exited(code),
        (Ended::Killed(signal), None) => Outcome::Killed(signal),
    };
    auditor.end(
        match outcome {
            Outcome::Exited(code) => AuditEnd::Exited(code),
            Outcome::Killed(signal) | Outcome::Signalled(signal) => AuditEnd::Killed(signal),
        },
        counts,
    );
    fault::at(Point::EndRecorded);
    drop(running.guest);
    Ok(outcome)
}

/// Writes the records of the broker, and answers how many denials there were.
fn drain(running: &mut Running, auditor: &mut Auditor) -> u64 {
    let worker = running.worker.pid();
    running.broker.as_mut().map_or(0, |broker| broker.drain(worker, auditor))
}

/// Stops the worker and this process, until somebody continues this process.
fn stop(running: &Running) -> Result<(), Error> {
    // A worker that is gone needs no signal.
    let _ = running.worker.signal(Signal::STOP);
    signal_hook::low_level::emulate_default_handler(libc::SIGTSTP)
        .map_err(|error| Error::step("stop", error))?;
    let _ = running.worker.signal(Signal::CONT);
    Ok(())
}

/// Whether the worker is in another cgroup than its guest's. One that has ended is in none other.
fn is_elsewhere(running: &Running) -> bool {
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", running.worker.pid()));
    let text = cgroups.unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.is_some_and(|path| !path.split('/').any(|part| part == running.guest.name()))
}
