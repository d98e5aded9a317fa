//! Compiled modules on disk.
//!
//! Relied on by [`crate::compile`]. An entry is found by what was compiled and how; it is believed
//! only after its checksum was compared, and only if nobody else could have written it.

mod collect;
mod entry;
mod key;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fstat, fsync, open, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use wasi_guard_enforce::fault::{self, Point};

pub use collect::Collected;
pub use key::Key;

use crate::protocol::Kind;

/// A directory of compiled modules.
#[derive(Debug)]
pub struct Cache {
    directory: OwnedFd,
    path: PathBuf,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Lookup {
    /// The artifact, checked.
    Hit {
        /// The entry, opened for reading.
        file: File,
        /// What the module is.
        kind: Kind,
    },
    /// No entry.
    Miss,
    /// There was an entry that cannot be believed, and why. It is gone.
    Removed(String),
}

/// Why a cache cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Others could write into it or own it.
    #[error("the cache {path:?} {problem}")]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The file system says no.
    #[error("the cache {path:?}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Cache {
    /// Opens the directory, made with mode 0700 if it is missing. It must belong to this user, and
    /// nobody else may look into it or write. What killed processes left half written is removed.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub fn open(path: &Path) -> Result<Self, CacheError> {
        let failed = |source: io::Error| CacheError::Io { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let cache = Self::of_directory(path)?;
        // Where it is of no use, it is not missed: somebody writes, or the file system has no locks.
        if let Ok(lock) = cache.lock(FlockOperation::NonBlockingLockExclusive) {
            cache.sweep(&lock);
        }
        Ok(cache)
    }

    /// Opens the directory as it is.
    fn of_directory(path: &Path) -> Result<Self, CacheError> {
        let failed = |source: io::Error| CacheError::Io { path: path.to_owned(), source };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let directory = open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let stat = fstat(&directory).map_err(|errno| failed(errno.into()))?;
        let problem = if stat.st_uid != geteuid().as_raw() {
            Some("belongs to another user")
        } else if stat.st_mode & 0o077 != 0 {
            Some("is open to other users (chmod 700 it)")
        } else {
            None
        };
        match problem {
            Some(problem) => Err(CacheError::Unsafe { path: path.to_owned(), problem }),
            None => Ok(Self { directory, path: path.to_owned() }),
        }
    }

    /// Removes files that were never finished, and tells how many. Each writer holds the
    /// directory's lock, shared with others, from before its file has a name until it has its last
    /// one; so whoever gets the lock for himself alone meets nobody's file but a dead one's.
    ///
    /// Files without a name (`O_TMPFILE`) would leave nothing, but not every file system has them, and
    /// they cannot take an entry's place in one step.
    fn sweep(&self, lock: &OwnedFd) -> usize {
        let Ok(entries) = Dir::read_from(lock) else { return 0 };
        let entries = entries.flatten().filter(|it| is_temporary(it.file_name().to_bytes()));
        let removed = entries
            .filter(|it| unlinkat(&self.directory, it.file_name(), AtFlags::empty()).is_ok());
        removed.count()
    }

    /// The lock, held as long as what is returned. A descriptor of its own, for a lock belongs to
    /// what one open has made.
    fn lock(&self, operation: FlockOperation) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = openat(&self.directory, ".", flags, Mode::empty())?;
        flock(&directory, operation)?;
        Ok(directory)
    }

    /// Where this user's cache is if no other is named: `/var/cache/wasi-guard` for root, else
    /// `wasi-guard` in `$XDG_CACHE_HOME` or `~/.cache`. `None` without a home.
    #[must_use]
    pub fn default_path() -> Option<PathBuf> {
        if geteuid().is_root() {
            return Some("/var/cache/wasi-guard".into());
        }
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(base.join("wasi-guard"))
    }

    /// The directory, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks for an entry and checks it. What cannot be believed is removed.
    #[must_use]
    pub fn lookup(&self, key: &Key) -> Lookup {
        match self.check(key) {
            None => Lookup::Miss,
            Some(Ok((file, kind))) => Lookup::Hit { file, kind },
            Some(Err(why)) => {
                self.remove(key);
                Lookup::Removed(why)
            }
        }
    }

    /// The entry, if there is one, or why it cannot be believed.
    fn check(&self, key: &Key) -> Option<Result<(File, Kind), String>> {
        let name = key.file_name();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match openat(&self.directory, name.as_str(), flags, Mode::empty()) {
            Ok(fd) => Some(entry::check(File::from(fd), key)),
            Err(Errno::NOENT) => None,
            Err(errno) => Some(Err(format!("it cannot be opened: {errno}"))),
        }
    }

    /// Removes an entry, if there is one.
    pub fn remove(&self, key: &Key) {
        // If it stays, the next lookup finds it wrong again.
        let _ = unlinkat(&self.directory, key.file_name().as_str(), AtFlags::empty());
    }

    /// Makes an entry from an artifact. Readers see it whole or not at all.
    ///
    /// # Errors
    /// If the file system says no, for example because it is full; nothing is left behind then.
    pub fn store(&self, key: &Key, kind: Kind, artifact: &File) -> Result<(), CacheError> {
        // A file system without locks gets its entry all the same; nobody sweeps there.
        let _writing = self.lock(FlockOperation::LockShared);
        let (temporary, file) = self.temporary(key)?;
        fault::at(Point::CacheBegun);
        let result = entry::write(&file, artifact, key, kind)
            .and_then(|()| Ok(fsync(&file)?))
            .and_then(|()| {
                fault::at(Point::CacheWritten);
                let name = key.file_name();
                Ok(renameat(&self.directory, temporary.as_str(), &self.directory, name.as_str())?)
            })
            .and_then(|()| Ok(fsync(&self.directory)?));
        if result.is_err() {
            let _ = unlinkat(&self.directory, temporary.as_str(), AtFlags::empty());
        }
        result.map_err(|source| self.failed(source))
    }

    fn temporary(&self, key: &Key) -> Result<(String, File), CacheError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let process = std::process::id();
        // A crashed process of the same number may have left its file, where nobody sweeps.
        for attempt in 0..64 {
            let name = format!("{TEMPORARY}{}.{process}.{attempt}", key.file_name());
            match openat(&self.directory, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => return Ok((name, fd.into())),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.failed(errno.into())),
            }
        }
        Err(self.failed(io::ErrorKind::AlreadyExists.into()))
    }

    fn failed(&self, source: io::Error) -> CacheError {
        CacheError::Io { path: self.path.clone(), source }
    }
}

/// What the names of unfinished files begin with; no entry's does.
const TEMPORARY: &str = ".";

/// Whether [`Cache::temporary`] gave this name. Files of anybody else stay.
fn is_temporary(name: &[u8]) -> bool {
    let text = std::str::from_utf8(name).unwrap_or_default();
    let parts: Vec<_> = text.split('.').collect();
    matches!(parts.as_slice(), ["", digest, "cwasm", process, attempt]
        if digest.len() == 64 && [process, attempt].iter().all(|it| it.parse::<u32>().is_ok()))
}

#[cfg(test)]
mod tests;
