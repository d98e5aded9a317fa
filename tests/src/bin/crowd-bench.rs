//! The crowd bench: how fast guests start when many are wanted, and what memory one takes that
//! waits, beside `wasmtime run`.
//!
//! Runs as root in a VM with `wasi-guard`, `wasmtime` and [`GUEST`] (`cargo xtask bench crowd`).
//! Memory of the processes is their share of what they have mapped (`Pss`); of crowds that are large
//! enough to stand out from the machine's own needs, `MemAvailable` of the whole machine is taken
//! before and after as well. Numbers as arguments take the place of [`CROWDS`].
//! Prints one JSON object a line.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use wasi_guard_tests::report;

/// Says `started`, then waits for its standard input.
const GUEST: &str = "/guests/endless.wasm";
const CROWDS: [usize; 3] = [1, 100, 1000];
/// Crowds of one are small and quick, so there are more of them.
const FEW: usize = 10;
/// Crowds below this are lost in what the machine itself takes and gives back.
const MANY: usize = 20;
/// Starts at a time: more only wait for each other.
const AT_ONCE: usize = 4;

struct Tool {
    name: &'static str,
    words: &'static [&'static str],
    /// How many there are for each guest: a supervisor and its worker, or one.
    processes: usize,
}

const TOOLS: [Tool; 2] = [
    Tool {
        name: "wasi-guard",
        words: &["run", "--audit", "/dev/null", GUEST, "stdin"],
        processes: 2,
    },
    Tool { name: "wasmtime", words: &["run", GUEST, "stdin"], processes: 1 },
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crowd-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let number = |word: String| word.parse().with_context(|| format!("{word} is no number"));
    let mut crowds: Vec<usize> = std::env::args().skip(1).map(number).collect::<Result<_>>()?;
    if crowds.is_empty() {
        crowds.extend(CROWDS);
    }
    for tool in &TOOLS {
        // Loads the programs and fills the cache.
        drop(Crowd::start(tool, 1)?);
        for size in crowds.iter().copied() {
            let repeats = if size == 1 { FEW } else { 1 };
            let (mut time, mut memory, mut processes) = (Duration::ZERO, 0, 0);
            for _ in 0..repeats {
                let before = settled()?;
                let start = Instant::now();
                let crowd = Crowd::start(tool, size)?;
                time += start.elapsed();
                memory += before.saturating_sub(settled()?);
                processes += crowd.processes(tool)?;
                drop(crowd);
            }
            let guests = (size * repeats) as f64;
            let labels = |what| {
                [("tool", tool.name.to_owned()), ("guests", size.to_string()), ("what", what)]
            };
            let print = |what: &str, value: f64, unit: &str| {
                let labels = labels(what.to_owned());
                let labels: Vec<_> =
                    labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
                report::print(&labels, value, unit);
            };
            print(
                "starts",
                (guests / time.as_secs_f64() * 100.0).round() / 100.0,
                "guests per second",
            );
            print("processes", (processes as f64 / guests).round(), "bytes");
            if size >= MANY {
                print("memory", (memory as f64 / guests).round(), "bytes");
            }
        }
    }
    Ok(())
}

/// Guests that wait; they end when this is dropped.
struct Crowd(Vec<Child>);

impl Crowd {
    /// Starts so many, and returns when all of them have said that they run.
    fn start(tool: &Tool, size: usize) -> Result<Self> {
        let share = |lane: usize| size / AT_ONCE + usize::from(lane < size % AT_ONCE);
        let lanes: Vec<Result<Self>> = thread::scope(|scope| {
            let lanes: Vec<_> = (0..AT_ONCE)
                .map(|lane| {
                    scope.spawn(move || {
                        let mut crowd = Self(Vec::new());
                        for _ in 0..share(lane) {
                            crowd.0.push(one(tool)?);
                        }
                        Ok(crowd)
                    })
                })
                .collect();
            lanes
                .into_iter()
                .map(|lane| {
                    lane.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
                })
                .collect()
        });
        let mut all = Self(Vec::new());
        for lane in lanes {
            all.0.append(&mut lane?.0);
        }
        ensure!(all.0.len() == size, "{} of {size} guests", all.0.len());
        Ok(all)
    }

    /// Bytes that its processes have mapped, each page shared out among all who have it.
    fn processes(&self, tool: &Tool) -> Result<u64> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").context("list the processes")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has just ended has no status any more.
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            let Some(parent) = parent.and_then(|text| text.trim().parse().ok()) else { continue };
            children.entry(parent).or_default().push(pid);
        }
        let mut bytes = 0;
        for child in &self.0 {
            let first = child.id();
            let others = children.get(&first).map_or(&[][..], Vec::as_slice);
            let found = 1 + others.len();
            ensure!(found == tool.processes, "{} has {found} processes", tool.name);
            for pid in others.iter().chain([&first]) {
                bytes += share(*pid)?;
            }
        }
        Ok(bytes)
    }
}

/// `Pss` of a process.
fn share(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    kibibytes(&text, "Pss:").with_context(|| format!("{path} has no Pss"))
}

/// The bytes that a line with this name tells.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn one(tool: &Tool) -> Result<Child> {
    let mut child = Command::new(tool.name)
        .args(tool.words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .with_context(|| format!("start {}", tool.name))?;
    let stdout = child.stdout.as_mut().context("a pipe")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("hear from the guest")?;
    ensure!(line == "started\n", "{} said {line:?}", tool.name);
    Ok(child)
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // As a service ends one; wasmtime is ended by it at once.
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_child(child),
                rustix::process::Signal::TERM,
            );
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// What is [`available`] when it changes no more: namespaces and cgroups are freed behind the backs
/// of those who wait for a process.
fn settled() -> Result<u64> {
    const STEP: Duration = Duration::from_millis(500);
    const NOISE: u64 = 128 << 10;
    let mut last = available()?;
    for _ in 0..20 {
        thread::sleep(STEP);
        let now = available()?;
        if now.abs_diff(last) < NOISE {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// Bytes that programs could still have (`MemAvailable`): what the kernel has for itself is gone
/// from it as well.
fn available() -> Result<u64> {
    // Processors keep free pages and differences of counters for themselves: mm/vmstat.c folds the
    // latter when its file is read, and compaction drains the former.
    fs::write("/proc/sys/vm/compact_memory", "1").context("write compact_memory")?;
    fs::read("/proc/sys/vm/stat_refresh").context("read stat_refresh")?;
    let text = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    kibibytes(&text, "MemAvailable:").context("/proc/meminfo has no MemAvailable")
}
