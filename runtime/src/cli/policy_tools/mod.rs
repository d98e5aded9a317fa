//! `wasi-guard policy`: tools for those who write policies, one a file.

mod show;
mod test;

use std::process::ExitCode;

use clap::Subcommand;

use super::Result;

/// `wasi-guard policy`.
#[derive(Debug, clap::Args)]
#[command(about = "Test policies and look into them", arg_required_else_help = true)]
pub(super) struct Args {
    /// What to do.
    #[command(subcommand)]
    tool: Tool,
}

/// Each tool describes itself in its file.
#[derive(Debug, Subcommand)]
enum Tool {
    Test(test::Args),
    Show(show::Args),
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match &args.tool {
        Tool::Test(args) => test::run(args),
        Tool::Show(args) => show::run(args),
    }
}
