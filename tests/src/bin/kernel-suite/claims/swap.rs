//! A policy that is replaced while the guest works.

use std::{os::fd::AsFd as _, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::time::{ClockId, clock_gettime};
use wasi_guard_abi::operation::Reason;
use wasi_guard_policy::Table;
use wasi_guard_tests::{
    actor::{Actor, describe},
    operation::{Answer, Do, Tally, at},
};

use super::cases;
use crate::{
    lab::Lab,
    stage::{Setup, Stage, load, open_path},
};

cases![
    an_attempt_is_judged_by_the_old_policy_or_the_new_one,
    nobody_decides_by_a_table_that_was_replaced,
];

/// Opens of a name that an actor does at one go.
const TRIES: u32 = 1_000;
/// Replacements; each waits for a grace period of the kernel's.
const SWAPS: usize = 40;
/// Between two of them, so that something happens under each policy alone.
const PAUSE: Duration = Duration::from_millis(5);
/// `both` is granted by both policies, `never` by none, `first` and `second` by one.
const NAMES: [&str; 4] = ["both", "never", "first", "second"];
const TREE: &[&str] = &["data/both", "data/never", "data/first", "data/second"];
/// The number of the rule that denies `never` in the first policy and in the second.
const RULES: [u32; 2] = [3, 4];

fn policy(read: &str, deny: &str) -> String {
    format!("[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [{read}]\ndeny = [{deny}]\n")
}

/// When a table came into force, in nanoseconds of `CLOCK_BOOTTIME`: the call that put it into
/// force began after `before` and had returned at `after`.
struct Swap {
    before: u64,
    after: u64,
    /// 0 or 1.
    table: usize,
}

/// A run under load.
struct Load {
    tallies: Vec<Tally>,
    swaps: Vec<Swap>,
    /// Time, reason and rule of each record.
    records: Vec<(u64, Reason, u32)>,
}

fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::Boottime);
    Ok(u64::try_from(time.tv_sec)? * 1_000_000_000 + u64::try_from(time.tv_nsec)?)
}

/// Four actors, each opening one name all the time, while the two tables replace each other.
fn under_load(lab: &Lab) -> Result<Load> {
    let [first, second] = [
        policy("\"both\", \"first\"", "\"never\""),
        policy("\"both\", \"second\"", "\"absent\", \"never\""),
    ];
    let mut setup = Setup::new(lab.directory()?, &first, TREE);
    setup.armed = false;
    let mut stage = setup.start(lab)?;
    stage.reset()?;
    let mut tables = [table(&mut stage, &first)?, table(&mut stage, &second)?];
    // Only before there is a policy can an actor start.
    let root = open_path(&stage.roots[0])?;
    let mut actors = Vec::new();
    for _ in NAMES {
        actors.push(Actor::inside(&mut stage.guest, &[(root.as_fd(), 0)])?);
    }
    let tallies = vec![Tally::default(); NAMES.len()];
    let mut load = Load { tallies, swaps: Vec::new(), records: Vec::new() };
    swap(&mut stage, &mut tables, 0, &mut load)?;
    // What the actors were denied before there was a policy.
    load.records.clear();
    let hammer = |name| Do::Hammer(at(0, name), TRIES);
    for (actor, name) in actors.iter().zip(NAMES) {
        actor.tell(&hammer(name))?;
    }
    while load.swaps.len() < SWAPS {
        let next = load.swaps.len() % 2;
        swap(&mut stage, &mut tables, next, &mut load)?;
        std::thread::sleep(PAUSE);
        for ((actor, name), tally) in actors.iter().zip(NAMES).zip(&mut load.tallies) {
            if let Some(answer) = actor.answered()? {
                add(tally, answer)?;
                actor.tell(&hammer(name))?;
            }
        }
    }
    for (actor, tally) in actors.iter().zip(&mut load.tallies) {
        add(tally, actor.answer()?)?;
    }
    collect(&mut stage, &mut load)?;
    Ok(load)
}

fn add(sum: &mut Tally, answer: Answer) -> Result<()> {
    let Answer::Done(bytes) = answer else { bail!("an actor answers {answer:?}") };
    let tally: Tally = postcard::from_bytes(&bytes)?;
    sum.opened += tally.opened;
    sum.denied += tally.denied;
    sum.absent += tally.absent;
    sum.other += tally.other;
    Ok(())
}

fn table(stage: &mut Stage, text: &str) -> Result<Table> {
    stage.policy = load(&format!("version = 1\n{text}"))?;
    stage.table()
}

fn swap(stage: &mut Stage, tables: &mut [Table; 2], table: usize, load: &mut Load) -> Result<()> {
    let before = now()?;
    stage
        .guest
        .replace(&mut tables[table], Vec::new())
        .map_err(describe)
        .context("replace the table")?;
    load.swaps.push(Swap { before, after: now()?, table });
    collect(stage, load)
}

fn collect(stage: &mut Stage, load: &mut Load) -> Result<()> {
    let records = stage.records()?;
    load.records.extend(records.iter().map(|record| (record.time, record.reason, record.rule)));
    Ok(())
}

fn an_attempt_is_judged_by_the_old_policy_or_the_new_one(lab: &Lab) -> Result<()> {
    let load = under_load(lab)?;
    let [both, never, turns @ ..] = &load.tallies[..] else { bail!("four tallies") };
    ensure!(load.tallies.iter().all(|tally| tally.absent + tally.other == 0), "{:?}", load.tallies);
    ensure!(both.denied == 0 && both.opened > 0, "what both grant was denied: {both:?}");
    ensure!(never.opened == 0 && never.denied > 0, "what none grants was opened: {never:?}");
    for tally in turns {
        ensure!(tally.opened > 100 && tally.denied > 100, "both policies were in force: {tally:?}");
    }
    let reasons = [Reason::Deny, Reason::NotGranted];
    let other = load.records.iter().find(|(_, reason, _)| !reasons.contains(reason));
    ensure!(other.is_none(), "neither policy denies so: {other:?}");
    Ok(())
}

/// What tells the records of one policy from those of the next: a record whose rule belongs to a
/// replaced table is older than the return of the call that replaced it.
fn nobody_decides_by_a_table_that_was_replaced(lab: &Lab) -> Result<()> {
    let load = under_load(lab)?;
    let mut checked = 0;
    for (time, reason, rule) in load.records {
        if reason != Reason::Deny {
            continue;
        }
        let Some(table) = RULES.iter().position(|number| *number == rule) else {
            bail!("no policy has a deny rule {rule}");
        };
        let at = load.swaps.partition_point(|swap| swap.after <= time);
        let Some(current) = at.checked_sub(1).and_then(|at| load.swaps.get(at)) else { continue };
        // While a table is being replaced, either may decide.
        if load.swaps.get(at).is_none_or(|next| time < next.before) {
            ensure!(current.table == table, "rule {rule} at {time}, after {}", current.after);
            checked += 1;
        }
    }
    ensure!(checked > 100, "only {checked} records between two replacements");
    Ok(())
}
