//! Use up the machine: memory, threads, descriptors.
//!
//! Stopped by: the limits of the policy, which the guest's cgroup has, and the caller's limit of
//! descriptors. There is no limit of disk space.

use anyhow::{Context as _, Result, bail, ensure};
use libc::{
    CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM, MAP_ANONYMOUS,
    MAP_POPULATE, MAP_PRIVATE, PROT_READ, PROT_WRITE, SIGKILL,
};
use wasi_guard_captive::{Entry, Script, Value, call};

use super::state;
use crate::idea::Idea;
use crate::scene::Scene;
use crate::stops::UNLISTED;
use crate::trial::Lab;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("use_up_the_memory", memory),
        Idea::Case("use_up_the_huge_pages", huge_pages),
        Idea::Case("use_up_the_threads", threads),
        Idea::Case("use_up_the_descriptors", descriptors),
    ]
}

/// What a worker does here, a process that nothing guards does as well, so far as the machine can
/// bear it.
fn outside(script: &Script, last: i64) -> Result<()> {
    let (answer, status) = crate::outside::run(script)?;
    let answer = answer.with_context(|| format!("no answer: {status}"))?;
    ensure!(answer.results.iter().all(|it| *it >= last), "where nothing guards: {answer:?}");
    Ok(())
}

fn memory(lab: &mut Lab<'_>) -> Result<()> {
    /// Twice what the policy grants.
    const STEP: usize = 16 << 20;
    let mut script = Script::default();
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    let arguments: [Value; 6] = [
        0.into(),
        STEP.into(),
        (PROT_READ | PROT_WRITE).into(),
        flags.into(),
        (-1).into(),
        0.into(),
    ];
    script.enter(Entry::Plain, libc::SYS_mmap as u64, &arguments, 16);
    outside(&script, 0)?;
    let mut captive = lab.captive("memory = \"128MiB\"")?;
    if let Some((answer, _)) = captive.ask(&script)? {
        bail!("the worker got its memory: {:?}", answer.results);
    }
    let end = captive.end()?;
    end.by_signal(&[SIGKILL])?;
    ensure!(end.limited_by("memory"), "no record of the limit: {end}");
    outside(&script, 0)
}

/// Pages that an administrator has set aside for somebody are no part of what a cgroup's limit
/// counts.
fn huge_pages(lab: &mut Lab<'_>) -> Result<()> {
    const SWITCH: &str = "/proc/sys/vm/nr_hugepages";
    let (count, page): (u32, usize) = (16, 2 << 20);
    std::fs::write(SWITCH, count.to_string()).context("set huge pages aside")?;
    let mut script = Script::default();
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | libc::MAP_HUGETLB;
    let arguments: [Value; 6] = [
        0.into(),
        page.into(),
        (PROT_READ | PROT_WRITE).into(),
        flags.into(),
        (-1).into(),
        0.into(),
    ];
    script.enter(Entry::Plain, libc::SYS_mmap as u64, &arguments, count);
    outside(&script, 0)?;
    let answer = lab.shared()?.ask(&script)?.context("the worker is gone");
    let ended = outside(&script, 0);
    std::fs::write(SWITCH, "0")?;
    let (answer, _) = answer?;
    ensure!(answer.results == [-i64::from(UNLISTED)], "results {:x?}", answer.results);
    ended
}

fn threads(lab: &mut Lab<'_>) -> Result<()> {
    const LIMIT: usize = 24;
    let thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    let mut script = Script::default();
    let arguments: [Value; 5] = [thread.into(), 0.into(), 0.into(), 0.into(), 0.into()];
    script.enter(Entry::Stay, libc::SYS_clone as u64, &arguments, 3 * LIMIT as u32);
    outside(&script, 1)?;
    let mut captive = lab.captive(&format!("pids = {LIMIT}"))?;
    let (answer, _) = captive.ask(&script)?.context("the worker is gone")?;
    let refused = -i64::from(libc::EAGAIN);
    ensure!(answer.results == [refused], "results {:?}", answer.results);
    let found = state::threads(&mut captive)?;
    ensure!(found == LIMIT, "{found} threads instead of {LIMIT}");
    captive.end()?.in_order()?;
    outside(&script, 1)
}

fn descriptors(lab: &mut Lab<'_>) -> Result<()> {
    let mut script = Script::default();
    let arguments: [Value; 3] = [0.into(), libc::F_DUPFD_CLOEXEC.into(), 0.into()];
    script.enter(Entry::Plain, libc::SYS_fcntl as u64, &arguments, 2_000_000);
    // Room for what comes next.
    call!(script, SYS_close, 300);
    outside(&script, -i64::from(libc::EMFILE))?;
    let mut captive = lab.doomed()?;
    let (answer, records) = captive.ask(&script)?.context("the worker is gone")?;
    ensure!(answer.results == [-i64::from(libc::EMFILE), 0], "results {:?}", answer.results);
    ensure!(records.is_empty(), "records {records:?}");
    captive.end()?.in_order()
}
