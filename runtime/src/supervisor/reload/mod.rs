//! A new policy for a guest that runs.
//!
//! [`socket`] hears those who ask, [`check`] looks at what they offer, in a thread, [`swap`] puts
//! it into force, [`generation`] knows which policy a record is about. [`Reload`] does one step of
//! each when the loop of [`super::watch`] comes by, and never waits: not for whoever asks, not for
//! DNS, not for a large policy.

mod check;
mod generation;
mod socket;
mod swap;

use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags};
use wasi_guard_enforce::{cgroup, guest::Guest, records::Denial};
use wasi_guard_policy::Table;

pub(crate) use socket::{connect, sweep_sockets};

use super::{AuditTo, Error, Grants, Job, Plan};
use crate::{
    audit::Auditor,
    cli::report,
    protocol::{Answer, Channel, MAX_MESSAGE, Request, RequestError, cut},
};
use check::{Checked, Fixed, Offer};
use generation::{Generation, Generations};
use socket::Listener;

/// How long somebody who has connected may take to say what for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest text of an answer or a record: room is left for the rest of its packet.
const MAX_TEXT: usize = MAX_MESSAGE / 2;

/// What a running guest's supervisor knows about its policies.
pub(crate) struct Reload {
    fixed: Arc<Fixed>,
    listener: Listener,
    /// Has connected and said nothing yet, and until when that is in order.
    client: Option<(Channel, Instant)>,
    checking: Option<Checking>,
    /// The policy's file, read again when SIGHUP asks for it.
    file: Option<PathBuf>,
    /// SIGHUP has asked.
    hangup: bool,
    generations: Generations,
    /// Records go where the policy says.
    audit_by_policy: bool,
    limits: cgroup::Limits,
}

/// Who asks for another policy.
#[derive(Debug)]
enum Asker {
    /// `wasi-guard policy reload`, which waits for the answer.
    Command(Channel),
    /// SIGHUP.
    Signal,
}

impl Asker {
    /// The word in records.
    const fn name(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Signal => "signal",
        }
    }
}

/// A policy that is being looked at.
struct Checking {
    asker: Asker,
    /// What records call the policy.
    name: String,
    thread: JoinHandle<Result<Checked, Error>>,
    /// Closed by the thread's end, however it ends.
    done: UnixStream,
}

impl Reload {
    /// Opens the socket of the guest. `table` is the one that goes into force, with its roots.
    pub(crate) fn open(
        job: &Job,
        plan: &Plan,
        table: &Table,
        guest: &Guest,
    ) -> Result<Self, Error> {
        let fixed = Fixed::new(job, plan, table)?;
        Ok(Self {
            fixed: Arc::new(fixed),
            listener: Listener::bind(guest.name())?,
            client: None,
            checking: None,
            file: match &job.grants {
                Grants::Policy(path) => Some(path.clone()),
                Grants::Options { .. } => None,
            },
            hangup: false,
            generations: Generations::new(Generation::first(plan)),
            audit_by_policy: matches!(job.audit, AuditTo::Default),
            limits: plan.limits.clone(),
        })
    }

    /// The limits of the guest's cgroup now.
    pub(crate) fn limits(&self) -> &cgroup::Limits {
        &self.limits
    }

    /// Writes records that have come in, at most `limit` of them.
    pub(crate) fn drain(&self, limit: usize, guest: &mut Guest, auditor: &mut Auditor) {
        let Some(records) = guest.records() else { return };
        for record in records.take(limit) {
            match record {
                Ok(denial) => self.record(denial, auditor),
                Err(_) => auditor.loss(1),
            }
        }
    }

    /// Writes the record of a denial, about the policy that denied.
    fn record(&self, denial: Denial, auditor: &mut Auditor) {
        let (denial, generation) = self.generations.of(denial);
        auditor.set_policy(&generation.name, &generation.digest);
        auditor.denial(&denial, &generation.policy);
        let current = self.generations.current();
        auditor.set_policy(&current.name, &current.digest);
    }

    /// What to wait for.
    pub(crate) fn fds(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::new();
        match (&self.client, &self.checking) {
            (None, _) => fds.push(PollFd::new(&self.listener, PollFlags::IN)),
            (Some((channel, _)), None) => fds.push(PollFd::new(channel, PollFlags::IN)),
            // Its request waits until the one before is answered.
            (Some(_), Some(_)) => {}
        }
        if let Some(checking) = &self.checking {
            fds.push(PollFd::new(&checking.done, PollFlags::IN));
        }
        fds
    }

