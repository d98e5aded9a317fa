//! Cgroups: one parent for all guests of this build, one child a guest.
//!
//! The parent lies right below the root, at level 1, where the BPF programs look. Its name
//! carries the build, so that the programs of two builds, each denying what it does not know,
//! never meet each other's guests.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

mod limits;

pub use limits::{DiskLimits, Disks, Limits, Pressure};

use rustix::fs::FlockOperation;

use crate::{
    error::{Error, Result, Step as _},
    fault::{self, Point},
    programs::{Build, is_of_a_build},
};

/// Where cgroup v2 is mounted when it is mounted alone.
pub const MOUNT: &str = "/sys/fs/cgroup";
/// Mode of the parent: who can open a guest's directory can lock it, and a locked guest counts as
/// one with a living supervisor.
const PRIVATE: u32 = 0o700;
/// Abandoned guests that are held open at a time.
const BATCH: usize = 64;
/// How long to wait for killed processes to leave a cgroup.
const DRAIN: Duration = Duration::from_secs(10);

/// The parent cgroup of one build's guests.
#[derive(Debug)]
pub struct Parent {
    path: PathBuf,
    id: u64,
}

impl Parent {
    /// Opens the parent of `build`'s guests, creating it if need be. The caller holds the
    /// host lock.
    ///
    /// # Errors
    /// If cgroup v2 cannot be written.
    pub fn open(build: &Build) -> Result<Self> {
        let path = Path::new(MOUNT).join(build.name());
        match fs::DirBuilder::new().mode(PRIVATE).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::new(format!("create the cgroup {}", path.display()))
                    .because(error)
                    .hint("this takes root and a writable cgroup v2 at /sys/fs/cgroup; `wasi-guard doctor` tells more"));
            }
            _ => {}
        }
        // Whatever the umask, and whoever created it.
        fs::set_permissions(&path, fs::Permissions::from_mode(PRIVATE))
            .step(|| format!("close {} to other users", path.display()))?;
        let id = id_of(&path)?;
        Ok(Self { path, id })
    }

    /// The parent with this name, if it is there.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub(crate) fn named(name: &std::ffi::OsStr) -> Result<Option<Self>> {
        let path = Path::new(MOUNT).join(name);
        if !path.is_dir() {
            return Ok(None);
        }
        Ok(Some(Self { id: id_of(&path)?, path }))
    }

    /// The path below the cgroup mount.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The parents of all builds that there are.
    ///
    /// # Errors
    /// If the cgroups cannot be listed.
    pub(crate) fn every() -> Result<Vec<Self>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(MOUNT).step(|| format!("list {MOUNT}"))?.flatten() {
            let ours = is_of_a_build(&entry.file_name());
            if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                list.push(Self { id: id_of(&path)?, path });
            }
        }
        Ok(list)
    }

    /// Ids of the children.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub(crate) fn children(&self) -> Result<Vec<u64>> {
        let entries = fs::read_dir(&self.path).step(|| format!("list {}", self.path.display()))?;
        let directories =
            entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        // One that has gone meanwhile is none.
        Ok(directories.filter_map(|entry| id_of(&entry.path()).ok()).collect())
    }

    /// The id that the kernel gives the cgroup: its inode number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A new child with a name of its own, locked to this process. The caller holds the host
    /// lock, so that [`Parent::sweep`] never sees a child between its creation and its lock.
    ///
    /// # Errors
    /// If a controller is missing or the kernel refuses a limit.
    pub fn child(&self, limits: &Limits) -> Result<Cgroup> {
        limits::enable(&self.path, limits)?;
        let pid = std::process::id();
        for n in 0u32.. {
            let name = format!("guest-{pid}-{n}");
            let path = self.path.join(&name);
            match fault::call(Point::MakeCgroup).and_then(|()| fs::create_dir(&path)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(
                        Error::new(format!("create the cgroup {}", path.display())).because(error)
                    );
                }
                Ok(()) => {
                    fault::at(Point::CgroupMade);
                    let cgroup = Cgroup::lock(path, name)?;
                    limits::write(&cgroup.path, limits)?;
                    return Ok(cgroup);
                }
            }
        }
        Err(Error::new("find a free cgroup name"))
    }

    /// Ends and removes children whose supervisor is gone, and returns how many. `forget` removes
    /// what else there is of them, while their cgroups are still there: whenever this process is
    /// killed, the next one finds them and does the rest. The caller holds the host lock.
    ///
    /// # Errors
    /// If the parent cannot be read.
    pub fn sweep(&self, mut forget: impl FnMut(&[u64])) -> Result<usize> {
        let mut count = 0;
        let mut batch = Vec::new();
        let entries = fs::read_dir(&self.path).step(|| format!("list {}", self.path.display()))?;
        for entry in entries.flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            // A held lock is a living supervisor.
            if let Ok(cgroup) = Cgroup::lock(entry.path(), name) {
                fault::at(Point::AbandonedFound);
                cgroup.clear();
                fault::at(Point::AbandonedKilled);
                batch.push(cgroup);
            }
            if batch.len() == BATCH {
                count += remove(&mut batch, &mut forget);
            }
        }
        Ok(count + remove(&mut batch, &mut forget))
    }
}

