//! The machine that the suite runs on, prepared once.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    mount::{MountFlags, UnmountFlags},
    process::{Resource, Rlimit},
};
use wasi_guard_enforce::{cgroup::Limits, guest::Guest, programs::Build};
use wasi_guard_tests::actor::describe;
use wasi_guard_tests::actor::own_program;

use crate::stage::{Setup, Stage};

/// Where the suite mounts a tmpfs of its own.
const TMPFS: &str = "/run/wasi-guard-kernel-suite";
/// The writable ext4 of `cargo xtask vm`.
const EXT4: &str = "/mnt/ext4";
/// Where the suite mounts a btrfs of its own.
const BTRFS: &str = "/run/wasi-guard-kernel-suite-btrfs";
/// Bytes of its image, a sparse file: mkfs.btrfs refuses less than 109 MiB.
const BTRFS_BYTES: u64 = 256 << 20;
/// Where the suite mounts an xfs of its own.
const XFS: &str = "/run/wasi-guard-kernel-suite-xfs";
/// Bytes of its image, a sparse file: mkfs.xfs refuses less than 300 MiB.
const XFS_BYTES: u64 = 320 << 20;
/// Descriptors for two hundred guests at once, each with its pinned programs and maps.
const DESCRIPTORS: u64 = 65_536;

/// The machine.
pub(crate) struct Lab {
    /// The programs in use.
    pub(crate) build: Build,
    /// Seed of the differential test.
    pub(crate) seed: u64,
    /// Policies that the differential test tries.
    pub(crate) worlds: u32,
    /// Opens of the race test.
    pub(crate) race: u32,
    stages: Cell<u32>,
}

impl Lab {
    /// Mounts what the cases need.
    pub(crate) fn open(seed: u64, worlds: u32, race: u32) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the kernel suite runs as root");
        let limit = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
        rustix::process::setrlimit(Resource::Nofile, limit).context("raise the file limit")?;
        // Files that the suite makes have the modes that it asks for.
        rustix::process::umask(rustix::fs::Mode::empty());
        fs::create_dir_all(TMPFS).with_context(|| format!("create {TMPFS}"))?;
        mount("tmpfs", Path::new(TMPFS), "mode=755")?;
        Ok(Self { build: Build::this(false), seed, worlds, race, stages: Cell::new(0) })
    }

    /// Loads and pins the programs, for a guest that does nothing.
    pub(crate) fn load(&self) -> Result<()> {
        Guest::create(&self.build, &Limits::default(), 4096, &own_program()?)
            .map_err(describe)
            .map(drop)
    }

    /// A new directory on the suite's tmpfs.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        self.directory_on(Path::new(TMPFS))
    }

    fn directory_on(&self, file_system: &Path) -> Result<PathBuf> {
        let number = self.stages.get();
        self.stages.set(number + 1);
        let path = file_system.join(format!("case-{number}"));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// A new directory on ext4.
    pub(crate) fn directory_on_ext4(&self) -> Result<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mounted = mounts.lines().any(|line| {
            let mut fields = line.split(' ').skip(1);
            fields.next() == Some(EXT4) && fields.next() == Some("ext4")
        });
        ensure!(mounted, "no ext4 is mounted at {EXT4}; `cargo xtask vm` mounts one");
        self.directory_on(Path::new(EXT4))
    }

    /// A new directory on btrfs, in a file on the ext4.
    pub(crate) fn directory_on_btrfs(&self) -> Result<PathBuf> {
        self.directory_on_image("btrfs", BTRFS, BTRFS_BYTES, &["--quiet"])
    }

    /// A new directory on xfs, in a file on the ext4.
    pub(crate) fn directory_on_xfs(&self) -> Result<PathBuf> {
        self.directory_on_image("xfs", XFS, XFS_BYTES, &["-q"])
    }

    fn directory_on_image(
        &self,
        kind: &str,
        place: &str,
        bytes: u64,
        options: &[&str],
    ) -> Result<PathBuf> {
        let image = self.directory_on_ext4()?.join(kind);
        fs::File::create(&image)?.set_len(bytes)?;
        fs::create_dir(place).with_context(|| format!("create {place}"))?;
        run(Command::new(format!("mkfs.{kind}")).args(options).arg(&image))?;
        run(Command::new("modprobe").arg("loop"))?;
        run(Command::new("mount").args(["-t", kind, "-o", "loop"]).arg(&image).arg(place))?;
        self.directory_on(Path::new(place))
    }

    /// A guest in force with an actor in it and one outside, on the suite's tmpfs. `policy` is
    /// TOML without the line `version = 1`; its hosts are relative to the base directory.
    pub(crate) fn stage(&self, policy: &str, tree: &'static [&'static str]) -> Result<Stage> {
        Setup::new(self.directory()?, policy, tree).start(self)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Busy with a descriptor of a failed case at worst; the machine ends soon.
        let _ = rustix::mount::unmount(TMPFS, UnmountFlags::DETACH);
        let _ = rustix::mount::unmount(BTRFS, UnmountFlags::DETACH);
        let _ = rustix::mount::unmount(XFS, UnmountFlags::DETACH);
    }
}

/// The path of `path` from the root of its file system.
pub(crate) fn within_file_system(path: &Path) -> Option<&Path> {
    [TMPFS, EXT4, BTRFS, XFS].iter().find_map(|root| path.strip_prefix(root).ok())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok(())
}

/// Mounts a file system without a device.
pub(crate) fn mount(kind: &str, target: &Path, options: &str) -> Result<()> {
    let data = std::ffi::CString::new(options)?;
    rustix::mount::mount(kind, target, kind, MountFlags::empty(), Some(data.as_c_str()))
        .with_context(|| {
            format!("mount {kind} at {} (does this kernel have it?)", target.display())
        })
}

/// A mount that goes with the case.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts a file system without a device.
    pub(crate) fn new(kind: &str, target: impl Into<PathBuf>, options: &str) -> Result<Self> {
        let target = target.into();
        mount(kind, &target, options)?;
        Ok(Self(target))
    }

    /// Shows a directory or file at another place.
    pub(crate) fn bind(source: &Path, target: impl Into<PathBuf>) -> Result<Self> {
        let target = target.into();
        rustix::mount::mount_bind(source, &target)
            .with_context(|| format!("bind {} to {}", source.display(), target.display()))?;
        Ok(Self(target))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached even while an actor of the case holds it.
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}