    /// Until when to wait at most.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (_, until) = self.client.as_ref()?;
        self.checking.is_none().then_some(*until)
    }

    /// Does what there is to do. `hangup`: SIGHUP came.
    pub(crate) fn attend(&mut self, hangup: bool, guest: &mut Guest, auditor: &mut Auditor) {
        self.hangup |= hangup;
        if let Some(checking) = self.checking.take_if(|checking| checking.has_ended()) {
            self.conclude(checking, guest, auditor);
            if let Some((_, until)) = &mut self.client {
                *until = Instant::now() + REQUEST_TIMEOUT;
            }
        }
        if self.checking.is_none() && self.hangup {
            self.hangup = false;
            if let Some(file) = self.file.clone() {
                let name = file.display().to_string();
                self.look_at(Asker::Signal, name, Offer::File(file), auditor);
            }
        }
        if self.client.is_none() {
            let until = Instant::now() + REQUEST_TIMEOUT;
            self.client = self.listener.accept().map(|channel| (channel, until));
        }
        if self.checking.is_none() {
            self.hear(auditor);
        }
    }

    /// Takes the request of whoever has connected, if it is there.
    fn hear(&mut self, auditor: &mut Auditor) {
        let Some((channel, until)) = self.client.take() else { return };
        match Request::receive(&channel) {
            Ok(None) if Instant::now() < until => self.client = Some((channel, until)),
            // Whoever says nothing, or is gone, gets no answer.
            Ok(None) | Err(RequestError::Closed) => {}
            Ok(Some((request, text))) => {
                let name = request.name.clone();
                self.look_at(Asker::Command(channel), name, Offer::Sent(request, text), auditor);
            }
            Err(error) => {
                let error = Error::step("understand the request", error).hint(
                    "`wasi-guard policy reload` must be of the same release as the supervisor",
                );
                answer(&channel, &Answer::Refused(report::text(&error, false)));
            }
        }
    }

    fn look_at(&mut self, asker: Asker, name: String, offer: Offer, auditor: &mut Auditor) {
        let fixed = Arc::clone(&self.fixed);
        let marked = !self.generations.current().marked;
        let started = UnixStream::pair().and_then(|(done, end)| {
            done.set_nonblocking(true)?;
            let thread =
                std::thread::Builder::new().name("reload".to_owned()).spawn(move || {
                    let _end = end;
                    check::check(offer, &fixed, marked)
                })?;
            Ok((done, thread))
        });
        match started {
            Ok((done, thread)) => {
                self.checking = Some(Checking { asker, name, thread, done });
            }
            Err(error) => refuse(&asker, &name, &Error::step("check the policy", error), auditor),
        }
    }

    fn conclude(&mut self, checking: Checking, guest: &mut Guest, auditor: &mut Auditor) {
        let Checking { asker, name, thread, .. } = checking;
        let result = thread
            .join()
            .unwrap_or_else(|_| Err(Error::new("check the policy: please report this")))
            .and_then(|checked| self.swap(checked, asker.name(), guest, auditor));
        match (result, &asker) {
            (Ok(in_force), Asker::Command(channel)) => {
                answer(channel, &Answer::InForce(in_force));
            }
            (Ok(in_force), Asker::Signal) => report::write(&in_force.warnings),
            (Err(error), _) => refuse(&asker, &name, &error, auditor),
        }
    }
}

impl Checking {
    fn has_ended(&self) -> bool {
        // Nothing is ever written to it: there is an end, or nothing yet.
        matches!((&self.done).read(&mut [0]), Ok(0))
    }
}

/// Tells whoever asked, and the audit, why the policy before stays in force.
fn refuse(asker: &Asker, name: &str, error: &Error, auditor: &mut Auditor) {
    let text = cut(&report::text(error, false), MAX_TEXT);
    auditor.reload_refused(asker.name(), name, &text);
    match asker {
        Asker::Command(channel) => answer(channel, &Answer::Refused(text)),
        Asker::Signal => {
            report::write(&text);
            report::warning("the policy was not reloaded; the one before stays in force");
        }
    }
}

/// The socket does not wait: whoever does not read has lost the answer, which the audit has too.
fn answer(channel: &Channel, answer: &Answer) {
    let _ = channel.send(answer);
}
