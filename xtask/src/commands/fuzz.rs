//! `cargo xtask fuzz`: hostile inputs, for as long as one likes.

use std::path::PathBuf;

use anyhow::Result;
use xtask::fuzz::{Fuzzer, targets};
use xtask::project::Project;

/// Try hostile inputs: policies, patterns, messages, records, BTF
///
/// Runs the fuzz targets in fuzz/ over their corpus and over new inputs. What is found stays in
/// target/fuzz/found for the next run. docs/testing.md tells what the targets are, and how to add
/// one.
///
/// Installs what is missing: a C++ compiler, and cargo-fuzz (built into target/tools).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if no input was bad, 1 if one was, with the file that holds it, or if nothing could \
be run, 2 for a wrong option.")]
pub(crate) struct Args {
    /// One target instead of all
    target: Option<String>,
    /// How long to run each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Try this file only
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Add to fuzz/corpus what runs have found and reaches new code, and stop
    #[arg(long, conflicts_with = "input")]
    keep: bool,
    /// List the targets and stop
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let project = Project::find()?;
    let all = targets(&project)?;
    if args.list {
        all.iter().for_each(|target| println!("{target}"));
        return Ok(());
    }
    let fuzzer = Fuzzer::build(&project)?;
    let chosen = args.target.as_ref().map_or(all, |target| vec![target.clone()]);
    for target in &chosen {
        match &args.input {
            Some(input) => fuzzer.input(target, input)?,
            None if args.keep => fuzzer.keep(target)?,
            None => fuzzer.run(target, args.seconds, false)?,
        }
    }
    Ok(())
}
