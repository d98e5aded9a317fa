//! The start bench: how long a hello-world guest takes from start to end, beside `wasmtime run`.
//!
//! Runs as root in a VM with `wasi-guard`, `wasmtime` and `/hello` (`cargo xtask bench start`).
//! The tools take turns, so that what the machine is busy with besides meets both, and the median
//! counts, so that one delay of the host does not. Prints one JSON object a line.
//!
//! With the word `counted`, in a machine whose clock counts instructions: how many those are.

use std::{
    fs,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use wasi_guard_tests::report;

const WARM: usize = 31;
const COLD: usize = 5;
/// They hardly differ.
const COUNTED: usize = 7;
/// Before each start: what the one before left to the kernel's workers, as a network namespace that
/// goes, is not to meet this one.
const SETTLE: Duration = Duration::from_millis(200);
const GUEST: &str = "/hello/hello.wat";

struct Tool {
    name: &'static str,
    words: &'static [&'static str],
    /// Where it keeps compiled modules.
    cache: &'static str,
}

const TOOLS: [Tool; 2] = [
    Tool {
        name: "wasi-guard",
        words: &["run", "--policy", "/hello/hello.toml", GUEST],
        cache: "/var/cache/wasi-guard",
    },
    // Its cache is on unless a configuration says otherwise.
    Tool { name: "wasmtime", words: &["run", GUEST], cache: "/var/cache/wasmtime" },
];

/// Where programs lie, and the number for that (Documentation/admin-guide/sysctl/kernel.rst). An
/// emulator translates code anew for each address at which it meets it, which a processor does not:
/// with random addresses that is most of the time that a small program takes.
const ADDRESSES: [(&str, &str); 2] = [("random", "2"), ("fixed", "0")];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("start-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => timed(),
        [word] if word == "counted" => counted(),
        words => bail!("{words:?} says nothing: the only word is `counted`"),
    }
}

/// Where programs lie; and everything is loaded that is loaded once.
fn prepare(addresses: &str) -> Result<()> {
    fs::write("/proc/sys/kernel/randomize_va_space", addresses)
        .context("choose where programs lie")?;
    // Page cache, pinned programs: not part of a cold start of the cache.
    TOOLS.iter().try_for_each(|tool| tool.start().map(drop))
}

fn counted() -> Result<()> {
    let (_, number) = ADDRESSES[1];
    prepare(number)?;
    for (tool, time) in TOOLS.iter().zip(medians(COUNTED, Tool::start)?) {
        let labels = [("tool", tool.name), ("cache", "warm"), ("clock", "instructions")];
        // One is a nanosecond of such a machine (qemu's -icount shift=0).
        report::print(&labels, time.as_nanos() as f64, "instructions");
    }
    Ok(())
}

fn timed() -> Result<()> {
    for (addresses, number) in ADDRESSES {
        prepare(number)?;
        let cold = medians(COLD, |tool| {
            fs::remove_dir_all(tool.cache).with_context(|| format!("remove {}", tool.cache))?;
            tool.start()
        })?;
        let warm = medians(WARM, Tool::start)?;
        for (cache, times) in [("cold", cold), ("warm", warm)] {
            for (tool, time) in TOOLS.iter().zip(times) {
                let labels = [("tool", tool.name), ("cache", cache), ("addresses", addresses)];
                report::print(&labels, (time.as_secs_f64() * 1e5).round() / 100.0, "ms");
            }
        }
    }
    Ok(())
}

/// The median time of each tool.
fn medians(count: usize, time: impl Fn(&Tool) -> Result<Duration>) -> Result<Vec<Duration>> {
    let mut times = vec![Vec::new(); TOOLS.len()];
    for _ in 0..count {
        for (tool, times) in TOOLS.iter().zip(&mut times) {
            times.push(time(tool)?);
        }
    }
    Ok(times
        .into_iter()
        .map(|mut times| {
            times.sort();
            times[times.len() / 2]
        })
        .collect())
}

impl Tool {
    /// From start to end of one guest.
    fn start(&self) -> Result<Duration> {
        std::thread::sleep(SETTLE);
        let begun = Instant::now();
        let output = Command::new(self.name)
            .args(self.words)
            // wasmtime's is below it (XDG Base Directory Specification).
            .env("XDG_CACHE_HOME", "/var/cache")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", self.name))?;
        let time = begun.elapsed();
        ensure!(
            output.status.success() && output.stdout == b"hello\n",
            "{}: {output:?}",
            self.name
        );
        Ok(time)
    }
}
