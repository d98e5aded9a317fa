//! Costs of system calls, as differences of the clock.
//!
//! In a machine whose clock counts instructions (`cargo xtask vm --icount`) a nanosecond is an
//! instruction. An actor measures, in the state that it is in; who asks it takes the cheapest run,
//! without what the kernel does only now and then: the same number each time.

use std::{mem::MaybeUninit, time::Instant};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir},
    io::Errno,
};
use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cost {
    /// Nothing: what looking at the clock costs.
    Clock,
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
    /// open(2) of a directory, getdents64(2) to its end, close(2).
    List,
}

impl Cost {
    /// Every one but the clock.
    pub const EVERY: [Self; 6] =
        [Self::Open, Self::Stat, Self::Create, Self::Rename, Self::Mkdir, Self::List];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Open => "open+close",
            Self::Stat => "stat",
            Self::Create => "create+unlink",
            Self::Rename => "rename there and back",
            Self::Mkdir => "mkdir+rmdir",
            Self::List => "readdir",
        }
    }
}

/// Some runs of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The operation.
    pub cost: Cost,
    /// Where; [`prepare`] was there.
    pub directory: String,
    /// Every call is expected to end with EACCES; otherwise each must work. What would have come
    /// after a denied call, like close(2), is not there to be done.
    pub denied: bool,
    /// How many runs.
    pub rounds: u32,
}

/// Names in the directory where costs are measured. All of them have one length, so that walks
/// and automata have the same work in every state.
const FILE: &str = "x.bin";
const OTHER: &str = "r.bin";
const MOVED: &str = "s.bin";
const NEW: &str = "n.bin";
const NEW_DIRECTORY: &str = "d.dir";
const DIRECTORY: &str = "e.dir";
/// Entries of the directory that is listed.
const ENTRIES: u32 = 10;

/// Makes what [`time`] needs in `directory`.
///
/// # Errors
/// If something cannot be made.
pub fn prepare(directory: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(format!("{directory}/{DIRECTORY}"))?;
    for name in [FILE, OTHER] {
        std::fs::write(format!("{directory}/{name}"), "x")?;
    }
    for entry in 0..ENTRIES {
        std::fs::write(format!("{directory}/{DIRECTORY}/{entry}.bin"), "x")?;
    }
    Ok(())
}

/// Nanoseconds of each run of the sample. Each is timed by itself, so that runs that follow each
/// other and runs with something in between are measured alike; looking at the clock is part of it.
///
/// # Errors
/// A call that ended in another way than expected, as text.
pub fn time(sample: &Sample) -> Result<Vec<u64>, String> {
    let path = |name: &str| format!("{}/{name}", sample.directory);
    let paths = Paths {
        file: path(FILE),
        other: path(OTHER),
        moved: path(MOVED),
        new: path(NEW),
        new_directory: path(NEW_DIRECTORY),
        directory: path(DIRECTORY),
    };
    let mut times = Vec::with_capacity(sample.rounds as usize);
    for _ in 0..sample.rounds {
        let start = Instant::now();
        let result = run(sample.cost, &paths, sample.denied);
        times.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        result.map_err(|(call, errno)| {
            let ended = errno.map_or("worked".into(), |errno| format!("ended with {errno}"));
            format!("{}: {call} {ended}", sample.cost.name())
        })?;
    }
    Ok(times)
}

struct Paths {
    file: String,
    other: String,
    moved: String,
    new: String,
    new_directory: String,
    directory: String,
}

/// A call that did not end as expected; no errno if it worked.
type Unexpected = (&'static str, Option<Errno>);

fn run(cost: Cost, paths: &Paths, denied: bool) -> Result<(), Unexpected> {
    let check = |call, result: Result<(), Errno>| match result {
        Ok(()) if !denied => Ok(()),
        Err(Errno::ACCESS) if denied => Ok(()),
        other => Err((call, other.err())),
    };
    match cost {
        Cost::Clock => Ok(()),
        Cost::Open => {
            let file = rustix::fs::openat(CWD, &*paths.file, OFlags::RDONLY, Mode::empty());
            check("open", file.map(drop))
        }
        Cost::Stat => check("stat", rustix::fs::stat(&*paths.file).map(drop)),
        Cost::Create => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let created = rustix::fs::openat(CWD, &*paths.new, flags, Mode::from_raw_mode(0o644));
            check("create", created.map(drop))?;
            // Where nothing may be created, the file that is there may not be removed.
            let gone = if denied { &paths.other } else { &paths.new };
            check("unlink", rustix::fs::unlink(&**gone))
        }
        Cost::Rename => {
            let (there, back) = (&*paths.moved, &*paths.other);
            check("rename", rustix::fs::rename(back, there))?;
            let (from, to) = if denied { (back, there) } else { (there, back) };
            check("rename", rustix::fs::rename(from, to))
        }
        Cost::Mkdir => {
            let made = rustix::fs::mkdir(&*paths.new_directory, Mode::from_raw_mode(0o755));
            check("mkdir", made)?;
            let gone = if denied { &paths.directory } else { &paths.new_directory };
            check("rmdir", rustix::fs::rmdir(&**gone))
        }
        Cost::List => check("readdir", list(&paths.directory)),
    }
}

fn list(directory: &str) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let directory = rustix::fs::openat(CWD, directory, flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        entry?;
    }
    Ok(())
}
