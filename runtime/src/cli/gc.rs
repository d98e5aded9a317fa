//! `wasi-guard gc`.

use std::process::ExitCode;

use wasi_guard_enforce::{collect, programs};

use super::{Result, exit, need, output};
use crate::supervisor::sweep_sockets;

const ABOUT: &str = "\
Remove what killed runs left.

If wasi-guard is killed, the kernel kills the guest, and the guest's cgroup, its entries in the \
kernel's maps and its socket stay until the next run removes them. This removes them now, for every \
version of wasi-guard. Guests that run, and the BPF programs, are not touched.";

/// `wasi-guard gc`.
#[derive(Debug, clap::Args)]
#[command(about = "Remove what killed runs left", long_about = ABOUT)]
pub(super) struct Args {
    /// Show the details of errors
    #[arg(short, long)]
    pub(super) verbose: bool,
}

pub(super) fn run(_args: &Args) -> Result<ExitCode> {
    need(&["capabilities", "cgroup", "bpffs"])?;
    let lock = programs::HostLock::take()?;
    let collected = collect::collect(&lock)?;
    // A socket belongs to nobody once its guest's cgroup is gone.
    let sockets = sweep_sockets()?;
    let mut text = String::new();
    for (count, what) in [
        (collected.cgroups, "cgroups without a supervisor"),
        (collected.entries, "map entries of guests that are gone"),
        (collected.tables, "tables that no guest uses"),
        (collected.pins, "directories of unfinished pins"),
        (sockets, "sockets without a guest"),
    ] {
        if count > 0 {
            text.push_str(&format!("{what}: {count} removed\n"));
        }
    }
    if text.is_empty() {
        text.push_str("nothing was left\n");
    }
    output::print(&text)?;
    Ok(exit::ok())
}
