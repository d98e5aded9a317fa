//! `cargo xtask demo`: a guest under a policy, in front of one's eyes.
//!
//! This part finds a kernel that can enforce and gathers the files; what is shown is in the
//! program `run-demo` of the crate wasi-guard-tests. It is started with its own folder as the
//! current one, which holds `guests/` and `policies/`, with `wasi-guard` on PATH, and its status
//! is the demo's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use xtask::project::Project;
use xtask::vm::{self, FileSet, Lab, Options, Series};
use xtask::{guests, process};

/// See a guest run under policies/demo.toml: what it may, what it tries, what the kernel says
///
/// Installs what is missing (names it first), builds, and runs a guest that reads, writes, and
/// tries what its policy denies. Prints each attempt, the verdict and the rule behind it. Runs
/// directly where this host can attach BPF LSM programs, else in a virtual machine; says which.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if the kernel did what the policy says, 97 if the virtual machine failed, another \
one if the kernel did anything else or the demo could not run.")]
pub(crate) struct Args {
    /// Use a virtual machine even if this host could do it
    #[arg(long)]
    vm: bool,
    /// Kernel of the virtual machine: 6.1 or 6.12 (under emulation 6.1 loads BPF programs faster)
    #[arg(long, default_value = "6.1")]
    kernel: Series,
}

const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let project = Project::find()?;
    project.build_release(&["wasi-guard", "wasi-guard-tests"], &[])?;
    project.build_product()?;
    let wasi_guard = project.release_program("wasi-guard");
    let folder = gather(&project)?;
    if !args.vm && host_can_enforce(&wasi_guard)? {
        println!("This host can attach BPF LSM programs: the demo runs here.\n");
        let path = std::env::var("PATH").unwrap_or_default();
        let release = project.target.join("release");
        let status = Command::new(folder.join("run-demo"))
            .current_dir(&folder)
            .env("PATH", format!("{}:{path}", release.display()))
            .status()
            .context("cannot start the demo")?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let lab = Lab::open(&project)?;
    let mut files = FileSet::new();
    for program in project.product() {
        files.add(program, "/usr/local/bin/")?;
    }
    files.add(folder, "/demo")?;
    let disk = lab.disk(&files)?;
    let why = if args.vm { "As asked for" } else { "This host cannot attach BPF LSM programs" };
    println!("{why}: the demo runs in a virtual machine with Linux {}.\n", args.kernel);
    let mut machine = lab.boot(&disk, &Options::new(args.kernel))?;
    let status = machine.run(&["cd /demo && exec ./run-demo"], LIMIT, vm::print)?;
    Ok(ExitCode::from(status))
}

/// Whether `wasi-guard doctor` finds all layers on this host.
fn host_can_enforce(wasi_guard: &Path) -> Result<bool> {
    let status = Command::new(wasi_guard)
        .args(["doctor", "--quiet"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start wasi-guard doctor")?;
    Ok(status.success())
}

/// Makes the demo's folder anew: program, policies, guests.
fn gather(project: &Project) -> Result<PathBuf> {
    let folder = project.target.join("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let program = project.release_program("run-demo");
    fs::copy(&program, folder.join("run-demo"))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    for (from, name) in
        [(project.root.join("policies"), "policies"), (guests::build(project)?, "guests")]
    {
        process::run(Command::new("cp").arg("-R").arg(from).arg(folder.join(name)))?;
    }
    Ok(folder)
}
