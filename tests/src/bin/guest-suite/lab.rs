//! The machine: folders for the cases, and whether something was left behind.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::{Pid, Signal, kill_process};
use wasi_guard_enforce::cgroup;
use wasi_guard_enforce::programs::{Build, Pins};

const FOLDER: &str = "/tmp/guest-suite";
/// How long a process may wait for the kernel: ticks of its clock, on a slow machine.
const WAITING: Duration = Duration::from_secs(5);

/// The machine.
pub(crate) struct Lab {
    folders: Cell<u32>,
}

impl Lab {
    pub(crate) fn open() -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "the guest suite runs as root");
        fs::create_dir_all(FOLDER).with_context(|| format!("create {FOLDER}"))?;
        Ok(Self { folders: Cell::new(0) })
    }

    /// A new folder.
    pub(crate) fn folder(&self) -> Result<Folder> {
        let number = self.folders.get();
        self.folders.set(number + 1);
        let path = Path::new(FOLDER).join(format!("case-{number}"));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Folder(path))
    }

    /// An error that names what guests or supervisors left behind. What waits in the kernel for
    /// programs that may still see a guest's maps, after its supervisor has ended, ends soon.
    pub(crate) fn check_clean(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let processes = processes()?;
            if processes.is_empty() {
                break;
            }
            ensure!(begun.elapsed() < WAITING, "left behind: processes {processes:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let cgroups = cgroups()?;
        ensure!(cgroups.is_empty(), "left behind: cgroups {cgroups:?}");
        let sockets = sockets()?;
        ensure!(sockets.is_empty(), "left behind: sockets {sockets:?}");
        for build in [Build::this(false), Build::this(true)] {
            if let Some(pins) = Pins::take(&build).context("look into the pinned maps")? {
                let guests = pins.guests();
                ensure!(guests.is_empty(), "left behind: map entries of the guests {guests:?}");
                let tables = pins.pinned_tables();
                ensure!(tables.is_empty(), "left behind: {tables:?}");
            }
        }
        Ok(())
    }

    /// After a failed case: ends what it left, so that the next case does not fail for it. The
    /// start of the next guest sweeps cgroups and map entries.
    pub(crate) fn clean_up(&self) {
        for (pid, _) in processes().unwrap_or_default() {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(500));
        let _ = crate::program::guarded(&["run", "/guests/hello.wasm"]).finish();
    }
}

/// Processes of wasi-guard, whoever started them: number and command line. Whatever a worker
/// calls itself, it runs our executable.
pub(crate) fn processes() -> Result<Vec<(i32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has just ended has no executable any more.
        let Ok(executable) = fs::read_link(entry.path().join("exe")) else { continue };
        if executable.as_os_str().as_encoded_bytes().starts_with(b"/usr/local/bin/wasi-guard") {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    Ok(found)
}

/// The cgroups of guests, of any build.
pub(crate) fn cgroups() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for parent in fs::read_dir(cgroup::MOUNT).context("list the cgroups")?.flatten() {
        if !parent.file_name().as_encoded_bytes().starts_with(b"wasi-guard-") {
            continue;
        }
        for child in fs::read_dir(parent.path()).context("list wasi-guard's cgroups")?.flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(child.path());
            }
        }
    }
    Ok(found)
}

/// The sockets of supervisors.
fn sockets() -> Result<Vec<PathBuf>> {
    match fs::read_dir("/run/wasi-guard/guests") {
        // No guest has run yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => Ok(entries.context("list the sockets")?.flatten().map(|it| it.path()).collect()),
    }
}

/// A folder of a case.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path as text, for arguments.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> Result<String> {
        let path = self.path(name);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above).with_context(|| format!("create {}", above.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(self.text(name))
    }

    /// Makes a directory, and those above it.
    pub(crate) fn directory(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(self.text(name))
    }

    /// What a file holds.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// An error if a file holds anything else.
    pub(crate) fn holds(&self, name: &str, expected: &str) -> Result<()> {
        let found = self.read(name)?;
        ensure!(found == expected, "{name} holds {found:?}, expected {expected:?}");
        Ok(())
    }
}

/// A mount that is gone when this is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// An empty tmpfs over a directory, with options such as `size=64k`.
    pub(crate) fn tmpfs(target: impl Into<PathBuf>, options: &str) -> Result<Self> {
        let target = target.into();
        let data = std::ffi::CString::new(options)?;
        mount("tmpfs", &target, "tmpfs", MountFlags::empty(), Some(data.as_c_str()))
            .with_context(|| format!("mount a tmpfs over {}", target.display()))?;
        Ok(Self(target))
    }

    /// An overlay, with its layers as options.
    pub(crate) fn overlay(target: impl Into<PathBuf>, layers: &str) -> Result<Self> {
        let target = target.into();
        let data = std::ffi::CString::new(layers)?;
        mount("overlay", &target, "overlay", MountFlags::empty(), Some(data.as_c_str()))
            .with_context(|| format!("mount an overlay over {}", target.display()))?;
        Ok(Self(target))
    }

    /// A file over another.
    pub(crate) fn over(source: &Path, target: impl Into<PathBuf>) -> Result<Self> {
        let target = target.into();
        mount_bind(source, &target).with_context(|| format!("cover {}", target.display()))?;
        Ok(Self(target))
    }

    /// What somebody else has mounted there.
    pub(crate) fn at(target: impl Into<PathBuf>) -> Self {
        Self(target.into())
    }

    /// Unmounts, with an error if that fails: the machine is not as it was then.
    pub(crate) fn end(self) -> Result<()> {
        let target = self.0.clone();
        std::mem::forget(self);
        if let Err(error) = unmount(&target, UnmountFlags::empty()) {
            bail!("unmount {}: {error}", target.display());
        }
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A failed case; whatever still uses it keeps it from view.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
