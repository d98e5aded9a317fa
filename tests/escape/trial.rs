//! The three steps of an idea.

use anyhow::{Context as _, Result, bail, ensure};
use libc::c_int;
use serde_json::Value as Json;
use wasi_guard_captive::Script;

use crate::captive::{Captive, End};
use crate::idea::{Attempt, Draft, Free, Guarded};
use crate::ideas::ends_by;
use crate::outside::{self, EXECUTED};
use crate::scene::Scene;
use crate::stops;

/// Limits of the workers that ideas share.
const LIMITS: &str = "memory = \"512MiB\"\npids = 32";

/// Workers, and what they find.
pub(crate) struct Lab<'a> {
    pub(crate) scene: &'a Scene,
    /// Shared by all ideas that leave it alive.
    current: Option<Captive>,
    /// Starting, for the idea after the one that will end `current`.
    spare: Option<Captive>,
    started: u32,
}

impl<'a> Lab<'a> {
    pub(crate) fn new(scene: &'a Scene) -> Self {
        Self { scene, current: None, spare: None, started: 0 }
    }

    /// A worker with limits of its own, and whatever else stands behind them in a policy.
    pub(crate) fn captive(&mut self, limits: &str) -> Result<Captive> {
        self.started += 1;
        Captive::start(self.scene, self.started, limits, true)
    }

    /// A worker whose policy grants no network.
    pub(crate) fn offline(&mut self) -> Result<Captive> {
        self.started += 1;
        Captive::start(self.scene, self.started, "", false)
    }

    /// A worker that has a broker: its policy lists programs that an eBPF tool may load.
    pub(crate) fn tool(&mut self) -> Result<Captive> {
        let tool = format!("{LIMITS}\n[bpf]\nprofile = \"trace-ro\"\nscope = \"host\"");
        self.captive(&tool)
    }

    /// The worker that ideas share.
    pub(crate) fn shared(&mut self) -> Result<&mut Captive> {
        if self.current.is_none() {
            self.current = match self.spare.take() {
                Some(spare) => Some(spare),
                None => Some(self.captive(LIMITS)?),
            };
        }
        self.current.as_mut().context("there is no worker")
    }

    /// The shared worker, for an idea that ends it. The next one is started meanwhile.
    pub(crate) fn doomed(&mut self) -> Result<Captive> {
        self.shared()?;
        if self.spare.is_none() {
            self.spare = Some(self.captive(LIMITS)?);
        }
        self.current.take().context("there is no worker")
    }

    /// After a failure: the next idea gets a fresh worker.
    pub(crate) fn forget(&mut self) {
        self.current = None;
    }

