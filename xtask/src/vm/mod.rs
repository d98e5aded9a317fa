//! Virtual machines with Debian's kernels: how the kernel suites run on any host.
//!
//! `emulator` finds qemu, `kernel` fetches and caches kernels, `initramfs` (with `cpio`) starts
//! them, `files` collects what goes in with the libraries that it needs, `disk` makes the disks,
//! `machine` runs qemu and talks to the agent inside (crate `wasi-guard-vm-agent`).

mod cpio;
mod disk;
mod emulator;
mod files;
mod initramfs;
mod kernel;
mod machine;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use disk::Disk;
use emulator::Emulator;
pub use files::{FileSet, libraries};
pub use kernel::{Series, sbin};
pub use machine::{Failure, Machine, Options, Stream};

use crate::host::{self, Task};
use crate::project::Project;

/// The status of xtask when the VM itself fails, whatever the command inside did: it did not
/// boot, hung, or its kernel crashed or warned.
pub const FAILED: u8 = 97;

/// Prepares VMs for a project: packages, agent, caches.
pub struct Lab {
    /// Kernels and what is made from them, outside git.
    cache: PathBuf,
    /// Folders of running VMs.
    runs: PathBuf,
    agent: PathBuf,
    emulator: Emulator,
}

impl Lab {
    /// Installs what VMs need and builds the agent. The cache is `$WASI_GUARD_CACHE`, by default
    /// the folder `vm` in cargo's target folder.
    pub fn open(project: &Project) -> Result<Self> {
        host::ensure(&[Task::Vm])?;
        let vm = project.target.join("vm");
        let cache = std::env::var_os("WASI_GUARD_CACHE").map_or_else(|| vm.clone(), PathBuf::from);
        let runs = vm.join("runs");
        for folder in [&cache, &runs] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        machine::sweep(&runs);
        let emulator = Emulator::find(&cache)?;
        // A target folder of its own: whoever builds wasmtime in the other one, for minutes, does
        // not keep machines from booting.
        let target = vm.join("build");
        let mut build = project.cargo(["build", "--release", "--quiet"]);
        build.args(["--package", "wasi-guard-vm-agent", "--target-dir"]).arg(&target);
        crate::process::run(&mut build)?;
        Ok(Self { cache, runs, agent: target.join("release/wasi-guard-vm-agent"), emulator })
    }

    /// Makes a root disk of a small Debian-like system and these files.
    pub fn disk(&self, files: &FileSet) -> Result<Disk> {
        Disk::root(&self.runs, files)
    }

    /// Puts into the cache what a machine with this kernel boots from; [`Lab::boot`] does it too,
    /// but not while another thread does.
    pub fn prepare(&self, series: Series) -> Result<()> {
        initramfs::for_kernel(&kernel::fetch(&self.cache, series)?, &self.agent)?;
        disk::scratch(&self.cache)?;
        Ok(())
    }

    /// Boots a machine. The kernel is fetched at the first time.
    pub fn boot(&self, disk: &Disk, options: &Options) -> Result<Machine> {
        let kernel = kernel::fetch(&self.cache, options.kernel)?;
        let initramfs = initramfs::for_kernel(&kernel, &self.agent)?;
        let scratch = disk::scratch(&self.cache)?;
        Machine::boot(
            &self.runs,
            &self.emulator,
            &kernel,
            &initramfs,
            disk.path(),
            &scratch,
            options,
        )
    }
}

/// Prints output of a command where the command printed it: the usual sink of [`Machine::run`].
pub fn print(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
        Stream::Stderr => io::stderr().lock().write_all(bytes),
    }
}

/// Reads the whole of a file, with its name in the error.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Names of temporary files and folders that begin with our process id; see `machine::sweep`.
fn named() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(Box::leak(format!("{}-", std::process::id()).into_boxed_str()));
    builder
}
