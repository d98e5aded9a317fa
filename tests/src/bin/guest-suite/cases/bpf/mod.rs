//! Guests that load eBPF objects, with `bpf_tool`, whose arguments are what it does.

pub(super) mod coverage;
pub(super) mod denials;
pub(super) mod ends;
pub(super) mod imports;
pub(super) mod maps;
pub(super) mod own;
pub(super) mod samples;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::maps::loaded_maps;
use aya::programs::{loaded_links, loaded_programs};
use rustix::process::Pid;

use crate::lab::Folder;
use crate::program::{Live, Outcome, guarded};

pub(crate) use self::own::connect_if_asked;

/// The tool.
const TOOL: &str = "/guests/bpf_tool.wasm";

/// Grants whatever can be granted.
const EVERYTHING: &str = r#"[bpf]
scope = "host"
programs = [
    "tracepoint", "raw_tracepoint", "tp_btf", "fentry", "fexit", "kprobe", "kretprobe", "uprobe",
    "uretprobe", "perf_event", "socket_filter", "sock_ops", "cgroup_skb", "cgroup_sock",
    "cgroup_sock_addr", "xdp", "tc", "lsm",
]
tracepoints = ["*/*"]
raw_tracepoints = ["*"]
functions = ["*"]
uprobes = ["/**:*"]
perf_events = ["*"]
cgroups = ["**"]
interfaces = ["*"]
lsm_hooks = ["*"]
helpers = ["bpf_send_signal"]
max_programs = 64
max_maps = 64
map_bytes = "64MiB"
"#;

/// What a guest does, and what it says of it. `+` at the end stands for some number above 0, `*` for
/// anything.
type Steps<'s> = &'s [(&'s str, &'s str)];

/// Writes a policy with the objects as its first preopen.
fn policy(folder: &Folder, name: &str, rest: &str) -> Result<String> {
    let objects = "[[preopen]]\nguest = \"/objects\"\nhost = \"/objects\"\nread = [\"**\"]\n";
    folder.file(name, format!("version = 1\n{objects}{rest}"))
}

/// The words for a run of the tool.
fn words<'s>(policy: &'s str, options: &[&'s str], steps: Steps<'s>) -> Vec<&'s str> {
    let steps = steps.iter().flat_map(|(step, _)| step.split_whitespace());
    let mut words = vec!["run", "--policy", policy];
    words.extend(options);
    words.push(TOOL);
    words.extend(steps);
    words
}

/// A run of the tool, to its end: it exits with 0 and says what is expected.
fn run(policy: &str, options: &[&str], steps: Steps<'_>) -> Result<Outcome> {
    let outcome = guarded(&words(policy, options, steps)).finish()?;
    outcome.exits(0)?;
    says(&outcome, steps)?;
    Ok(outcome)
}

/// The tool at work; it stops at its steps `pause WORD`.
fn start(policy: &str, steps: Steps<'_>) -> Result<Live> {
    guarded(&words(policy, &[], steps)).start()
}

/// The end of a run with pauses.
fn finish(live: Live, steps: Steps<'_>) -> Result<Outcome> {
    let outcome = live.finish()?;
    outcome.exits(0)?;
    says(&outcome, steps)?;
    Ok(outcome)
}

/// The guest said what is expected of each step; steps that say nothing have an empty text. Samples
/// stand between.
fn says(outcome: &Outcome, steps: Steps<'_>) -> Result<()> {
    let mut lines = outcome.stdout.lines().filter(|line| !line.starts_with("sample "));
    for (step, expected) in steps.iter().filter(|(_, expected)| !expected.is_empty()) {
        let line = lines.next().with_context(|| format!("nothing of {step:?}: {outcome:?}"))?;
        ensure!(fits(line, expected), "{step:?}: {line:?} instead of {expected:?}: {outcome:?}");
    }
    let rest: Vec<_> = lines.collect();
    ensure!(rest.is_empty(), "the guest also said {rest:?}: {outcome:?}");
    Ok(())
}

fn fits(line: &str, expected: &str) -> bool {
    if let Some(begin) = expected.strip_suffix('*') {
        return line.starts_with(begin);
    }
    match expected.strip_suffix('+') {
        Some(begin) => {
            line.strip_prefix(begin).is_some_and(|it| it.parse().is_ok_and(|it: u64| it > 0))
        }
        None => line == expected,
    }
}

/// What the lookups of numbers of 64 bits found.
fn numbers(outcome: &Outcome) -> Result<Vec<u64>> {
    let values = outcome.stdout.lines().filter_map(|line| line.strip_prefix("lookup 0 "));
    let number = |value: &str| Ok(u64::from_str_radix(value, 16).map(u64::swap_bytes)?);
    values.map(number).collect()
}

/// The texts of the samples.
fn samples(outcome: &Outcome) -> Vec<&str> {
    let lines = outcome.stdout.lines().filter(|line| line.starts_with("sample "));
    lines.filter_map(|line| line.split(' ').nth(2)).collect()
}

/// Calls getpgid(2) with numbers that no process has.
fn call(numbers: std::ops::Range<i32>) {
    for number in numbers {
        // Whatever it answers.
        let _ = rustix::process::getpgid(Pid::from_raw(number));
    }
}

/// The C library of this program, whose functions it calls.
fn libc_path() -> Result<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").context("read the mappings")?;
    let line = maps.lines().find(|line| line.contains("/libc.so") || line.contains("/libc-"));
    let path = line.and_then(|line| line.split_whitespace().nth(5)).context("no C library")?;
    Ok(path.into())
}

/// What the kernel has of BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Loaded {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Loaded {
    /// What there is without a guest. Those that guard guests are loaded.
    fn before() -> Result<Self> {
        guarded(&["run", "/guests/hello.wasm"]).finish()?.exits(0)?;
        // What is gone with its last descriptor goes a little later.
        let mut last = Self::now();
        let start = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = Self::now();
            match (&last, now) {
                (Ok(last), Ok(now)) if *last == now => return Ok(now),
                (_, now) => last = now,
            }
            ensure!(start.elapsed() < Duration::from_secs(20), "it changes all the time: {last:?}");
        }
    }

    fn now() -> Result<Self> {
        Ok(Self {
            programs: loaded_programs()
                .map(|it| it.map(|it| it.id()))
                .collect::<Result<_, _>>()
                .context("list the programs")?,
            maps: loaded_maps()
                .map(|it| it.map(|it| it.id()))
                .collect::<Result<_, _>>()
                .context("list the maps")?,
            links: loaded_links()
                .map(|it| it.map(|it| it.id()))
                .collect::<Result<_, _>>()
                .context("list the links")?,
        })
    }

    /// Nothing is left of what came since.
    fn is_back(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = Self::now();
            if now.as_ref().is_ok_and(|now| now == self) {
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(10), "{self:?}, and now {now:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
