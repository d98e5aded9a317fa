//! The kernel bench: what the hooks cost each system call, and what a guest takes of the kernel's
//! memory.
//!
//! Runs as root in a fresh VM, whose clock counts instructions (`cargo xtask bench kernel`, or
//! `cargo xtask vm --icount --add target/release/kernel-bench:/bin/ -- kernel-bench grid`), because
//! its first state is a kernel without our programs. Prints one JSON object a line. Values of the
//! grid are the whole cost of an operation in a state:
//!
//! * none: nothing attached;
//! * landlock: as before, the process restricted by Landlock to what the policy grants;
//! * idle: programs attached, no guest was ever started: `HOST` names no parent cgroup;
//! * unguarded: there is a guest, the task is nobody's: what the whole host pays;
//! * guarded: allowed by policies of 10, 1,000 and 10,000 rules;
//! * denied: the record is written, nothing is done. What would have come after a denied call
//!   (close) is not there to be done.

mod grid;
mod memory;

use std::{fs, os::fd::AsFd as _, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use grid::State;
use rustix::mount::MountFlags;
use wasi_guard_enforce::{
    cgroup::Limits,
    guest::Guest,
    programs::{self, BPFFS, Build, HostLock},
};
use wasi_guard_policy::{Addresses, Source, Table};
use wasi_guard_tests::actor::own_program;
use wasi_guard_tests::{
    actor::{Actor, describe, serve_if_asked},
    operation::{Answer, Do},
    scale::Scale,
};

/// A tmpfs, so that no disk is measured.
const MOUNT: &str = "/srv";
/// The preopen.
const ROOT: &str = "/srv/root";
/// The cgroup of those who are not guarded.
const OTHERS: &str = "/sys/fs/cgroup/bench/others";
/// Rules of the policies that the grid is measured under.
const SCALES: [Scale; 3] = [Scale { rules: 10 }, Scale { rules: 1_000 }, Scale { rules: 10_000 }];
/// Room for the records of every denial of one number: nothing may be lost while it is measured.
const RING: u32 = 4 << 20;
/// What a kernel needs to come to rest after programs were attached.
const SETTLE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernel-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if serve_if_asked()? {
        return Ok(());
    }
    ensure!(rustix::process::geteuid().is_root(), "the kernel bench runs as root");
    fs::create_dir_all(MOUNT).with_context(|| format!("create {MOUNT}"))?;
    rustix::mount::mount("tmpfs", MOUNT, "tmpfs", MountFlags::empty(), Some(c"mode=755"))
        .with_context(|| format!("mount a tmpfs at {MOUNT}"))?;
    match std::env::args().nth(1).as_deref() {
        Some("grid") => measure_grid(),
        Some("memory") => memory::measure(),
        _ => bail!("usage: kernel-bench grid|memory"),
    }
}

fn measure_grid() -> Result<()> {
    ensure!(!attached()?, "programs are attached already; this takes a fresh machine");
    grid::prepare()?;
    fs::create_dir_all(OTHERS).with_context(|| format!("create the cgroup {OTHERS}"))?;
    for scale in SCALES {
        scale.prepare(ROOT).with_context(|| format!("make files in {ROOT}"))?;
    }
    std::thread::sleep(SETTLE);

    let plain = State { name: "none", rules: "none", denied: false, stateless: false };
    let stateless = State { stateless: true, ..plain };
    let actor = outside()?;
    grid::measure(&plain, &actor, None)?;
    for scale in SCALES {
        let actor = outside()?;
        landlock(&actor, scale)?;
        let rules = scale.rules.to_string();
        grid::measure(&State { name: "landlock", rules: &rules, ..stateless }, &actor, None)?;
    }

    let build = Build::this(false);
    let pins = programs::open(&build, &HostLock::take().map_err(describe)?).map_err(describe)?;
    std::thread::sleep(SETTLE);
    grid::measure(&State { name: "idle", ..stateless }, &actor, None)?;
    drop(pins);
    let mut guest =
        Guest::create(&build, &Limits::default(), RING, &own_program()?).map_err(describe)?;
    std::thread::sleep(SETTLE);
    grid::measure(&State { name: "unguarded", ..stateless }, &actor, None)?;
    drop(actor);

    let root = fs::File::open(ROOT).with_context(|| format!("open {ROOT}"))?;
    // Spawned before there is a policy, as a worker is.
    let actor = Actor::inside(&mut guest, &[])?;
    for scale in SCALES {
        let mut table = compile(&scale.policy("root"))?;
        guest.root(&mut table, 0, root.as_fd()).map_err(describe)?;
        guest.arm(&table).map_err(describe)?;
        std::thread::sleep(SETTLE);
        let rules = scale.rules.to_string();
        let guarded = State { name: "guarded", rules: &rules, denied: false, stateless: false };
        grid::measure(&guarded, &actor, Some(&mut guest))?;
        if scale == SCALES[0] {
            let denied = State { name: "denied", denied: true, ..guarded };
            grid::measure(&denied, &actor, Some(&mut guest))?;
        }
    }
    Ok(())
}

/// An actor that nobody guards, as deep among the cgroups as a guest is. There its memory is
/// accounted like a guest's, which the kernel begins with the first cgroup that there is.
fn outside() -> Result<Actor> {
    let actor = Actor::outside(&[])?;
    let processes = Path::new(OTHERS).join("cgroup.procs");
    fs::write(&processes, actor.pid().to_string())
        .with_context(|| format!("write to {}", processes.display()))?;
    Ok(actor)
}

fn landlock(actor: &Actor, scale: Scale) -> Result<()> {
    let Answer::Done(bytes) = actor.ask(&Do::Landlock(scale.rules, ROOT.into()))? else {
        bail!("the actor failed");
    };
    let result: Result<(), String> = postcard::from_bytes(&bytes)?;
    result.map_err(|error| anyhow!("restrict an actor by {} Landlock rules: {error}", scale.rules))
}

fn compile(text: &str) -> Result<Table> {
    let (policy, _) = wasi_guard_policy::load(&Source::new("bench", text))
        .map_err(|problems| anyhow!("the bench's policy: {problems:?}"))?;
    Ok(wasi_guard_policy::compile(&policy, &Addresses::new())?)
}

/// Whether any build's programs are pinned.
fn attached() -> Result<bool> {
    let entries = fs::read_dir(BPFFS).with_context(|| format!("list {BPFFS}"))?;
    Ok(entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("wasi-guard-")))
}