/// Removes cgroups that are empty, after what else there is of their guests.
fn remove(batch: &mut Vec<Cgroup>, forget: &mut impl FnMut(&[u64])) -> usize {
    let count = batch.len();
    if count > 0 {
        forget(&batch.iter().map(Cgroup::id).collect::<Vec<u64>>());
        fault::at(Point::AbandonedForgotten);
        batch.clear();
        fault::at(Point::AbandonedRemoved);
    }
    count
}

fn id_of(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).step(|| format!("look at {}", path.display()))?.ino())
}

fn set(cgroup: &Path, file: &str, value: &str) -> Result<()> {
    let path = cgroup.join(file);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .step(|| format!("write {value} to {}", path.display()))
}

/// A guest's cgroup. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    name: String,
    id: u64,
    /// Open directory: target of CLONE_INTO_CGROUP, and holder of the lock that says "the
    /// supervisor lives" and that the kernel releases with this process, however it ends.
    dir: File,
}

impl Cgroup {
    fn lock(path: PathBuf, name: String) -> Result<Self> {
        let dir = File::open(&path).step(|| format!("open {}", path.display()))?;
        rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)
            .step(|| format!("lock {}", path.display()))?;
        let id = id_of(&path)?;
        Ok(Self { path, name, id, dir })
    }

    /// The id that the kernel gives the cgroup: the key of the guest in every map.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path below the cgroup mount.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory.
    pub fn dir(&self) -> &File {
        &self.dir
    }

    /// Sets the limits of a cgroup that may have some: those that are `None` are lifted, but for
    /// those of disks, which stay.
    pub(crate) fn set_limits(&self, limits: &Limits) -> Result<()> {
        if let Some(parent) = self.path.parent() {
            limits::enable(parent, limits)?;
        }
        limits::lift(&self.path, limits)?;
        limits::write(&self.path, limits)
    }

    /// What its limits did so far.
    pub fn pressure(&self) -> Pressure {
        Pressure::of(&self.path)
    }

    /// Kills every process in it, children's included.
    ///
    /// # Errors
    /// If `cgroup.kill` cannot be written.
    pub fn kill(&self) -> Result<()> {
        set(&self.path, "cgroup.kill", "1")
    }

    /// Kills every process in it and waits until none is left, for ten seconds at most: one that
    /// does not die stays guarded by its place.
    pub(crate) fn clear(&self) {
        // What cannot be killed now is found by the next start's sweep.
        let _ = self.kill();
        let start = std::time::Instant::now();
        while self.is_populated() && start.elapsed() < DRAIN {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether a process is in it, or below.
    pub fn is_populated(&self) -> bool {
        Population::of(self).is_ok_and(|mut population| !population.is_empty())
    }
}

/// Whether anybody is in a cgroup; can be waited for as exceptional data (`POLLPRI`), which is there
/// when the answer may have changed.
#[derive(Debug)]
pub struct Population(File);

impl Population {
    pub(crate) fn of(cgroup: &Cgroup) -> Result<Self> {
        let path = cgroup.path.join("cgroup.events");
        File::open(&path).map(Self).step(|| format!("open {}", path.display()))
    }

    /// Whether the last process has left. A cgroup that is gone is empty.
    pub fn is_empty(&mut self) -> bool {
        let mut text = String::new();
        let read = self.0.rewind().and_then(|()| self.0.read_to_string(&mut text));
        read.is_err() || !text.lines().any(|line| line == "populated 1")
    }
}

impl AsFd for Population {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What cannot be removed here is found by the next start's sweep.
        let _ = self.kill();
        let start = std::time::Instant::now();
        loop {
            match remove_tree(&self.path) {
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY) && start.elapsed() < DRAIN =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => return,
            }
        }
    }
}

/// Removes a cgroup and the cgroups below it; their files need no removal.
fn remove_tree(path: &Path) -> io::Result<()> {
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path())?;
            }
        }
    }
    fs::remove_dir(path)
}
