//! Go on after the end: of the time that the policy grants, of the caller's patience, of the
//! supervisor.
//!
//! Stopped by: the supervisor, which ends the guest's cgroup; the kernel, which kills the worker
//! with its supervisor.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use libc::{SIG_IGN, SIGKILL, SIGTERM};
use rustix::process::{Pid, Signal, kill_process};
use wasi_guard_captive::{Script, Value, call};

use crate::captive::Captive;
use crate::idea::Idea;
use crate::outside;
use crate::scene::Scene;
use crate::trial::Lab;

/// How long an end may take: the supervisor's patience, and a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("outlast_the_time", time),
        Idea::Case("ignore_the_callers_signals", signals),
        Idea::Case("outlive_a_killed_supervisor", killed),
    ]
}

fn time(lab: &mut Lab<'_>) -> Result<()> {
    let mut script = Script::default();
    let long = script.zeros(16);
    script.put(long, 0, 3600);
    call!(script, SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, long, 0);
    let mut captive = lab.captive("time = \"3s\"")?;
    if captive.ask(&script)?.is_some() {
        bail!("the worker lives");
    }
    let end = captive.end()?;
    end.by_signal(&[SIGKILL])?;
    ensure!(end.limited_by("time"), "no record of the limit: {end}");
    Ok(())
}

/// Ignores what can be ignored, blocks what can be blocked.
fn deaf(script: &mut Script) {
    let ignore = script.zeros(32);
    script.put(ignore, 0, SIG_IGN);
    call!(script, SYS_rt_sigaction, SIGTERM, ignore, 0, 8);
    let all = script.bytes([0xff; 8]);
    call!(script, SYS_rt_sigprocmask, libc::SIG_BLOCK, all, 0, 8);
}

fn signals(lab: &mut Lab<'_>) -> Result<()> {
    let mut script = Script::default();
    deaf(&mut script);
    // Where nothing guards it works: the signal ends nobody.
    let mut outside = script.clone();
    call!(outside, SYS_kill, Value::OwnPid, SIGTERM);
    let (answer, status) = outside::run(&outside)?;
    ensure!(answer.is_some_and(|it| it.results.iter().all(|it| *it == 0)), "outside: {status}");
    let mut captive = lab.doomed()?;
    let (answer, _) = captive.ask(&script)?.context("the worker is gone")?;
    ensure!(answer.results.iter().all(|it| *it == 0), "results {:?}", answer.results);
    signal(captive.supervisor(), Signal::TERM)?;
    let worker = captive.worker()?;
    gone(&format!("/proc/{worker}"))?;
    captive.end()?.by_signal(&[SIGTERM, SIGKILL])
}

/// Neither the worker nor, after the next start, its cgroup is left.
fn killed(lab: &mut Lab<'_>) -> Result<()> {
    let mut script = Script::default();
    deaf(&mut script);
    let mut captive: Captive = lab.doomed()?;
    captive.ask(&script)?.context("the worker is gone")?;
    let (worker, cgroup) = (captive.worker()?, captive.cgroup()?);
    signal(captive.supervisor(), Signal::KILL)?;
    gone(&format!("/proc/{worker}"))?;
    let mut next = lab.captive("")?;
    next.worker()?;
    ensure!(!cgroup.exists(), "its cgroup is still there");
    next.end()?.in_order()
}

fn signal(process: u32, signal: Signal) -> Result<()> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw).context("no process")?;
    kill_process(process, signal).context("send a signal")
}

/// Waits until there is no such path.
fn gone(path: &str) -> Result<()> {
    let start = Instant::now();
    while Path::new(path).exists() {
        ensure!(start.elapsed() < PATIENCE, "{path} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
