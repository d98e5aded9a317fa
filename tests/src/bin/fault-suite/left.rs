//! What is left on the machine.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use wasi_guard_enforce::{
    cgroup,
    collect::{self, Collected},
    programs::{BPFFS, Build, HostLock, Pins},
};

/// What the names of directories of unfinished pins begin with.
const UNFINISHED: &str = "wasi-guard-new-";
/// Where supervisors' sockets are.
const SOCKETS: &str = "/run/wasi-guard/guests";
/// How long killed processes may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of everything that guests, supervisors or loaders left, of any build.
pub(crate) fn everything() -> Result<Vec<String>> {
    let mut left = Vec::new();
    for parent in fs::read_dir(cgroup::MOUNT)?.flatten() {
        if parent.file_name().to_string_lossy().starts_with("wasi-guard-") {
            let children = fs::read_dir(parent.path())?.flatten();
            let directories = children.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
            left.extend(directories.map(|it| it.path().display().to_string()));
        }
    }
    for build in [Build::this(false), Build::other()] {
        if let Some(pins) = Pins::take(&build)? {
            left.extend(pins.guests().iter().map(|id| format!("entry of {id}")));
            left.extend(pins.pinned_tables().iter().map(|it| it.display().to_string()));
        }
    }
    let pins = fs::read_dir(BPFFS).context("list the pins")?.flatten();
    let names = pins.map(|it| it.file_name().to_string_lossy().into_owned());
    left.extend(names.filter(|name| name.starts_with(UNFINISHED)));
    if Path::new(SOCKETS).exists() {
        left.extend(fs::read_dir(SOCKETS)?.flatten().map(|it| it.path().display().to_string()));
    }
    Ok(left)
}

/// An error if anything is left.
pub(crate) fn nothing() -> Result<()> {
    let left = everything()?;
    ensure!(left.is_empty(), "left: {left:?}");
    // Some wait for the kernel when their supervisor has ended.
    wait_for_the_end_of("wasi-guard-faults")
}

/// Processes whose executable has this name.
pub(crate) fn processes(name: &str) -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    let numbers = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    let ours =
        |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with(name));
    Ok(numbers.filter(ours).collect())
}

/// Waits until no such process is left.
pub(crate) fn wait_for_the_end_of(name: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let left = processes(name)?;
        if left.is_empty() {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "{name} lives on: {left:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What `wasi-guard gc` does.
pub(crate) fn collect() -> Result<Collected> {
    let lock = HostLock::take()?;
    Ok(collect::collect(&lock)?)
}
