//! Ends from outside.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use wasi_guard_enforce::cgroup;

use crate::Case;
use crate::lab::{self, Lab};
use crate::program::guarded;

pub(super) const CASES: &[Case] = &[
    Case { name: "signals_end_the_run_by_the_signal", run: signals },
    Case { name: "stop_and_continue", run: stop },
    Case { name: "a_supervisor_sleeps_while_its_guest_waits", run: sleeps },
    Case { name: "signals_during_the_start", run: signals_during_the_start },
    Case { name: "killed_supervisor_takes_its_guest_along", run: killed_supervisor },
    Case { name: "gc_removes_what_a_killed_supervisor_left", run: gc },
    Case { name: "killed_worker_is_an_end_that_is_told", run: killed_worker },
];

fn signals(lab: &Lab) -> Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        for how in ["compute", "wait", "stdin"] {
            let mut live = guarded(&["run", "/guests/endless.wasm", how]).start()?;
            live.wait_for("started")?;
            live.signal(signal)?;
            let outcome = live.outcome()?;
            outcome.ends_by(signal)?.is_quiet()?;
            ensure!(outcome.of_kind("end")[0]["signal"] == signal.as_raw(), "{outcome:?}");
            ensure!(outcome.time < Duration::from_secs(4), "it took {:?}", outcome.time);
            lab.check_clean()?;
        }
    }
    Ok(())
}

/// Fields of proc_pid_stat(5), from the third on, which is the state.
fn stat(pid: i32) -> Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or("");
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}

/// What a process has had so far: ticks of processor time, and how often it was given a processor.
fn used(pid: i32) -> Result<(u64, u64)> {
    let fields = stat(pid)?;
    let field =
        |at: usize| -> Result<u64> { Ok(fields.get(at - 3).context("a field of stat")?.parse()?) };
    // utime and stime.
    let ticks = field(14)? + field(15)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let switches = status
        .lines()
        .filter_map(|line| line.split_once("ctxt_switches:"))
        .map(|(_, count)| Ok(count.trim().parse::<u64>()?))
        .sum::<Result<_>>()?;
    Ok((ticks, switches))
}

/// Soon it has no process beside the worker, and neither runs nor wakes.
fn sleeps(lab: &Lab) -> Result<()> {
    let mut live = guarded(&["run", "/guests/endless.wasm", "wait"]).start()?;
    live.wait_for("started")?;
    let pid = live.pid();
    let children = || -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?)
    };
    let start = Instant::now();
    loop {
        let before = used(pid)?;
        std::thread::sleep(Duration::from_millis(500));
        let after = used(pid)?;
        let children = children()?;
        // One that looks again and again is given a processor thousands of times meanwhile, or
        // keeps it.
        let rests = after.0 <= before.0 + 2 && after.1 <= before.1 + 10;
        if rests && children.split_whitespace().count() == 1 {
            break;
        }
        let state = format!("children {children:?}, ticks and switches {before:?}, {after:?}");
        ensure!(start.elapsed() < Duration::from_secs(30), "it does not come to rest: {state}");
    }
    live.signal(Signal::TERM)?;
    live.outcome()?.ends_by(Signal::TERM)?.is_quiet()?;
    lab.check_clean()
}

