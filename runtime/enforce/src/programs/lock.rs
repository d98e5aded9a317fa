//! Locks of the host: one for whoever changes pins, marks or the set of guests, one for whoever
//! replaces a table.

use std::{
    fs,
    fs::File,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::fs::FlockOperation;

use crate::{
    error::{Error, Result, Step as _},
    fault::{self, Point},
    privilege::AsRoot,
};

/// Runtime directory: locks, the canary that self-tests open, the sockets of supervisors.
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
        let (file, path) = open("lock")?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .step(|| format!("lock {}", path.display()))?;
        Ok(Self { _file: file })
    }

    /// Waits for the lock, `limit` at most.
    pub(crate) fn take_within(limit: Duration) -> Result<Self> {
        Ok(Self { _file: lock_within("lock", limit)? })
    }
}

/// Held while the table of a running guest is replaced.
///
/// The map of tables is preallocated: the entry that a replacement takes out is the one that the
/// next replacement on the same processor puts in, for whichever guest. A program that has just
/// found the old entry could so read another guest's table. The system call that replaces an
/// entry returns after all such programs have ended (`maybe_wait_bpf_programs` in the kernel's
/// kernel/bpf/syscall.c), so one replacement at a time is enough.
#[derive(Debug)]
pub(crate) struct SwapLock {
    _file: File,
}

impl SwapLock {
    /// Waits for the lock, `limit` at most: each replacement takes a grace period of the kernel's
    /// RCU, some milliseconds, but a supervisor that was stopped in one must not stop others.
    pub(crate) fn take(limit: Duration) -> Result<Self> {
        let lock = Self { _file: lock_within("swap.lock", limit)? };
        fault::call(Point::LockSwap).step(|| "lock the exchange of tables".into())?;
        Ok(lock)
    }
}

fn lock_within(name: &str, limit: Duration) -> Result<File> {
    let (file, path) = open(name)?;
    let start = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < limit => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => {
                return Err(Error::new(format!("lock {}", path.display()))
                    .because(error)
                    .hint("other guests are being started or reloaded; try again"));
            }
        }
    }
}

fn open(name: &str) -> Result<(File, PathBuf)> {
    let _root = AsRoot::enter()?;
    let path = run_dir()?.join(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        // Whoever can open it can hold it, and nobody could start a guest.
        .mode(0o600)
        .open(&path)
        .step(|| format!("open {}", path.display()))?;
    Ok((file, path))
}

/// The runtime directory, made if it is not there.
///
/// # Errors
/// If it cannot be made.
pub fn run_dir() -> Result<PathBuf> {
    let _root = AsRoot::enter()?;
    let path = PathBuf::from(RUN_DIR);
    // Others may pass, not list: a guest's worker opens the canary in it.
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&path).map_err(|error| {
        Error::new(format!("create {}", path.display()))
            .because(error)
            .hint("guarded runs need root, or CAP_SETUID; `wasi-guard doctor` tells more")
    })?;
    Ok(path)
}
