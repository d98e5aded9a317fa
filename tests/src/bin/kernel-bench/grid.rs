//! The grid: every operation at every depth, again and again and after renames elsewhere.

use std::fs;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use wasi_guard_enforce::guest::{Counts, Guest};
use wasi_guard_tests::{
    actor::Actor,
    measure::{self, Cost, Sample},
    operation::{Answer, Do},
    report,
    scale::{GRANTED, NOT_GRANTED},
};

use crate::{MOUNT, ROOT};

/// Names from the preopen to the file, the file's included.
const DEPTHS: [usize; 3] = [2, 6, 20];
/// Runs of an operation; an even number, so that the file elsewhere has its name again.
const ROUNDS: u32 = 100;

/// What happens between two runs of an operation.
#[derive(Clone, Copy, PartialEq)]
enum Between {
    /// Nothing: whatever can be remembered is.
    Nothing,
    /// A process that nobody guards renames a file in another directory.
    Rename,
}

impl Between {
    const EVERY: [Self; 2] = [Self::Nothing, Self::Rename];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Rename => "rename",
        }
    }
}

/// A state in which the grid is measured.
pub(crate) struct State<'a> {
    pub(crate) name: &'a str,
    /// Of the policy, as text; none where there is none.
    pub(crate) rules: &'a str,
    /// Every call is denied.
    pub(crate) denied: bool,
    /// Nothing that a rename could make anybody forget: only measured without one in between.
    pub(crate) stateless: bool,
}

/// The directory in which operations at this depth are measured.
fn directory(place: &str, depth: usize) -> String {
    let below: String = (2..depth).map(|level| format!("/dir-{level:02}")).collect();
    format!("{ROOT}/{place}{below}")
}

/// Makes the files that [`measure`] needs.
pub(crate) fn prepare() -> Result<()> {
    for place in [GRANTED, NOT_GRANTED] {
        for depth in DEPTHS {
            let directory = directory(place, depth);
            measure::prepare(&directory).with_context(|| format!("make files in {directory}"))?;
        }
    }
    fs::write(elsewhere("a"), "").context("make a file elsewhere")
}

fn elsewhere(name: &str) -> String {
    format!("{MOUNT}/{name}")
}

/// Measures and prints every number of a state. With a `guest`, the actor is one of its
/// processes: its records are taken out, and have to be as many as there are denied calls.
pub(crate) fn measure(
    state: &State<'_>,
    actor: &Actor,
    mut guest: Option<&mut Guest>,
) -> Result<()> {
    let clock = lowest(actor, &sample(Cost::Clock, ROOT.into(), false), Between::Nothing)?;
    let place = if state.denied { NOT_GRANTED } else { GRANTED };
    for depth in DEPTHS {
        for cost in Cost::EVERY {
            for between in Between::EVERY {
                if state.stateless && between == Between::Rename {
                    continue;
                }
                let of = [
                    ("state", state.name),
                    ("rules", state.rules),
                    ("operation", cost.name()),
                    ("depth", &depth.to_string()),
                    ("between", between.name()),
                ];
                let before = match guest.as_deref_mut() {
                    // What the actor's start left is not ours.
                    Some(guest) => drain(guest).map(|_| guest.counts())?,
                    None => Counts::default(),
                };
                let sample = sample(cost, directory(place, depth), state.denied);
                let value =
                    lowest(actor, &sample, between).with_context(|| format!("measure {of:?}"))?;
                if let Some(guest) = guest.as_deref_mut() {
                    let after = guest.counts();
                    let records = drain(guest)?;
                    let denied = after.denied - before.denied;
                    ensure!(after.lost == before.lost, "records were lost: {after:?}");
                    ensure!((denied > 0) == state.denied, "{denied} denials at {of:?}");
                    ensure!(records == denied, "{records} records of {denied} denials at {of:?}");
                }
                report::print(&of, (value - clock).round(), "instructions");
            }
        }
    }
    Ok(())
}

fn sample(cost: Cost, directory: String, denied: bool) -> Sample {
    Sample { cost, directory, denied, rounds: ROUNDS }
}

/// The cheapest of all runs: without what the kernel does only now and then.
fn lowest(actor: &Actor, sample: &Sample, between: Between) -> Result<f64> {
    let times = match between {
        Between::Nothing => ask(actor, sample)?,
        Between::Rename => {
            let one = Sample { rounds: 1, ..sample.clone() };
            let names = [elsewhere("a"), elsewhere("b")];
            let mut times = Vec::new();
            for round in 0..sample.rounds as usize {
                let (from, to) = (&names[round % 2], &names[(round + 1) % 2]);
                fs::rename(from, to).context("rename a file elsewhere")?;
                times.extend(ask(actor, &one)?);
            }
            times
        }
    };
    times.into_iter().min().map(|time| time as f64).context("nothing was measured")
}

fn ask(actor: &Actor, sample: &Sample) -> Result<Vec<u64>> {
    let Answer::Done(bytes) = actor.ask(&Do::Measure(sample.clone()))? else {
        bail!("the actor failed");
    };
    let result: Result<Vec<u64>, String> = postcard::from_bytes(&bytes)?;
    result.map_err(|error| anyhow!(error))
}

/// Takes the records out of the ring buffer; how many there were.
fn drain(guest: &mut Guest) -> Result<u64> {
    let mut count = 0;
    for record in guest.records().context("no ring buffer")?.by_ref() {
        record.map_err(|bytes| anyhow!("a record that is none: {bytes:?}"))?;
        count += 1;
    }
    Ok(count)
}
