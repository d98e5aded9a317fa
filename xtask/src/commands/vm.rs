//! `cargo xtask vm`: one command in a fresh virtual machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use xtask::project::Project;
use xtask::vm::{self, FileSet, Lab, Options, Series};

/// Run a command in a virtual machine with a Debian kernel
///
/// Boots qemu, runs COMMAND as root, prints what it prints (standard output and standard error
/// stay apart), and ends with its status. Nothing is left behind: every run gets a fresh machine.
///
/// Inside: the release `wasi-guard` on PATH, busybox as shell and tools, what --add brings (with
/// the shared libraries that programs among it need), cgroup v2 with the controllers cpu, io,
/// memory and pids, bpffs, securityfs, tracefs, an empty writable ext4 at /mnt/ext4, a tmpfs at
/// /tmp, the loopback network, modules for overlay, xfs, btrfs, loop and veth. No other network.
///
/// Kernels are Debian's own packages, downloaded once to target/vm/kernels (or to
/// $WASI_GUARD_CACHE/kernels).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: that of COMMAND (128 + N if signal N ended it), or 97 if the VM itself failed: it \
could not be made, did not boot, ran into the timeout, or its kernel crashed or warned (the end \
of its console is then on standard error). 2 for a wrong option.

Examples:
  cargo xtask vm -- uname -r
  cargo xtask vm --kernel 6.1 -- 'wasi-guard doctor; mount | grep cgroup'
  cargo xtask vm --add ./guests:/guests -- wasi-guard run --policy /guests/p.toml /guests/a.wasm")]
pub(crate) struct Args {
    /// Kernel to boot: 6.1 or 6.12
    #[arg(long, default_value = "6.12")]
    kernel: Series,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(256..))]
    memory: u32,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Let the processors run at the same time, for races and real waits; else they take turns
    #[arg(long, conflicts_with = "icount")]
    at_once: bool,
    /// Seconds that boot and command together may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
    /// Copy the file or folder SRC to the absolute path DST inside (to DST/NAME if DST ends in /)
    #[arg(long, value_name = "SRC:DST")]
    add: Vec<String>,
    /// Let the machine's clock count instructions (one processor): costs become repeatable
    #[arg(long)]
    icount: bool,
    /// Do not build wasi-guard: use the one of the last build, or none
    #[arg(long)]
    no_build: bool,
    /// Say on standard error which kernel booted and how long that took
    #[arg(long, short)]
    verbose: bool,
    /// What to run: one word is a line for the shell, more words are a program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    match in_vm(args) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask vm: {error:#}");
            ExitCode::from(vm::FAILED)
        }
    }
}

fn in_vm(args: &Args) -> Result<u8> {
    let project = Project::find()?;
    let lab = Lab::open(&project)?;
    if !args.no_build {
        project.build_product()?;
    }
    let mut files = FileSet::new();
    for program in project.product() {
        if program.exists() {
            files.add(program, "/usr/local/bin/")?;
        } else {
            eprintln!(
                "xtask vm: {} was not built, thus it is not in the machine",
                program.display()
            );
        }
    }
    for pair in &args.add {
        files.add_pair(pair)?;
    }
    let limit = Duration::from_secs(args.timeout);
    let options = Options {
        memory: args.memory,
        cpus: args.cpus,
        at_once: args.at_once,
        icount: args.icount,
        boot_limit: limit,
        ..Options::new(args.kernel)
    };
    let disk = lab.disk(&files)?;
    let start = Instant::now();
    let mut machine = lab.boot(&disk, &options)?;
    if args.verbose {
        let seconds = machine.boot_time().as_secs_f64();
        eprintln!("xtask vm: {} booted in {seconds:.1} s", machine.release());
    }
    let left = limit.saturating_sub(start.elapsed());
    machine.run(&args.command, left, vm::print)
}
