//! `wasi-guard unload`.

use std::process::ExitCode;

use wasi_guard_enforce::programs;

use super::{Result, exit, need, output};

const ABOUT: &str = "\
Remove wasi-guard's BPF programs from the kernel.

The programs stay loaded between runs, so that the next run starts at once and a guest stays \
confined whatever happens to wasi-guard. They cost other processes of the host next to nothing. This \
removes those of every version of wasi-guard; it refuses while guests run.";

/// `wasi-guard unload`.
#[derive(Debug, clap::Args)]
#[command(about = "Remove wasi-guard's BPF programs from the kernel", long_about = ABOUT)]
pub(super) struct Args {
    /// Show the details of errors
    #[arg(short, long)]
    pub(super) verbose: bool,
}

pub(super) fn run(_args: &Args) -> Result<ExitCode> {
    need(&["capabilities", "bpffs"])?;
    let lock = programs::HostLock::take()?;
    let removed = programs::unload(&lock)?;
    let mut text = String::new();
    for directory in &removed {
        text.push_str(&format!("removed {}\n", directory.display()));
    }
    if removed.is_empty() {
        text.push_str("nothing is loaded\n");
    }
    output::print(&text)?;
    Ok(exit::ok())
}
