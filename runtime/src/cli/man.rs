//! `wasi-guard man`.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Result, definition, exit};
use crate::supervisor::Error;

const EXAMPLES: &str = "\
Examples:
  wasi-guard man /usr/local/share/man/man1";

/// `wasi-guard man`.
#[derive(Debug, clap::Args)]
#[command(about = "Write man pages, one for each command", after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The directory to write them to; it must exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    clap_mangen::generate_to(definition(), &args.directory).map_err(|error| {
        Error::step(format!("write man pages to {}", args.directory.display()), error)
            .hint("the directory must exist and be writable")
    })?;
    Ok(exit::ok())
}
