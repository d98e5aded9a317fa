//! `wasi-guard completions`.

use std::process::ExitCode;

use clap_complete::Shell;

use super::{Result, definition, exit, output};

const EXAMPLES: &str = "\
Examples:
  wasi-guard completions bash > /etc/bash_completion.d/wasi-guard
  wasi-guard completions fish > ~/.config/fish/completions/wasi-guard.fish";

/// `wasi-guard completions`.
#[derive(Debug, clap::Args)]
#[command(about = "Print a completion script for a shell", after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut script = Vec::new();
    let mut definition = definition();
    let name = definition.get_name().to_owned();
    clap_complete::generate(args.shell, &mut definition, name, &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(exit::ok())
}
