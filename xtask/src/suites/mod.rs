//! All tests of the project, as one list: what `cargo xtask test` runs.
//!
//! Each suite counts what passed and what failed. Nothing is skipped: a host that cannot run a
//! suite fails it.

mod checks;
mod fuzz;
mod inside;
mod unit;

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::project::Project;
use crate::vm::{FileSet, Lab, Series};

/// One suite.
pub struct Suite {
    /// What a filter matches.
    pub name: &'static str,
    /// What it shows, in a line.
    pub what: &'static str,
    run: fn(&Context) -> Result<Counts>,
}

/// The list. Quick ones first; those in VMs last, as they need everything built.
pub const SUITES: &[Suite] = &[
    suite("format", "all Rust code is formatted", checks::format),
    suite(
        "manifests",
        "manifests agree on the Rust version, which is the one used",
        checks::manifests,
    ),
    suite("clippy", "no warning in any target", checks::clippy),
    suite("deny", "licenses, sources and bans of all dependencies", checks::deny),
    suite("docs", "generated pages are up to date", checks::docs),
    suite("unit", "unit, command line and documentation tests", unit::run),
    suite("fuzz", "hostile inputs, from a corpus and new ones", fuzz::run),
    suite("bpf", "the BPF object belongs to its sources", checks::bpf),
    suite("kernel-6.1", "hooks and verdicts on Linux 6.1", |c| inside::kernel(c, Series::V6_1)),
    suite("kernel-6.12", "hooks and verdicts on Linux 6.12", |c| inside::kernel(c, Series::V6_12)),
    suite("hidden-6.1", "verdicts where the kernel hides its addresses, on Linux 6.1", |c| {
        inside::hidden(c, Series::V6_1)
    }),
    suite("guest-6.1", "real guests under policies on Linux 6.1", |c| {
        inside::guest(c, Series::V6_1)
    }),
    suite("guest-6.12", "real guests under policies on Linux 6.12", |c| {
        inside::guest(c, Series::V6_12)
    }),
    suite("faults-6.1", "killed or refused at every step, on Linux 6.1", |c| {
        inside::faults(c, Series::V6_1)
    }),
    suite("faults-6.12", "killed or refused at every step, on Linux 6.12", |c| {
        inside::faults(c, Series::V6_12)
    }),
    suite("escape-6.1", "native code in a worker on Linux 6.1", |c| {
        inside::escape(c, Series::V6_1)
    }),
    suite("escape-6.12", "native code in a worker on Linux 6.12", |c| {
        inside::escape(c, Series::V6_12)
    }),
];

const fn suite(
    name: &'static str,
    what: &'static str,
    run: fn(&Context) -> Result<Counts>,
) -> Suite {
    Suite { name, what, run }
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
    lab: OnceCell<Lab>,
    guest_files: OnceCell<FileSet>,
    fault_files: OnceCell<FileSet>,
}

impl Context {
    /// For a project.
    pub fn new(project: Project) -> Self {
        Self {
            project,
            lab: OnceCell::new(),
            guest_files: OnceCell::new(),
            fault_files: OnceCell::new(),
        }
    }

    fn lab(&self) -> Result<&Lab> {
        if self.lab.get().is_none() {
            let _ = self.lab.set(Lab::open(&self.project)?);
        }
        self.lab.get().context("the VMs are not prepared")
    }

    /// What the guest suite and the escape suite need in their machines.
    fn guest_files(&self) -> Result<&FileSet> {
        if self.guest_files.get().is_none() {
            let _ = self.guest_files.set(inside::guest_files(&self.project)?);
        }
        self.guest_files.get().context("the guest suite is not built")
    }

    /// What the fault suite needs in its machine.
    fn fault_files(&self) -> Result<&FileSet> {
        if self.fault_files.get().is_none() {
            let _ = self.fault_files.set(inside::fault_files(&self.project)?);
        }
        self.fault_files.get().context("the fault suite is not built")
    }
}

/// Runs all suites whose name contains `filter`, prints a summary, and returns the total. An
/// error only if no suite has such a name.
pub fn run(context: &Context, filter: &str) -> Result<Counts> {
    let chosen: Vec<_> = SUITES.iter().filter(|suite| suite.name.contains(filter)).collect();
    ensure!(!chosen.is_empty(), "no suite is named like {filter:?}; see `cargo xtask test --list`");
    let start = Instant::now();
    let mut total = Counts::default();
    let mut rows = Vec::new();
    for suite in chosen {
        println!("\n=== {}: {} ===", suite.name, suite.what);
        let start = Instant::now();
        let counts = match (suite.run)(context) {
            // Nothing ran, so nothing was shown.
            Ok(Counts { passed: 0, failed: 0 }) => {
                println!("FAILED {}: it ran no test", suite.name);
                Counts { passed: 0, failed: 1 }
            }
            Ok(counts) => counts,
            Err(error) => {
                println!("FAILED {}: {error:#}", suite.name);
                Counts { passed: 0, failed: 1 }
            }
        };
        total.add(counts);
        rows.push((suite.name, counts, start.elapsed()));
    }
    println!("\n{:<14}{:>8}{:>8}{:>10}", "suite", "passed", "failed", "seconds");
    for (name, counts, time) in &rows {
        row(name, *counts, *time);
    }
    row("all", total, start.elapsed());
    Ok(total)
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
