//! `cargo xtask bench`: the cost table.

use anyhow::{Context, Result};
use xtask::bench;
use xtask::project::Project;

/// Measure what wasi-guard costs
///
/// Kernel side: instructions per open and close of a file, unguarded and guarded, beside
/// Landlock, counted in virtual machines with Linux 6.1 and 6.12 (the same numbers on every
/// host). Start: wall time of a hello-world guest, cold and warm, beside `wasmtime run` in the
/// same machine (compare the ratio, not the times). Policies: size and time of compiled tables
/// for 10, 100 and 1,000 rules.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if everything was measured, 97 if a virtual machine failed, 1 for other failures, 2 \
for a wrong option.")]
pub(crate) struct Args {
    /// Print one line of JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let groups = bench::run(&Project::find()?)?;
    if args.json {
        println!("{}", serde_json::to_string(&groups).context("cannot write the table as JSON")?);
    } else {
        print!("{}", bench::text(&groups));
    }
    Ok(())
}
