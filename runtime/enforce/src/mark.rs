//! Marks on inodes: the roots of preopens, wasi-guard's own files, files with several names.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use aya::maps::{InodeStorage, MapData, MapError};
use wasi_guard_abi::guest::{MARK_LINKED, MARK_ROOT, MARK_RUNTIME, Mark};

use crate::{
    error::{Error, Result, Step as _},
    fault::{self, Point},
};

/// The map of marks.
pub struct Marks {
    map: InodeStorage<MapData, Mark>,
}

struct ByFd<'a>(BorrowedFd<'a>);

impl AsRawFd for ByFd<'_> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Marks {
    pub(crate) fn new(map: InodeStorage<MapData, Mark>) -> Self {
        Self { map }
    }

    /// Adds `flag` to the inode behind `fd` and returns its id. The caller holds the host
    /// lock: reading and writing a mark are two steps.
    fn add(&mut self, fd: BorrowedFd<'_>, flag: u32) -> Result<u64> {
        let fd = ByFd(fd);
        let old = match self.map.get(&fd, 0) {
            Ok(mark) => mark,
            Err(error) if missing(&error) => Mark::default(),
            Err(error) => return Err(Error::new("read an inode's mark").because(error)),
        };
        let id = if old.id == 0 { random_id()? } else { old.id };
        // Without the place that a directory may have: it is somebody else's to write.
        let new = Mark { id, flags: old.flags | flag, ..Mark::default() };
        if (new.id, new.flags) != (old.id, old.flags) {
            let point = match flag {
                MARK_ROOT => Point::MarkRoot,
                MARK_LINKED => Point::MarkLinks,
                _ => Point::MarkRuntime,
            };
            fault::map(point)
                .and_then(|()| self.map.insert(&fd, new, 0))
                .step(|| "mark an inode".into())?;
        }
        Ok(id)
    }

    /// Marks the root of a preopen; the caller keeps `fd` open as long as the mark must hold,
    /// because it goes with the inode's memory.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn root(&mut self, fd: BorrowedFd<'_>) -> Result<u64> {
        self.add(fd, MARK_ROOT)
    }

    /// Marks a file with several names; the caller keeps `fd` open as long as the mark must hold.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn linked(&mut self, fd: BorrowedFd<'_>) -> Result<u64> {
        self.add(fd, MARK_LINKED)
    }

    /// Marks the files that a worker needs to start: its program, and the libraries that the dynamic
    /// linker has mapped for this one, which are those of the worker's. Keep them open as long as
    /// workers are started.
    ///
    /// # Errors
    /// If a file cannot be opened or marked.
    pub fn runtime(&mut self, program: &File) -> Result<Runtime> {
        let executable = program.try_clone().step(|| "keep the worker's program".into())?;
        self.add(executable.as_fd(), MARK_RUNTIME)?;
        let mut libraries = Vec::new();
        for path in mapped_files()? {
            let file = open_path(&path).step(|| format!("open the library {}", path.display()))?;
            self.add(file.as_fd(), MARK_RUNTIME)?;
            libraries.push(file);
        }
        Ok(Runtime { executable, _libraries: libraries })
    }

    /// Marks one more file that a worker may execute or read while it is set up.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn runtime_file(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        self.add(fd, MARK_RUNTIME).map(drop)
    }
}

/// The marked files of the runtime, held open.
pub struct Runtime {
    executable: File,
    _libraries: Vec<File>,
}

impl Runtime {
    /// The worker's program.
    pub fn executable(&self) -> &File {
        &self.executable
    }
}

fn missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

/// Opens without asking for anything but the name.
fn open_path(path: &Path) -> std::io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)
}

/// A random number other than zero.
pub(crate) fn random_id() -> Result<u64> {
    let mut bytes = [0u8; 8];
    while bytes == [0; 8] {
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .step(|| "draw a random number".into())?;
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// The dynamic linker and libraries of this process, and the linker's cache.
fn mapped_files() -> Result<BTreeSet<PathBuf>> {
    let maps = fs::read("/proc/self/maps").step(|| "read /proc/self/maps".into())?;
    let mut files = BTreeSet::new();
    for line in maps.split(|byte| *byte == b'\n') {
        // Only executable mappings: those are the linker and the libraries.
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let executable = fields.nth(1).is_some_and(|modes| modes.get(2) == Some(&b'x'));
        let Some(path) = fields.nth(3) else { continue };
        let path = path.trim_ascii();
        if executable && path.starts_with(b"/") && !path.ends_with(b" (deleted)") {
            files.insert(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
        }
    }
    let cache = Path::new("/etc/ld.so.cache");
    if cache.exists() {
        files.insert(cache.into());
    }
    Ok(files)
}
