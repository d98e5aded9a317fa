//! The kernel bench: what the hooks cost each system call.
//!
//! Runs as root in a fresh VM whose clock counts instructions (`cargo xtask bench`, or
//! `cargo xtask vm --icount --add target/release/kernel-bench:/bin/ -- kernel-bench`), because
//! its first state is a kernel without our programs. Prints one JSON object a line with `name`,
//! `value` and `unit`. The first and the last state of an operation are its whole cost, the others
//! what they add to the first:
//!
//! * no programs: nothing attached;
//! * Landlock alone: as before, one rule that grants everything below the same directory;
//! * unguarded: programs attached, the task is nobody's guest: what the whole host pays;
//! * guarded and allowed;
//! * guarded and allowed by a policy of 10,000 rules about single files and 100 patterns more;
//! * guarded and denied: the record is written, nothing is done. What would have come after the
//!   first denied call (close, rmdir) is not there to be done.

use std::{fs, os::fd::AsFd as _, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use landlock::{
    ABI, Access as _, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus,
};
use rustix::mount::MountFlags;
use wasi_guard_enforce::{
    cgroup::Limits,
    guest::Guest,
    programs::{BPFFS, Build},
};
use wasi_guard_policy::{Addresses, Source, Table};
use wasi_guard_tests::{
    actor::{Actor, describe, serve_if_asked},
    measure::{self, Cost},
    operation::{Answer, Do},
    single_files, sys,
};

/// A tmpfs, so that no disk is measured.
const MOUNT: &str = "/srv";
/// The preopen.
const ROOT: &str = "/srv/root";
/// Six directories deep, like [`DENIED`], and as long.
const ALLOWED: &str = "/srv/root/data/deep/a/b/c";
const DENIED: &str = "/srv/root/data/deep/a/b/d";
const POLICY: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "root"
read = ["data/**"]
write = ["data/deep/**", "state.db"]
create = ["data/deep/**"]
delete = ["data/deep/**", "tmp-*"]
deny = ["**/*.pem", "data/deep/a/b/d/**"]
"#;
/// Room for the records of every denial of one cost: nothing may be lost while it is measured.
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
    ensure!(!attached()?, "programs are attached already; this takes a fresh machine");
    fs::create_dir_all(MOUNT).with_context(|| format!("create {MOUNT}"))?;
    rustix::mount::mount("tmpfs", MOUNT, "tmpfs", MountFlags::empty(), Some(c"mode=755"))
        .with_context(|| format!("mount a tmpfs at {MOUNT}"))?;
    for directory in [ALLOWED, DENIED] {
        measure::prepare(directory).with_context(|| format!("make files in {directory}"))?;
    }
    std::thread::sleep(SETTLE);

    let mut plain = Vec::new();
    for cost in Cost::EVERY {
        let value = lowest(cost)?;
        print(&format!("{}, no programs", cost.name()), value);
        plain.push((cost, value));
    }
    ensure!(
        sys::in_child(|| report("Landlock alone", &plain, landlocked))?,
        "measuring Landlock failed"
    );

    let mut table = compile(POLICY)?;
    let mut guest =
        Guest::create(&Build::this(false), &Limits::default(), RING).map_err(describe)?;
    std::thread::sleep(SETTLE);
    for (cost, before) in &plain {
        added("unguarded", *cost, lowest(*cost)? - before);
    }

    let root = fs::File::open(ROOT).with_context(|| format!("open {ROOT}"))?;
    guest.root(&mut table, 0, root.as_fd()).map_err(describe)?;
    let actor = Actor::inside(&mut guest, &[(root.as_fd(), 0)])?;
    guest.arm(&table).map_err(describe)?;
    let mut large = compile(&large_policy())?;
    guest.root(&mut large, 0, root.as_fd()).map_err(describe)?;
    for (state, directory, denied) in [
        ("guarded and allowed", ALLOWED, false),
        ("guarded and denied", DENIED, true),
        ("guarded and allowed, 10,000 rules", ALLOWED, false),
    ] {
        if state.ends_with("rules") {
            guest.arm(&large).map_err(describe)?;
        }
        for (cost, before) in &plain {
            drain(&mut guest)?;
            let counts = guest.counts();
            let measured = Do::Measure(*cost, directory.into(), denied);
            let Answer::Done(bytes) = actor.ask(&measured)? else { bail!("the actor failed") };
            let result: Result<f64, String> = postcard::from_bytes(&bytes)?;
            let value = result.map_err(|error| anyhow!("{state}, {}: {error}", cost.name()))?;
            let after = guest.counts();
            ensure!(after.lost == counts.lost, "records were lost: {after:?}");
            let judged = denied && *cost != Cost::Nothing;
            ensure!((after.denied > counts.denied) == judged, "{state}: {counts:?}, {after:?}");
            if denied {
                print(&format!("{}, {state}", cost.name()), value);
            } else {
                added(state, *cost, value - before);
            }
        }
    }
    Ok(())
}

