//! Samples come whole, in order, and all of them that had room; of others it is told how many.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::json;

use super::{EVERYTHING, Steps, call, finish, policy, samples, start};
use crate::Case;
use crate::lab::Lab;
use crate::program::Outcome;

pub(in super::super) const CASES: &[Case] = &[
    Case { name: "bpf_samples_of_a_burst", run: burst },
    Case { name: "bpf_samples_wait_for_the_next_poll", run: stop },
    Case { name: "bpf_samples_that_are_lost", run: lost },
    Case { name: "bpf_several_objects", run: several },
];

/// The texts of samples with these numbers.
fn texts(numbers: Range<i32>) -> Vec<String> {
    numbers.map(|number| format!("{number:012}")).collect()
}

fn are(outcome: &Outcome, expected: &[String]) -> Result<()> {
    let found = samples(outcome);
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    ensure!(
        found.len() == expected.len() && same == found.len(),
        "{} samples instead of {}, and number {same} is {:?}, not {:?}",
        found.len(),
        expected.len(),
        found.get(same),
        expected.get(same)
    );
    Ok(())
}

/// The calls of this thread on one processor, as perf buffers have an order for each.
fn on_one_processor() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(0);
    sched_setaffinity(None, &set).context("stay on one processor")
}

/// Some thousand events at once, to a ring buffer and to perf buffers.
fn burst(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let steps: Steps<'_> = &[
        ("load /objects/burst.bpf.o", "load 1"),
        ("attach to_ring", "attach 0"),
        ("attach to_perf", "attach 0"),
        ("map perf", "map 0"),
        // Perf buffers are there from the first poll on.
        ("poll 1 0", "poll 0 0"),
        ("pause attached", "pause attached"),
        ("poll 5000 2000", "poll 0 5000"),
        ("lost", "lost 0"),
        ("map ring", "map 0"),
        ("poll 5000 2000", "poll 0 5000"),
        ("lost", "lost 0"),
        ("poll 1 0", "poll 0 0"),
    ];
    let mut live = start(&policy, steps)?;
    live.wait_for("pause attached")?;
    std::thread::spawn(|| on_one_processor().map(|()| call(1_000_000..1_005_000)))
        .join()
        .map_err(|_| anyhow::anyhow!("the calls panicked"))??;
    live.go_on()?;
    let outcome = finish(live, steps)?;
    are(&outcome, &[texts(1_000_000..1_005_000), texts(1_000_000..1_005_000)].concat())?;
    ensure!(outcome.of_kind("samples_lost").is_empty(), "{outcome:?}");
    Ok(())
}

/// A callback that says stop has no more samples; the next polls have them, from the next one on.
fn stop(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let steps: Steps<'_> = &[
        ("load /objects/burst.bpf.o", "load 1"),
        ("attach to_ring", "attach 0"),
        ("attach to_perf", "attach 0"),
        ("map perf", "map 0"),
        ("poll 1 0", "poll 0 0"),
        ("pause attached", "pause attached"),
        ("stop 3", ""),
        ("poll 100 2000", "poll 1 3"),
        ("map ring", "map 0"),
        ("poll 100 2000", "poll 1 3"),
        ("poll 100 2000", "poll 1 3"),
        ("stop 0", ""),
        ("poll 100 200", "poll 0 14"),
        ("map perf", "map 0"),
        ("poll 100 200", "poll 0 17"),
    ];
    let mut live = start(&policy, steps)?;
    live.wait_for("pause attached")?;
    std::thread::spawn(|| on_one_processor().map(|()| call(1_000_000..1_000_020)))
        .join()
        .map_err(|_| anyhow::anyhow!("the calls panicked"))??;
    live.go_on()?;
    let outcome = finish(live, steps)?;
    let (first, all, rest) = (1_000_000..1_000_003, 1_000_000..1_000_020, 1_000_003..1_000_020);
    are(&outcome, &[texts(first), texts(all), texts(rest)].concat())
}

