//! One lock a host: whoever changes pins, marks or the set of guests holds it.

use std::{
    fs,
    fs::File,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use rustix::fs::FlockOperation;

use crate::error::{Error, Result, Step as _};

/// Runtime directory: the lock, and the canary that self-tests open.
const RUN_DIR: &str = "/run/wasi-guard";

/// The lock; released when dropped, or by the kernel when the process ends.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

impl HostLock {
    /// Waits for the lock.
    ///
    /// # Errors
    /// If the runtime directory cannot be made.
    pub fn take() -> Result<Self> {
        let dir = run_dir()?;
        let path = dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            // Whoever can open it can hold it, and nobody could start a guest.
            .mode(0o600)
            .open(&path)
            .step(|| format!("open {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .step(|| format!("lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// The runtime directory, made if it is not there.
///
/// # Errors
/// If it cannot be made.
pub fn run_dir() -> Result<PathBuf> {
    let path = PathBuf::from(RUN_DIR);
    // Others may pass, not list: a guest's worker opens the canary in it.
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&path).map_err(|error| {
        Error::new(format!("create {}", path.display()))
            .because(error)
            .hint("guarded runs need root")
    })?;
    Ok(path)
}