fn compile(text: &str) -> Result<Table> {
    let (policy, _) = wasi_guard_policy::load(&Source::new("bench", text))
        .map_err(|problems| anyhow!("the bench's policy: {problems:?}"))?;
    Ok(wasi_guard_policy::compile(&policy, &Addresses::new())?)
}

/// [`POLICY`] with 10,000 rules about single files and 100 patterns more.
fn large_policy() -> String {
    let mut read = String::from("\nread = [\"data/**\"");
    for file in single_files::files() {
        read.push_str(&format!(", \"{file}\""));
    }
    let mut deny = String::from("\ndeny = [\"**/*.pem\"");
    for n in 0..single_files::PATTERNS {
        deny.push_str(&format!(", \"**/*.private-{n}\""));
    }
    POLICY.replace("\nread = [\"data/**\"", &read).replace("\ndeny = [\"**/*.pem\"", &deny)
}

/// Whether any build's programs are pinned.
fn attached() -> Result<bool> {
    let entries = fs::read_dir(BPFFS).with_context(|| format!("list {BPFFS}"))?;
    Ok(entries
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("wasi-guard-")))
}

fn lowest(cost: Cost) -> Result<f64> {
    measure::lowest(cost, ALLOWED, false).map_err(|error| anyhow!("{}: {error}", cost.name()))
}

fn print(name: &str, value: f64) {
    println!(
        "{}",
        serde_json::json!({ "name": name, "value": value.round(), "unit": "instructions" })
    );
}

fn added(state: &str, cost: Cost, value: f64) {
    print(&format!("{}, {state}: added", cost.name()), value);
}

/// Prints what a state adds, after `enter`; false and a message if something fails.
fn report(state: &str, plain: &[(Cost, f64)], enter: impl FnOnce() -> Result<()>) -> bool {
    let all = || -> Result<()> {
        enter()?;
        for (cost, before) in plain {
            added(state, *cost, lowest(*cost)? - before);
        }
        Ok(())
    };
    all().inspect_err(|error| eprintln!("kernel-bench: {state}: {error:#}")).is_ok()
}

/// Restricts this process to the preopen with every right of Landlock's second version, which
/// both kernels have.
fn landlocked() -> Result<()> {
    let rights = AccessFs::from_all(ABI::V2);
    let status = Ruleset::default()
        .handle_access(rights)?
        .create()?
        .add_rule(PathBeneath::new(PathFd::new(ROOT)?, rights))?
        .restrict_self()?;
    ensure!(status.ruleset == RulesetStatus::FullyEnforced, "Landlock is {:?}", status.ruleset);
    Ok(())
}

fn drain(guest: &mut Guest) -> Result<()> {
    let records = guest.records().context("no ring buffer")?;
    for record in records.by_ref() {
        record.map_err(|bytes| anyhow!("a record that is none: {bytes:?}"))?;
    }
    Ok(())
}
