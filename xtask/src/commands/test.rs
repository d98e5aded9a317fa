//! `cargo xtask test`: everything, counted.

use std::process::ExitCode;

use anyhow::Result;
use xtask::project::Project;
use xtask::suites::{self, Context, SUITES};

/// Run all tests: format, lints, dependencies, unit tests, and the kernel suites in VMs
///
/// The kernel suites run in virtual machines on Linux 6.1 and 6.12, as many at a time as there are
/// processors, so they tell the same on every host; a host that cannot run them fails them. Missing packages are installed first (as
/// root on Debian 12). From a clean clone this takes some forty minutes on two cores, most of it
/// compiling wasmtime; after that some minutes.
///
/// The last line is `N passed, N failed`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if everything passed, 1 if something failed or could not run, 2 for a wrong option.")]
pub(crate) struct Args {
    /// Run only the suites whose name contains this
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    /// List the suites and stop
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        for suite in SUITES {
            println!("{:<14}{}", suite.name, suite.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let total = suites::run(&Context::new(Project::find()?), &args.filter)?;
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
