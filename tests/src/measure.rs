//! Costs of system calls, as differences of the clock.
//!
//! In a machine whose clock counts instructions (`cargo xtask vm --icount`) a nanosecond is an
//! instruction, and the lowest of several batches is the same on every run.

use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

/// Runs of an operation in one batch.
pub const ROUNDS: u32 = 100;
/// Batches, of which the lowest counts.
pub const BATCHES: u32 = 12;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cost {
    /// getppid(2): what a system call costs that no hook sees.
    Nothing,
    /// open(2) for reading and close(2).
    Open,
    /// stat(2).
    Stat,
    /// open(2) that creates a file, close(2), unlink(2).
    Create,
    /// rename(2) of a file there and back.
    Rename,
    /// mkdir(2) and rmdir(2).
    Mkdir,
}

impl Cost {
    /// Every one.
    pub const EVERY: [Self; 6] =
        [Self::Nothing, Self::Open, Self::Stat, Self::Create, Self::Rename, Self::Mkdir];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "getppid",
            Self::Open => "open+close",
            Self::Stat => "stat",
            Self::Create => "create+close+unlink",
            Self::Rename => "rename+rename",
            Self::Mkdir => "mkdir+rmdir",
        }
    }
}

/// Names in the directory where costs are measured. All of them have one length, so that walks
/// and automata have the same work in every state.
const FILE: &str = "x.bin";
const OTHER: &str = "r.bin";
const MOVED: &str = "s.bin";
const NEW: &str = "n.bin";
const DIRECTORY: &str = "d.dir";

/// Makes the files of [`lowest`] in `directory`.
///
/// # Errors
/// If one cannot be made.
pub fn prepare(directory: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for name in [FILE, OTHER] {
        std::fs::write(format!("{directory}/{name}"), "x")?;
    }
    Ok(())
}

/// Nanoseconds of one run of `cost` in `directory`: the mean of the cheapest batch. `denied`:
/// every call is expected to end with EACCES, otherwise each must work.
///
/// # Errors
/// A call that ended in another way, as text.
pub fn lowest(cost: Cost, directory: &str, denied: bool) -> Result<f64, String> {
    let path = |name: &str| format!("{directory}/{name}");
    let paths = [FILE, OTHER, MOVED, NEW, DIRECTORY].map(path);
    let mut lowest = f64::INFINITY;
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            run(cost, &paths, denied)?;
        }
        lowest = lowest.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
    }
    Ok(lowest)
}

fn run(cost: Cost, paths: &[String; 5], denied: bool) -> Result<(), String> {
    let [file, other, moved, new, made] = paths;
    let check = |what: &str, result: Result<(), rustix::io::Errno>| match result {
        Ok(()) if !denied => Ok(()),
        Err(rustix::io::Errno::ACCESS) if denied => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    };
    match cost {
        Cost::Nothing => {
            std::hint::black_box(rustix::process::getppid());
            Ok(())
        }
        Cost::Open => {
            let file = rustix::fs::openat(CWD, file, OFlags::RDONLY, Mode::empty());
            check("open", file.map(drop))
        }
        Cost::Stat => check("stat", rustix::fs::stat(file).map(drop)),
        Cost::Create => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let created = rustix::fs::openat(CWD, new, flags, Mode::from_raw_mode(0o644));
            check("create", created.map(drop))?;
            // Where nothing may be created, the file that is there may not be removed.
            check("unlink", rustix::fs::unlink(if denied { other } else { new }))
        }
        Cost::Rename => {
            check("rename", rustix::fs::rename(other, moved))?;
            let (from, to) = if denied { (other, moved) } else { (moved, other) };
            check("rename", rustix::fs::rename(from, to))
        }
        Cost::Mkdir => {
            check("mkdir", rustix::fs::mkdir(made, Mode::from_raw_mode(0o755)))?;
            if denied { Ok(()) } else { check("rmdir", rustix::fs::rmdir(made)) }
        }
    }
}
