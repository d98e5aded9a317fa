//! What is of no use in a cache, for `wasi-guard gc`.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FlockOperation, unlinkat};
use rustix::io::Errno;

use super::{Cache, CacheError, Key};

/// How much was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files that were never finished.
    pub unfinished: usize,
    /// Entries that no lookup would believe: damaged, not ours, or in another version's format.
    pub unusable: usize,
}

impl Cache {
    /// Removes what killed processes left half written, and entries that no lookup would believe.
    /// An entry of another version in the same format stays: its name is a digest, of which
    /// nothing tells the version. `None`: there is no cache.
    ///
    /// # Errors
    /// See [`CacheError`]; also if somebody writes to the cache at the moment.
    pub fn collect(path: &Path) -> Result<Option<Collected>, CacheError> {
        let cache = match Self::of_directory(path) {
            Err(CacheError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        let failed = |errno: Errno| cache.failed(errno.into());
        // Writers wait meanwhile, so that no entry takes the place of one that is looked at.
        let lock = cache.lock(FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            if errno == Errno::WOULDBLOCK {
                cache.failed(io::Error::other("somebody writes to it at the moment"))
            } else {
                failed(errno)
            }
        })?;
        let mut collected = Collected { unfinished: cache.sweep(&lock), unusable: 0 };
        for entry in Dir::read_from(&lock).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(key) = name.to_str().ok().and_then(Key::of_file_name) else { continue };
            if matches!(cache.check(&key), Some(Err(_))) {
                unlinkat(&cache.directory, name, AtFlags::empty()).map_err(failed)?;
                collected.unusable += 1;
            }
        }
        Ok(Some(collected))
    }
}
