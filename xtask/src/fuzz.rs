//! The targets in fuzz/: built and run with cargo-fuzz, whose libFuzzer looks for inputs that end
//! in a panic, take too long or too much memory.
//!
//! A run reads the committed corpus, fuzz/corpus/TARGET, and writes what it finds to
//! target/fuzz/found/TARGET, so that a run leaves the tree as it was. [`Fuzzer::keep`] takes over
//! from there what reaches new code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::host::{self, Task};
use crate::process;
use crate::project::Project;
use crate::tools::Tool;

const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.1",
    // It only starts others.
    options: &["--debug"],
    variables: &[],
};

/// Longest input that is tried. A larger one is hardly worse, and slower.
const MAX_BYTES: usize = 4096;
/// Seconds after which an input counts as a hang. The slowest good ones take a tenth of one on an
/// idle machine.
const HANG: u32 = 25;
/// Megabytes of memory that a target may need.
const MEMORY: u32 = 1024;

/// Names of all targets, sorted.
pub fn targets(project: &Project) -> Result<Vec<String>> {
    let folder = project.root.join("fuzz/targets");
    let mut names = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let name = path.file_stem().context("a target without a name")?;
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Targets that are built.
pub struct Fuzzer<'p> {
    project: &'p Project,
    program: PathBuf,
}

impl<'p> Fuzzer<'p> {
    /// Installs what it takes and builds the targets.
    pub fn build(project: &'p Project) -> Result<Self> {
        host::ensure(&[Task::Fuzz])?;
        let this = Self { project, program: CARGO_FUZZ.install(project)? };
        process::run(&mut this.cargo_fuzz("build"))?;
        Ok(this)
    }

    /// Tries the corpus, then new inputs for some seconds. An error if one of them is bad.
    pub fn run(&self, target: &str, seconds: u64, quiet: bool) -> Result<()> {
        let mut command = self.command(target)?;
        command.arg(self.found(target)?).arg(self.corpus(target)?).arg("--");
        self.limits(&mut command, target)?;
        command.arg(format!("-max_total_time={seconds}"));
        if quiet {
            command.arg("-verbosity=0");
        }
        process::run(&mut command).with_context(|| {
            format!(
                "the target {target} failed; the input is in {}, try it again with\n  \
                 cargo xtask fuzz {target} --input FILE\nA fixed bug leaves a test, and the input \
                 in fuzz/corpus/{target}",
                self.artifacts().display()
            )
        })
    }

    /// Tries one input.
    pub fn input(&self, target: &str, input: &Path) -> Result<()> {
        // cargo-fuzz runs the target in another folder.
        let input = input
            .canonicalize()
            .with_context(|| format!("cannot find the input {}", input.display()))?;
        let mut command = self.command(target)?;
        command.arg(input).arg("--");
        self.limits(&mut command, target)?;
        process::run(&mut command)
    }

    /// Adds to the committed corpus what was found and reaches code that it does not.
    pub fn keep(&self, target: &str) -> Result<()> {
        let mut command = self.command(target)?;
        command.arg(self.corpus(target)?).arg(self.found(target)?).args(["--", "-merge=1"]);
        self.limits(&mut command, target)?;
        process::run(&mut command)
    }

    fn command(&self, target: &str) -> Result<Command> {
        let known = targets(self.project)?;
        if !known.iter().any(|name| name == target) {
            bail!("no fuzz target is named {target:?}; there are {}", known.join(", "));
        }
        let mut command = self.cargo_fuzz("run");
        command.arg(target);
        Ok(command)
    }

    fn cargo_fuzz(&self, task: &str) -> Command {
        let mut command = Command::new(&self.program);
        // No sanitizer: there is no unsafe code in what is tried, and memory is counted by the
        // targets' own allocator.
        command
            .args([task, "--sanitizer", "none", "--codegen-units", "4", "--target-dir"])
            .arg(self.project.target.join("fuzz"))
            .current_dir(&self.project.root)
            // The coverage pass is an option for nightly compilers only.
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTFLAGS");
        for variable in crate::project::OF_CARGO_RUN {
            command.env_remove(variable);
        }
        command
    }

    fn limits(&self, command: &mut Command, target: &str) -> Result<()> {
        let artifacts = self.artifacts();
        fs::create_dir_all(&artifacts)
            .with_context(|| format!("cannot make {}", artifacts.display()))?;
        command
            .arg(format!("-max_len={MAX_BYTES}"))
            .arg(format!("-timeout={HANG}"))
            .arg(format!("-rss_limit_mb={MEMORY}"))
            .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()));
        let words = self.project.root.join(format!("fuzz/dictionaries/{target}.dict"));
        if words.exists() {
            command.arg(format!("-dict={}", words.display()));
        }
        Ok(())
    }

    fn corpus(&self, target: &str) -> Result<PathBuf> {
        let corpus = self.project.root.join("fuzz/corpus").join(target);
        let filled = fs::read_dir(&corpus).is_ok_and(|mut entries| entries.next().is_some());
        ensure!(filled, "there is no corpus in {}", corpus.display());
        Ok(corpus)
    }

    fn found(&self, target: &str) -> Result<PathBuf> {
        let found = self.project.target.join("fuzz/found").join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        Ok(found)
    }

    fn artifacts(&self) -> PathBuf {
        self.project.target.join("fuzz/artifacts")
    }
}