    /// Ends the shared worker in order.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.spare = None;
        self.current.take().map_or(Ok(()), |captive| captive.end()?.in_order())
    }

    /// An idea of one script.
    pub(crate) fn attempt(&mut self, attempt: &Attempt<'_>) -> Result<()> {
        if attempt.guarded == Guarded::Killed {
            // Starts the next one while this process is busy elsewhere.
            self.shared()?;
        }
        free(attempt).context("where nothing guards")?;
        self.inside(attempt).context("in the worker")?;
        free(attempt).context("where nothing guards, the second time")
    }

    fn inside(&mut self, attempt: &Attempt<'_>) -> Result<()> {
        let (mut script, step) = Draft::write(false, &*attempt.writer);
        script.thread = attempt.second;
        if attempt.guarded == Guarded::Killed {
            let end = killed(self.doomed()?, &script)?;
            // The kernel itself ends a worker for the other entries, and has no record.
            let Some(call) = ends_by(attempt) else { return Ok(()) };
            let found = stops::killed_by(&end.records, call.name());
            let found = found.with_context(|| format!("no record of {call}: {end}"))?;
            ensure!(
                !attempt.second || found["tid"] != found["pid"],
                "not from a second thread: {found}"
            );
            return Ok(());
        }
        self.answered(&script, step, attempt.guarded)?;
        if !attempt.second {
            script.thread = true;
            self.answered(&script, step, attempt.guarded).context("from a second thread")?;
        }
        Ok(())
    }

    /// A script of calls of which each is denied by BPF, with a record of this operation.
    pub(crate) fn denied_in_a_row(
        &mut self,
        mut script: Script,
        operations: &[&str],
    ) -> Result<()> {
        for second in [false, true] {
            script.thread = second;
            let (answer, records) = self.shared()?.ask(&script)?.context("the worker is gone")?;
            let denied = answer.results.iter().all(|it| *it == -i64::from(stops::DENIED));
            ensure!(denied, "results {:?}", answer.results);
            let found: Vec<_> = records.iter().map(|it| it["operation"].as_str()).collect();
            let expected: Vec<_> = operations.iter().map(|it| Some(*it)).collect();
            ensure!(found == expected, "records {found:?} instead of {expected:?}");
        }
        Ok(())
    }

    fn answered(&mut self, script: &Script, step: usize, guarded: Guarded) -> Result<()> {
        let Some((answer, records)) = self.shared()?.ask(script)? else {
            let captive = self.current.take().context("there is no worker")?;
            bail!("the worker is gone: {}", captive.end()?);
        };
        let result = *answer.results.get(step).context("there is no result")?;
        let said = || format!("all results: {:?}, records: {records:?}", answer.results);
        let expected = match guarded {
            Guarded::Unlisted => stops::UNLISTED,
            Guarded::Answered => stops::ANSWERED,
            Guarded::Denied(_) | Guarded::Closed(_) => stops::DENIED,
            Guarded::Refused(errno) => errno,
            Guarded::Killed => bail!("the worker lives; {}", said()),
        };
        ensure!(
            result == -i64::from(expected),
            "answered {}, not {}; {}",
            name(result),
            name(-i64::from(expected)),
            said()
        );
        let of_bpf: Vec<&Json> = records.iter().filter(|it| !stops::is_of_seccomp(it)).collect();
        let one = |operation| {
            of_bpf.len() == 1
                && of_bpf[0]["record"] == "denial"
                && of_bpf[0]["verdict"] == "denied"
                && of_bpf[0]["operation"] == operation
        };
        let recorded = match guarded {
            Guarded::Denied(operation) => one(operation),
            Guarded::Closed(operation) => of_bpf.is_empty() || one(operation),
            Guarded::Unlisted => of_bpf.is_empty() && stops::recorded(&records),
            _ => of_bpf.is_empty(),
        };
        ensure!(recorded, "the records are not those of {guarded:?}; {}", said());
        Ok(())
    }
}

/// A script that ends a worker by a `[[kill]]` row.
fn killed(mut captive: Captive, script: &Script) -> Result<End> {
    if let Some((answer, records)) = captive.ask(script)? {
        bail!("the worker lives: {:?}, records: {records:?}", answer.results);
    }
    let end = captive.end()?;
    end.by_signal(&[stops::KILLS])?;
    Ok(end)
}

/// A script where nothing guards.
fn free(attempt: &Attempt<'_>) -> Result<()> {
    let (mut script, step) = Draft::write(true, &*attempt.writer);
    script.thread = attempt.second;
    let (answer, status) = outside::run(&script)?;
    let results = answer.map(|answer| answer.results).unwrap_or_default();
    let result = results.get(step).copied();
    let good = match attempt.free {
        Free::Works => result.is_some_and(|it| it >= 0),
        Free::Fails(errno) => result == Some(-i64::from(errno)),
        Free::Executes => status.code() == Some(i32::from(EXECUTED.1)),
    };
    ensure!(
        good,
        "answered {}, not as {:?}; results {results:?}, {status}",
        result.map_or_else(|| "nothing".to_owned(), name),
        attempt.free
    );
    Ok(())
}

/// A result in words.
fn name(result: i64) -> String {
    match c_int::try_from(-result) {
        Ok(errno @ 1..=4095) => std::io::Error::from_raw_os_error(errno).to_string(),
        _ => result.to_string(),
    }
}
