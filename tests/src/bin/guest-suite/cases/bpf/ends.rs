//! However a guest ends, the kernel has afterwards what it had before; and whatever it waits for, it
//! can be ended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::{EVERYTHING, Loaded, Steps, call, policy, start, words};
use crate::Case;
use crate::lab::{self, Lab};
use crate::program::guarded;

pub(in super::super) const CASES: &[Case] = &[
    Case { name: "bpf_nothing_is_left_after_the_end", run: nothing_is_left },
    Case { name: "bpf_polls_without_end_are_ended", run: polls },
];

/// Has objects loaded, attached, and polled.
const BUSY: Steps<'_> = &[
    ("load /objects/events.bpf.o", ""),
    ("attach on_tracepoint", ""),
    ("attach on_raw_tracepoint", ""),
    ("attach on_kprobe", ""),
    ("attach on_perf_event", ""),
    ("attach on_socket_filter at lo", ""),
    ("attach on_sock_ops", ""),
    ("attach on_xdp at lo", ""),
    ("load /objects/functions.bpf.o", ""),
    ("attach entered", ""),
    ("load /objects/burst.bpf.o", ""),
    ("attach to_ring", ""),
    ("attach to_perf", ""),
    ("map perf", ""),
    ("poll 1 0", ""),
    ("map ring", ""),
    ("poll 1 0", ""),
    ("pause busy", ""),
];

/// Ends by itself, by a trap, with its supervisor, and with its worker.
fn nothing_is_left(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let before = Loaded::before()?;
    for how in ["return", "trap", "supervisor", "worker"] {
        let last: Steps<'_> = if how == "trap" { &[("trap", "")] } else { &[] };
        let mut live = start(&policy, &[BUSY, last].concat())?;
        live.wait_for("pause busy")?;
        call(1_000_000..1_000_100);
        let meanwhile = Loaded::now().context(how)?;
        ensure!(meanwhile.programs.len() >= before.programs.len() + 19, "{before:?} {meanwhile:?}");
        ensure!(meanwhile.links.len() >= before.links.len() + 9, "{before:?} {meanwhile:?}");
        ensure!(meanwhile.maps.len() >= before.maps.len() + 4, "{before:?} {meanwhile:?}");
        match how {
            "return" | "trap" => {
                live.go_on()?;
                let outcome = live.outcome()?;
                outcome.exits(if how == "trap" { 134 } else { 0 })?;
                ensure!(!outcome.stdout.contains(" -"), "{outcome:?}");
            }
            "supervisor" => {
                live.signal(Signal::KILL)?;
                live.outcome()?.ends_by(Signal::KILL)?;
            }
            _ => {
                let name = live.pid();
                let others = lab::processes()?.into_iter().filter(|(pid, _)| *pid != name);
                let is_worker = |pid: &i32| {
                    let path = format!("/proc/{pid}/cgroup");
                    std::fs::read_to_string(path).is_ok_and(|it| it.contains(&live.guest()))
                };
                let worker = others.map(|(pid, _)| pid).find(is_worker).context("no worker")?;
                kill_process(Pid::from_raw(worker).context("no process")?, Signal::KILL)?;
                live.outcome()?.exits(137)?;
            }
        }
        before_again(&before).context(how)?;
    }
    Ok(())
}

/// After the next run, which removes what a killed supervisor could not.
fn before_again(before: &Loaded) -> Result<()> {
    guarded(&["run", "/guests/hello.wasm"]).finish()?.exits(0)?;
    before.is_back()
}

/// A guest that waits for ever inside of a poll: by Ctrl-C, and by its limit of time.
fn polls(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let steps: Steps<'_> = &[
        ("load /objects/burst.bpf.o", ""),
        ("attach to_ring", ""),
        ("map ring", ""),
        ("pause waiting", ""),
        ("poll 1 -1", ""),
    ];
    let before = Loaded::before()?;
    let free = policy(&folder, "free.toml", EVERYTHING)?;
    let limits = format!("{EVERYTHING}[limits]\ntime = \"20s\"\n");
    let limited = policy(&folder, "limited.toml", &limits)?;
    for policy in [&free, &limited] {
        let mut live = guarded(&words(policy, &[], steps)).start()?;
        live.wait_for("pause waiting")?;
        live.go_on()?;
        std::thread::sleep(Duration::from_millis(300));
        live.signal(Signal::INT)?;
        let outcome = live.outcome()?;
        outcome.ends_by(Signal::INT)?;
        ensure!(outcome.time < Duration::from_secs(4), "it took {:?}", outcome.time);
        ensure!(!outcome.stdout.contains("poll"), "{outcome:?}");
        before.is_back()?;
    }
    let mut live = guarded(&words(&limited, &[], steps)).start()?;
    live.wait_for("pause waiting")?;
    live.go_on()?;
    let outcome = live.outcome()?;
    outcome.limited_by("time")?;
    ensure!(outcome.time < Duration::from_secs(22), "it took {:?}", outcome.time);
    ensure!(!outcome.stdout.contains("poll"), "{outcome:?}");
    before.is_back()
}
