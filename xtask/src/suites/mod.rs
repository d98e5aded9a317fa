//! All tests of the project, as one list: what `cargo xtask test` runs.
//!
//! Each suite counts what passed and what failed. Nothing is skipped: a host that cannot run a
//! suite fails it.

mod checks;
mod fuzz;
mod inside;
mod unit;
mod voice;

use std::num::NonZero;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use inside::{Inside, Program};
use voice::Voice;

use crate::project::Project;
use crate::vm::{FileSet, Lab, Series};

/// One suite.
pub struct Suite {
    /// What a filter matches.
    pub name: &'static str,
    /// What it shows, in a line.
    pub what: &'static str,
    place: Place,
}

/// Where a suite runs.
enum Place {
    /// Here, with the whole host for itself.
    Host(fn(&Context) -> Result<Counts>),
    /// In a machine, beside others.
    Machine(Inside),
}

/// The list. Quick ones first; those in VMs last, as they need everything built, and of these the
/// long ones first.
pub const SUITES: &[Suite] = &[
    host("format", "all Rust code is formatted", checks::format),
    host(
        "manifests",
        "manifests agree on the Rust version, which is the one used",
        checks::manifests,
    ),
    host("clippy", "no warning in any target", checks::clippy),
    host("deny", "licenses, sources and bans of all dependencies", checks::deny),
    host("docs", "generated pages are up to date", checks::docs),
    host("unit", "unit, command line and documentation tests", unit::run),
    host("fuzz", "hostile inputs, from a corpus and new ones", fuzz::run),
    host("bpf", "the BPF object belongs to its sources", checks::bpf),
    new("guest-6.12", "real guests under policies on Linux 6.12", Program::Guest),
    old("guest-6.1", "real guests under policies on Linux 6.1", Program::Guest),
    new("faults-6.12", "killed or refused at every step, on Linux 6.12", Program::Faults),
    old("faults-6.1", "killed or refused at every step, on Linux 6.1", Program::Faults),
    new("escape-6.12", "native code in a worker on Linux 6.12", Program::Escape),
    old("escape-6.1", "native code in a worker on Linux 6.1", Program::Escape),
    new("kernel-6.12", "hooks and verdicts on Linux 6.12", Program::Kernel),
    old("kernel-6.1", "hooks and verdicts on Linux 6.1", Program::Kernel),
    old(
        "hidden-6.1",
        "verdicts where the kernel hides its addresses, on Linux 6.1",
        Program::Hidden,
    ),
];

const fn host(
    name: &'static str,
    what: &'static str,
    run: fn(&Context) -> Result<Counts>,
) -> Suite {
    Suite { name, what, place: Place::Host(run) }
}

const fn old(name: &'static str, what: &'static str, program: Program) -> Suite {
    Suite { name, what, place: Place::Machine(Inside { series: Series::V6_1, program }) }
}

const fn new(name: &'static str, what: &'static str, program: Program) -> Suite {
    Suite { name, what, place: Place::Machine(Inside { series: Series::V6_12, program }) }
}

/// How a suite ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, and what kept others from running.
    pub failed: u64,
}

impl Counts {
    const ONE_PASSED: Self = Self { passed: 1, failed: 0 };

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What suites share, made when the first of them needs it.
pub struct Context {
    project: Project,
    lab: OnceLock<Lab>,
    kernel_files: OnceLock<FileSet>,
    guest_files: OnceLock<FileSet>,
    fault_files: OnceLock<FileSet>,
    failures: Mutex<Vec<String>>,
}

impl Context {
    /// For a project.
    pub fn new(project: Project) -> Self {
        Self {
            project,
            lab: OnceLock::new(),
            kernel_files: OnceLock::new(),
            guest_files: OnceLock::new(),
            fault_files: OnceLock::new(),
            failures: Mutex::default(),
        }
    }

