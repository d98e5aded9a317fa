//! The links bench: what the search for files with several names adds to a start, beside other
//! walks of the same tree.
//!
//! Runs as root in a VM whose clock counts instructions, with `wasi-guard` on PATH
//! (`cargo xtask bench links`). The search is the difference between two starts that are the same
//! but for one rule. Prints one JSON object a line.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::MountFlags;
use wasi_guard_tests::report;

/// A tmpfs, so that no disk is measured.
const MOUNT: &str = "/srv";
const TREE: &str = "/srv/tree";
/// Records of the starts.
const AUDIT: &str = "/srv/audit.jsonl";
const DIRECTORIES: u32 = 200;
/// Files in each of them.
const FILES: u32 = 99;
/// Directories and files.
const NAMES: u32 = DIRECTORIES * (FILES + 1);
/// Runs, of which the fastest counts.
const RUNS: u32 = 5;
const GUEST: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
/// Every name has the same rights, so there is nothing to look for.
const SAME: &str = "version = 1\n[[preopen]]\nguest = \"/\"\nhost = \"tree\"\nread = [\"**\"]\n";
/// Some names have fewer.
const DENYING: &str = "deny = [\"**/*.pem\"]\n";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("links-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    fs::create_dir_all(MOUNT).with_context(|| format!("create {MOUNT}"))?;
    rustix::mount::mount("tmpfs", MOUNT, "tmpfs", MountFlags::empty(), Some(c"mode=755"))
        .with_context(|| format!("mount a tmpfs at {MOUNT}"))?;
    make().with_context(|| format!("make files in {TREE}"))?;
    let write = |name: &str, text: &str| {
        let path = format!("{MOUNT}/{name}");
        fs::write(&path, text).with_context(|| format!("write {path}")).map(|()| path)
    };
    let guest = write("guest.wat", GUEST)?;
    let same = write("same.toml", SAME)?;
    let denying = write("denying.toml", &format!("{SAME}{DENYING}"))?;

    let readdir = fastest(|| {
        let names = walk(Path::new(TREE)).context("walk the tree")?;
        ensure!(names == NAMES, "{names} names, not {NAMES}");
        Ok(())
    })?;
    let find = fastest(|| complete(Command::new("find").arg(TREE)))?;
    let start = |policy: &str| {
        let words = ["run", "--audit", AUDIT, "--policy", policy, &guest];
        fastest(|| complete(Command::new("wasi-guard").args(words)))
    };
    let (without, with) = (start(&same)?, start(&denying)?);
    ensure!(with > without, "a start with the search is not longer: {with}, {without}");
    let search = with - without;
    for (walk, value) in [("readdir", readdir), ("find", find), ("search", search)] {
        let value = (value / f64::from(NAMES) * 1000.0).round();
        report::print(&[("walk", walk)], value, "instructions per 1,000 names");
    }
    report::print(&[("start", "without search")], without, "instructions");
    report::print(&[("start", "with search")], with, "instructions");
    Ok(())
}

fn make() -> std::io::Result<()> {
    for directory in 0..DIRECTORIES {
        let directory = format!("{TREE}/directory-{directory}");
        fs::create_dir_all(&directory)?;
        for file in 0..FILES {
            fs::write(format!("{directory}/file-{file}"), "")?;
        }
    }
    Ok(())
}

/// Nanoseconds of the fastest run.
fn fastest(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut fastest = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        fastest = fastest.min(start.elapsed().as_nanos() as f64);
    }
    Ok(fastest)
}

fn complete(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

/// Lists every directory below; how many names there are.
fn walk(directory: &Path) -> std::io::Result<u32> {
    let mut names = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        names += 1;
        if entry.file_type()?.is_dir() {
            names += walk(&entry.path())?;
        }
    }
    Ok(names)
}
