//! What a guest may use up, by the controllers of its cgroup, and what these did to it.

use std::{fs, path::Path, time::Duration};

pub use wasi_guard_policy::DiskLimits;

use super::{MOUNT, set};
use crate::error::{Error, Result};

/// CPU time is shared out in periods of this many microseconds.
const CPU_PERIOD: u64 = 100_000;

/// The cgroup limits of a guest; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// `memory.max` in bytes; swap is off where this is set.
    pub memory: Option<u64>,
    /// `cpu.max` in CPUs.
    pub cpu: Option<f64>,
    /// `pids.max`: threads, the worker's own among them.
    pub pids: Option<u64>,
    /// `io.max`.
    pub disks: Disks,
}

/// Disks and what may go to and from each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disks {
    /// Device numbers, major and minor, of whole disks: the kernel takes no partitions here.
    pub numbers: Vec<(u32, u32)>,
    /// The bounds.
    pub limits: DiskLimits,
}

impl Limits {
    fn controllers(&self) -> Vec<&'static str> {
        let disks = !self.disks.numbers.is_empty();
        // Whose data is written back is known by the memory that it was in (cgroup-v2.rst,
        // "Writeback"): without this controller, writing has no limit.
        let written = disks && self.disks.limits.of_writing();
        let needed = [
            ("memory", self.memory.is_some() || written),
            ("cpu", self.cpu.is_some()),
            ("pids", self.pids.is_some()),
            ("io", disks),
        ];
        needed.into_iter().filter(|(_, needed)| *needed).map(|(name, _)| name).collect()
    }
}

/// Makes the controllers that `limits` needs available to the children of `parent`.
pub(super) fn enable(parent: &Path, limits: &Limits) -> Result<()> {
    for controller in limits.controllers() {
        for dir in [Path::new(MOUNT), parent] {
            let file = dir.join("cgroup.subtree_control");
            let enabled = fs::read_to_string(&file).unwrap_or_default();
            if enabled.split_whitespace().any(|word| word == controller) {
                continue;
            }
            fs::write(&file, format!("+{controller}")).map_err(|error| {
                Error::new(format!("enable the cgroup controller {controller}"))
                    .because(error)
                    .hint(format!(
                        "the policy's [limits] need it; see {MOUNT}/cgroup.controllers for what the host offers (a kernel option or cgroup v1 may hold it)"
                    ))
            })?;
        }
    }
    Ok(())
}

/// Lifts the limits that are not in `limits`; those of disks stay.
pub(super) fn lift(cgroup: &Path, limits: &Limits) -> Result<()> {
    let absent = [
        ("memory.max", limits.memory.is_none()),
        ("memory.swap.max", limits.memory.is_none()),
        ("cpu.max", limits.cpu.is_none()),
        ("pids.max", limits.pids.is_none()),
    ];
    for (file, _) in absent.iter().filter(|(_, absent)| *absent) {
        // Without its controller the file is not there, and nothing is limited.
        if cgroup.join(file).exists() {
            set(cgroup, file, "max")?;
        }
    }
    Ok(())
}

/// Brings limits into force.
pub(super) fn write(cgroup: &Path, limits: &Limits) -> Result<()> {
    if let Some(bytes) = limits.memory {
        set(cgroup, "memory.max", &bytes.to_string())?;
        // Without swap accounting the file is absent, and then there is no swap to limit.
        if cgroup.join("memory.swap.max").exists() {
            set(cgroup, "memory.swap.max", "0")?;
        }
    }
    if let Some(cpus) = limits.cpu {
        let quota = (cpus * CPU_PERIOD as f64).round().max(1000.0) as u64;
        set(cgroup, "cpu.max", &format!("{quota} {CPU_PERIOD}"))?;
    }
    if let Some(pids) = limits.pids {
        set(cgroup, "pids.max", &pids.to_string())?;
    }
    for number in &limits.disks.numbers {
        set(cgroup, "io.max", &line(*number, limits.disks.limits))?;
    }
    Ok(())
}

/// A line of `io.max` (cgroup-v2.rst, "IO Interface Files").
fn line((major, minor): (u32, u32), limits: DiskLimits) -> String {
    let text = |count: Option<u64>| count.map_or("max".to_owned(), |count| count.to_string());
    format!(
        "{major}:{minor} rbps={} wbps={} riops={} wiops={}",
        text(limits.read_bps),
        text(limits.write_bps),
        text(limits.read_iops),
        text(limits.write_iops)
    )
}

/// What limits did to a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Processes that `memory.max` has killed.
    pub oom_kills: u64,
    /// Threads that `pids.max` has refused.
    pub refused_pids: u64,
    /// How long `cpu.max` has let it wait, all its threads together.
    pub throttled: Duration,
    /// How long one of its threads or more waited for disks (`io.pressure`), for whatever reason:
    /// the kernel does not tell how much of it `io.max` made.
    pub waited_for_disks: Duration,
}

impl Pressure {
    pub(super) fn of(cgroup: &Path) -> Self {
        let count = |file: &str, key: &str| {
            let text = fs::read_to_string(cgroup.join(file)).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find_map(|(word, count)| (word == key).then(|| count.trim().parse().ok())?)
        };
        let waited = fs::read_to_string(cgroup.join("io.pressure")).unwrap_or_default();
        Self {
            oom_kills: count("memory.events", "oom_kill").unwrap_or(0),
            refused_pids: count("pids.events", "max").unwrap_or(0),
            throttled: Duration::from_micros(count("cpu.stat", "throttled_usec").unwrap_or(0)),
            waited_for_disks: Duration::from_micros(stalled(&waited)),
        }
    }
}

/// Microseconds in which some thread waited, of the text of a file like `io.pressure`
/// (Documentation/accounting/psi.rst).
fn stalled(text: &str) -> u64 {
    let some = text.lines().find_map(|line| line.strip_prefix("some "));
    let total = some.and_then(|line| line.split(' ').find_map(|word| word.strip_prefix("total=")));
    total.and_then(|total| total.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_all_four_bounds() {
        let limits =
            DiskLimits { read_bps: Some(1 << 20), write_iops: Some(7), ..Default::default() };
        assert_eq!(line((254, 16), limits), "254:16 rbps=1048576 wbps=max riops=max wiops=7");
    }

    #[test]
    fn writing_takes_the_memory_controller() {
        let with = |limits: DiskLimits, numbers: &[(u32, u32)]| {
            let disks = Disks { numbers: numbers.to_vec(), limits };
            Limits { disks, ..Limits::default() }.controllers()
        };
        let read = DiskLimits { read_bps: Some(1), ..DiskLimits::default() };
        let write = DiskLimits { write_iops: Some(1), ..DiskLimits::default() };
        assert_eq!(with(read, &[(1, 2)]), ["io"]);
        assert_eq!(with(write, &[(1, 2)]), ["memory", "io"]);
        assert_eq!(with(write, &[]), [""; 0]);
    }

    #[test]
    fn pressure_is_the_total_of_some() {
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        assert_eq!(stalled(text), 1234);
        assert_eq!(stalled(""), 0);
    }
}
