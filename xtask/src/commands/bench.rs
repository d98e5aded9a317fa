//! `cargo xtask bench`: the cost tables.

use anyhow::{Context, Result};
use xtask::bench;
use xtask::project::Project;

/// Measure what wasi-guard costs
///
/// Parts: `kernel`, instructions of system calls at three depths under policies of three sizes,
/// unguarded, guarded and denied, beside Landlock, counted in virtual machines with Linux 6.1 and
/// 6.12 (hardly different on other hosts). `memory`, what a guest takes of the kernel's. `links`,
/// the search for files with several names at a start. `start`, wall time of a hello-world guest,
/// cold and warm, beside `wasmtime run` in the same machine (compare the ratio, not the times), and
/// its instructions.
/// `crowd`, how fast many guests start and what memory one takes that waits, beside `wasmtime run`.
/// `bpf`, what an eBPF tool costs as a guest, beside the same with aya, on this host and as root.
/// `policy`, size and time of compiled tables. All of it takes about half an hour.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if everything was measured, 97 if a virtual machine failed, 1 for other failures, 2 \
for a wrong option.")]
pub(crate) struct Args {
    /// Measure only parts whose name contains NAME
    #[arg(value_name = "NAME", default_value = "")]
    filter: String,
    /// Print a line of JSON for each number instead of tables
    #[arg(long)]
    json: bool,
    /// Write the tables into docs/costs.md as well
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let project = Project::find()?;
    let measures = bench::run(&project, &args.filter)?;
    if args.json {
        for measure in &measures {
            let line = serde_json::to_string(measure).context("cannot write a number as JSON")?;
            println!("{line}");
        }
    } else {
        print!("{}", bench::text(&measures)?);
    }
    if args.write {
        bench::write(&project, &measures)?;
    }
    Ok(())
}
