//! `cargo xtask docs`: pages made from the code.

use anyhow::Result;
use xtask::{docs, project::Project};

/// Write the pages under docs/ that are made from the code
///
/// docs/policy-reference.md comes from the doc texts of the policy's schema.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if written or up to date, 1 if not, 2 for a wrong option.")]
pub(crate) struct Args {
    /// Change nothing; fail unless the pages are up to date
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let project = Project::find()?;
    if args.check { docs::check(&project) } else { docs::write(&project) }
}