/// The terminal's stop holds the guest as well; after it the guest goes on.
fn stop(lab: &Lab) -> Result<()> {
    let all = |wanted: &dyn Fn(&str) -> bool| -> Result<()> {
        let start = Instant::now();
        loop {
            let state = |pid| Ok(stat(pid)?.into_iter().next().unwrap_or_default());
            let states: Vec<String> =
                lab::processes()?.iter().map(|(pid, _)| state(*pid)).collect::<Result<_>>()?;
            if states.len() == 2 && states.iter().all(|state| wanted(state)) {
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(10), "states {states:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let mut live = guarded(&["run", "/guests/endless.wasm", "compute"]).start()?;
    live.wait_for("started")?;
    live.signal(Signal::TSTP)?;
    all(&|state| state == "T")?;
    live.signal(Signal::CONT)?;
    all(&|state| state != "T")?;
    live.signal(Signal::TERM)?;
    live.outcome()?.ends_by(Signal::TERM)?.is_quiet()?;
    lab.check_clean()
}

/// At whatever moment it comes: the run ends by it, or had just ended by itself.
fn signals_during_the_start(lab: &Lab) -> Result<()> {
    for milliseconds in [0, 20, 60, 120, 200, 300, 400] {
        let live = guarded(&["run", "/guests/hello.wasm"]).start()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        live.signal(Signal::TERM)?;
        let outcome = live.finish()?;
        if outcome.ends_by(Signal::TERM).is_err() {
            outcome.exits(0)?.prints("hello\n")?;
        }
        lab.check_clean()?;
    }
    Ok(())
}

/// Nothing before, everything after, nothing again; a guest that runs meanwhile runs on.
fn gc(lab: &Lab) -> Result<()> {
    let gc = || guarded(&["gc"]).finish();
    gc()?.exits(0)?.prints("nothing was left\n")?;
    // Somebody else's cgroup, with a name that begins like ours.
    let slice = Path::new(cgroup::MOUNT).join("wasi-guard-app.slice");
    let theirs = slice.join("guest-1-0");
    fs::create_dir_all(&theirs)?;
    let mut bystander = Command::new("sleep").arg("600").spawn()?;
    fs::write(theirs.join("cgroup.procs"), bystander.id().to_string())?;
    let mut other = guarded(&["run", "/guests/endless.wasm", "wait"]).start()?;
    other.wait_for("started")?;
    let mut live =
        guarded(&["run", "--dir", "/tmp::/tmp", "/guests/endless.wasm", "wait"]).start()?;
    live.wait_for("started")?;
    live.signal(Signal::KILL)?;
    live.outcome()?.ends_by(Signal::KILL)?;
    let outcome = gc()?;
    outcome.exits(0)?.prints(
        "cgroups without a supervisor: 1 removed\n\
         map entries of guests that are gone: 1 removed\n\
         tables that no guest uses: 1 removed\n\
         sockets without a guest: 1 removed\n",
    )?;
    gc()?.exits(0)?.prints("nothing was left\n")?;
    ensure!(bystander.try_wait()?.is_none(), "a process of somebody else's was killed");
    bystander.kill()?;
    bystander.wait()?;
    fs::remove_dir(&theirs)?;
    fs::remove_dir(slice)?;
    other.signal(Signal::TERM)?;
    other.outcome()?.ends_by(Signal::TERM)?;
    lab.check_clean()
}

/// The kernel goes on denying without the supervisor, the worker dies with it, and what it could
/// not remove itself is removed by the next run.
fn killed_supervisor(lab: &Lab) -> Result<()> {
    for how in ["compute", "wait"] {
        let mut live = guarded(&["run", "/guests/endless.wasm", how]).start()?;
        live.wait_for("started")?;
        ensure!(lab::processes()?.len() >= 2, "supervisor and worker run");
        live.signal(Signal::KILL)?;
        let outcome = live.outcome()?;
        outcome.ends_by(Signal::KILL)?;
        let start = Instant::now();
        while !lab::processes()?.is_empty() {
            ensure!(
                start.elapsed() < Duration::from_secs(5),
                "the guest lives: {:?}",
                lab::processes()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        ensure!(lab::cgroups()?.len() == 1, "its cgroup waits for the next run");
        guarded(&["run", "/guests/hello.wasm"]).finish()?.exits(0)?.prints("hello\n")?;
        lab.check_clean()?;
    }
    Ok(())
}

fn killed_worker(_: &Lab) -> Result<()> {
    let mut live = guarded(&["run", "/guests/endless.wasm", "wait"]).start()?;
    live.wait_for("started")?;
    let workers: Vec<i32> =
        lab::processes()?.iter().map(|(pid, _)| *pid).filter(|pid| *pid != live.pid()).collect();
    ensure!(workers.len() == 1, "one worker: {workers:?}");
    if let Some(pid) = rustix::process::Pid::from_raw(workers[0]) {
        rustix::process::kill_process(pid, Signal::KILL)?;
    }
    let outcome = live.outcome()?;
    outcome.exits(137)?;
    ensure!(outcome.of_kind("end")[0]["signal"] == 9, "{outcome:?}");
    Ok(())
}
