//! The process that compiles a module: apart from everybody else, and ended as a guest is.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::Case;
use crate::lab::{Lab, processes};
use crate::program::{Live, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "compiler_is_in_namespaces_of_its_own", run: namespaces },
    Case { name: "compiler_is_ended_by_a_signal", run: signals },
];

const KINDS: [&str; 6] = ["user", "mnt", "pid", "ipc", "uts", "net"];
/// Of the users of compilers, which nobody else is (`FIRST_COMPILER` in `isolation.rs`).
const FIRST_USER: u32 = 0x7800_0000;
const PATIENCE: Duration = Duration::from_secs(60);

/// A module that takes a second or more to compile.
fn large() -> String {
    let step = "(local.set 0 (i32.mul (i32.add (local.get 0) (i32.const 7)) (local.get 0)))";
    let function = format!("(func (param i32) (result i32) {} (local.get 0))", step.repeat(40));
    format!("(module {} (func (export \"_start\")))", function.repeat(800))
}

/// The compiler of a run, once it is hardened.
fn compiler(live: &Live) -> Result<i32> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for (pid, _) in processes()? {
            let of_run = field(pid, "PPid:").is_ok_and(|it| it == live.pid().to_string());
            let confined = field(pid, "Seccomp:").is_ok_and(|it| it == "2");
            if of_run && confined {
                return Ok(pid);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    anyhow::bail!("no compiler was seen")
}

fn field(pid: i32, name: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("it is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.with_context(|| format!("{name} is not in a status"))?.trim().to_owned())
}

fn spaces(pid: impl std::fmt::Display) -> Result<Vec<PathBuf>> {
    let link = |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    KINDS.iter().map(|kind| link(kind).with_context(|| format!("{pid}: {kind}"))).collect()
}

/// In a run it shares none with us and is a user of its own; `wasi-guard compile`, which is for
/// machines that allow none, has ours.
fn namespaces(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let module = folder.file("large.wat", large())?;
    for command in ["run", "compile"] {
        let cache = folder.text(command);
        let live = guarded(&[command, "--cache", &cache, &module]).start()?;
        let pid = compiler(&live)?;
        let found = spaces(pid)?;
        for (ours, its) in spaces("self")?.iter().zip(&found) {
            let apart = command == "run";
            ensure!((ours != its) == apart, "{command}: {ours:?} and {its:?}");
        }
        if command == "run" {
            let pids = field(pid, "NSpid:")?;
            ensure!(pids.split_whitespace().nth(1) == Some("1"), "its pids are {pids}");
        }
        for user in field(pid, "Uid:")?.split_whitespace() {
            ensure!(user.parse::<u32>()? >= FIRST_USER, "it is user {user}");
        }
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            let left = field(pid, set)?;
            ensure!(left.trim_matches('0').is_empty(), "{set} {left}");
        }
        live.finish()?.exits(0)?;
    }
    Ok(())
}

/// As the first process of its pid namespace it would not hear one from the terminal.
fn signals(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let module = folder.file("large.wat", large())?;
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let cache = folder.text("cache");
        let live = guarded(&["run", "--cache", &cache, &module]).start()?;
        compiler(&live)?;
        live.signal(signal)?;
        live.finish()?.ends_by(signal)?;
        lab.check_clean()?;
        let entries = fs::read_dir(folder.path("cache"))?.count();
        ensure!(entries == 0, "{signal:?}: it was compiled");
    }
    Ok(())
}