    /// Keeps what failed, to be said again at the end: between it and the end lie thousands of
    /// lines, of which a log may keep the last ones only.
    fn keep_failure(&self, suite: &str, line: &str) {
        let line = format!("{suite}: {line}");
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn lab(&self) -> Result<&Lab> {
        made(&self.lab, || Lab::open(&self.project))
    }

    fn kernel_files(&self) -> Result<&FileSet> {
        made(&self.kernel_files, || inside::kernel_files(&self.project))
    }

    fn guest_files(&self) -> Result<&FileSet> {
        made(&self.guest_files, || inside::guest_files(&self.project))
    }

    fn fault_files(&self) -> Result<&FileSet> {
        made(&self.fault_files, || inside::fault_files(&self.project))
    }
}

fn made<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// Counts of a suite and how long it took.
type Row = (&'static str, Counts, Duration);

/// Runs all suites whose name contains `filter`, prints a summary, and returns the total. An
/// error only if no suite has such a name.
pub fn run(context: &Context, filter: &str) -> Result<Counts> {
    let chosen: Vec<_> = SUITES.iter().filter(|suite| suite.name.contains(filter)).collect();
    ensure!(!chosen.is_empty(), "no suite is named like {filter:?}; see `cargo xtask test --list`");
    let start = Instant::now();
    let mut rows = Vec::new();
    let mut waiting = Vec::new();
    for &suite in &chosen {
        match &suite.place {
            Place::Host(run) => {
                println!("\n=== {}: {} ===", suite.name, suite.what);
                let start = Instant::now();
                rows.push(finished(context, suite, start, run(context)));
            }
            Place::Machine(inside) => waiting.push((suite, *inside)),
        }
    }
    rows.extend(in_machines(context, &waiting));
    let mut total = Counts::default();
    println!("\n{:<14}{:>8}{:>8}{:>10}", "suite", "passed", "failed", "seconds");
    for (name, counts, time) in &rows {
        total.add(*counts);
        row(name, *counts, *time);
    }
    row("all", total, start.elapsed());
    let failures = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
    if !failures.is_empty() {
        println!("\nwhat failed:\n{}", failures.join("\n"));
    }
    Ok(total)
}

/// Each has its memory.
const MACHINES: usize = 4;

/// Runs suites in as many machines at a time as there are processors, [`MACHINES`] at most.
fn in_machines(context: &Context, suites: &[(&Suite, Inside)]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut ready = Vec::new();
    for &(suite, inside) in suites {
        println!("\n=== {}: {} ===", suite.name, suite.what);
        let start = Instant::now();
        // One after the other: builds take the whole host.
        let prepared = context.lab().and_then(|lab| lab.prepare(inside.series));
        match prepared.and_then(|()| inside.program.files(context)) {
            Ok(_) => ready.push((suite, inside)),
            Err(error) => rows.push(finished(context, suite, start, Err(error))),
        }
    }
    let done = Mutex::new(rows);
    at_once(ready, MACHINES, |(suite, inside)| {
        let start = Instant::now();
        let result = inside.run(context, &Voice::new(suite.name));
        let row = finished(context, suite, start, result);
        done.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Does something with each item, as many at a time as there are processors, `most` at most.
fn at_once<T: Send>(items: Vec<T>, most: usize, each: impl Fn(T) + Sync) {
    let lanes = thread::available_parallelism().map_or(1, NonZero::get).min(most);
    let queue = Mutex::new(items.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(item) = next() {
                    each(item);
                }
            });
        }
    });
}

fn finished(context: &Context, suite: &Suite, start: Instant, result: Result<Counts>) -> Row {
    let problem = match result {
        // Nothing ran, so nothing was shown.
        Ok(Counts { passed: 0, failed: 0 }) => "it ran no test".to_owned(),
        Ok(counts) => return (suite.name, counts, start.elapsed()),
        Err(error) => format!("{error:#}"),
    };
    println!("FAILED {}: {problem}", suite.name);
    context.keep_failure(suite.name, &problem);
    (suite.name, Counts { passed: 0, failed: 1 }, start.elapsed())
}

fn row(name: &str, counts: Counts, time: Duration) {
    println!("{name:<14}{:>8}{:>8}{:>10.1}", counts.passed, counts.failed, time.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_different_names() {
        for (at, suite) in SUITES.iter().enumerate() {
            assert!(SUITES[..at].iter().all(|other| other.name != suite.name), "{}", suite.name);
        }
    }
}