/// More than the perf buffer of a processor holds: the guest and the audit hear how many were lost,
/// and together with those that came they are all.
fn lost(lab: &Lab) -> Result<()> {
    const CALLS: i32 = 30_000;
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let steps: Steps<'_> = &[
        ("load /objects/burst.bpf.o", "load 1"),
        ("attach to_perf", "attach 0"),
        ("map perf", "map 0"),
        ("poll 1 0", "poll 0 0"),
        ("pause attached", "pause attached"),
        ("poll 100000 100", "poll 0 *"),
        ("pause drained", "pause drained"),
        // The kernel tells with the next one that finds room.
        ("poll 1 2000", "poll 0 1"),
        ("lost", "lost +"),
        ("close", "close 0"),
    ];
    let mut live = start(&policy, steps)?;
    live.wait_for("pause attached")?;
    let calls = |numbers: Range<i32>| {
        std::thread::spawn(move || on_one_processor().map(|()| call(numbers)))
            .join()
            .map_err(|_| anyhow::anyhow!("the calls panicked"))?
    };
    calls(1_000_000..1_000_000 + CALLS)?;
    live.go_on()?;
    live.wait_for("pause drained")?;
    calls(2_000_000..2_000_001)?;
    live.go_on()?;
    let outcome = finish(live, steps)?;
    let line = outcome.stdout.lines().find_map(|line| line.strip_prefix("lost "));
    let lost: u64 = line.context("no number")?.parse()?;
    let found = samples(&outcome);
    ensure!(found.len() as u64 + lost == CALLS as u64 + 1, "{} and {lost} lost", found.len());
    let first = found.len() as i32 - 1;
    are(&outcome, &[texts(1_000_000..1_000_000 + first), texts(2_000_000..2_000_001)].concat())?;
    crate::expect::records(
        &outcome.of_kind("samples_lost"),
        &[json!({ "map": "perf", "count": lost })],
    )?;
    Ok(())
}

/// Each object has maps and buffers of its own; what is closed is gone, and so are numbers that never
/// were.
fn several(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let steps: Steps<'_> = &[
        ("load /objects/burst.bpf.o", "load 1"),
        ("attach to_ring", "attach 0"),
        ("load /objects/burst.bpf.o", "load 2"),
        ("attach to_ring", "attach 0"),
        ("attach to_perf", "attach 0"),
        ("map perf", "map 0"),
        ("poll 1 0", "poll 0 0"),
        ("load /objects/own.bpf.o", "load 3"),
        ("map nothing", "map -2"),
        ("attach nothing", "attach -2"),
        ("pause attached", "pause attached"),
        ("use 1", ""),
        ("map ring", "map 0"),
        ("poll 10 2000", "poll 0 10"),
        // The map is not this object's.
        ("use 2", ""),
        ("poll 1 0", "poll -9 0"),
        ("lost", "lost -9"),
        ("map ring", "map 0"),
        ("use 1", ""),
        ("close", "close 0"),
        ("close", "close -9"),
        ("map ring", "map -9"),
        ("attach to_ring", "attach -9"),
        ("use 2", ""),
        ("map ring", "map 0"),
        ("poll 10 2000", "poll 0 10"),
        ("map perf", "map 0"),
        ("poll 10 2000", "poll 0 10"),
        ("use 99", ""),
        ("map ring", "map -9"),
        ("attach to_ring", "attach -9"),
        ("close", "close -9"),
        ("use 0", ""),
        ("close", "close -9"),
        ("use 18446744073709551615", ""),
        ("close", "close -9"),
        // Without a map.
        ("lookup 00000000 8", "lookup -9 "),
        ("poll 1 0", "poll -9 0"),
        ("use 3", ""),
        ("map counts", "map 0"),
        ("lookup 00000000 8", "lookup 0 0000000000000000"),
        // Of the size that it has, and nothing to poll.
        ("poll 1 0", "poll -22 0"),
        ("lookup 22000000 8", "lookup -2 "),
        // Numbers are not given twice.
        ("load /objects/own.bpf.o", "load 4"),
    ];
    let mut live = start(&policy, steps)?;
    live.wait_for("pause attached")?;
    call(1_000_000..1_000_010);
    live.go_on()?;
    let outcome = finish(live, steps)?;
    let one = texts(1_000_000..1_000_010);
    are(&outcome, &[one.clone(), one.clone(), one].concat())
}
