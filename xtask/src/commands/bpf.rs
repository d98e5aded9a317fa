//! `cargo xtask bpf`: the BPF object from its source.

use anyhow::Result;
use xtask::{bpf, project::Project};

/// Build the BPF programs that the kernel runs, or check the committed ones
///
/// Compiles bpf-progs/ to bpf-progs/wasi-guard.bpf.o, which `wasi-guard` embeds, and writes
/// beside it wasi-guard.bpf.toml: hashes of the object and of its sources, versions of the tools.
/// The same sources and tools give the same bytes on any machine. Needed only after a change in
/// bpf-progs/; commit both files with the change.
///
/// Installs what is missing: Debian's rustc with a core library for BPF, LLVM 22, and bpf-linker
/// (built into target/tools, some minutes at the first time).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit status: 0 if built, or if the committed object is what its sources give; 1 if not, with the \
reason and the cure; 2 for a wrong option.")]
pub(crate) struct Args {
    /// Change nothing; fail unless the committed object comes from the committed sources
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let project = Project::find()?;
    if args.check {
        bpf::check(&project)?;
        eprintln!("The committed object belongs to its sources.");
    } else {
        let record = bpf::update(&project)?;
        eprintln!("Built {} (sha256 {})", bpf::object_path(&project).display(), record.object);
    }
    Ok(())
}
