//! `wasi-guard gc`.

use std::path::PathBuf;
use std::process::ExitCode;

use wasi_guard_enforce::{collect, programs};

use super::{Result, exit, need, output, report};
use crate::cache::{Cache, Collected};
use crate::supervisor::sweep_sockets;

const ABOUT: &str = "\
Remove what killed runs left.

If wasi-guard is killed, the kernel kills the guest, and the guest's cgroup, its entries in the \
kernel's maps and its socket stay until the next run removes them. This removes them now, for every \
version of wasi-guard. Guests that run, and the BPF programs, are not touched.

In the caller's cache of compiled modules it removes files that were never finished, and entries \
that no run would use: damaged ones, and those in another version's format.";

/// `wasi-guard gc`.
#[derive(Debug, clap::Args)]
#[command(about = "Remove what killed runs left", long_about = ABOUT)]
pub(super) struct Args {
    /// Clean this directory of compiled modules
    ///
    /// Default: /var/cache/wasi-guard for root, wasi-guard in the user's cache directory for
    /// others.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Show the details of errors
    #[arg(short, long)]
    pub(super) verbose: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    need(&["capabilities", "cgroup", "bpffs"])?;
    let lock = programs::HostLock::take()?;
    let collected = collect::collect(&lock)?;
    // A socket belongs to nobody once its guest's cgroup is gone.
    let sockets = sweep_sockets()?;
    // To read the whole cache takes its time, and no start needs to wait for it.
    drop(lock);
    let cache = cache(args);
    let mut text = String::new();
    for (count, what) in [
        (collected.cgroups, "cgroups without a supervisor"),
        (collected.entries, "map entries of guests that are gone"),
        (collected.tables, "tables that no guest uses"),
        (collected.pins, "directories of unfinished pins"),
        (sockets, "sockets without a guest"),
        (cache.unfinished, "unfinished files in the cache"),
        (cache.unusable, "unusable entries of the cache"),
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

/// A cache that cannot be cleaned costs a warning: all else is clean by then.
fn cache(args: &Args) -> Collected {
    let Some(path) = args.cache.clone().or_else(Cache::default_path) else {
        return Collected::default();
    };
    match Cache::collect(&path) {
        Ok(collected) => collected.unwrap_or_default(),
        Err(error) => {
            report::warning(&format!("compiled modules were not looked at: {error}"));
            Collected::default()
        }
    }
}
