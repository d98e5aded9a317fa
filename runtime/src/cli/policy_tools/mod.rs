//! `wasi-guard policy`: what is done with policies, one tool a file.

mod reload;
mod show;
mod test;

use std::process::ExitCode;

use clap::Subcommand;

use super::Result;

/// `wasi-guard policy`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Test policies, look into them, reload that of a running guest",
    arg_required_else_help = true
)]
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
    Reload(reload::Args),
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    match &args.tool {
        Tool::Test(args) => test::run(args),
        Tool::Show(args) => show::run(args),
        Tool::Reload(args) => reload::run(args),
    }
}
