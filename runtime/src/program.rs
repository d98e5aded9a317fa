//! The worker's program: a file of its own beside this one, `NAME-worker` beside `NAME`.
//!
//! It is opened once in the life of a supervisor, so that an update under way changes nothing for a
//! guest that runs. Supervisor and worker are of one build or do not work together: their messages
//! and the compiled modules have no other version.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use crate::supervisor::Error;

/// Names the sources and features that this was built from.
pub const BUILD: &str = env!("WASI_GUARD_BUILD");

const OWN: &str = "/proc/self/exe";
const HINT: &str =
    "`wasi-guard` and `wasi-guard-worker` of the same build belong into one directory";
/// Write permission of the group and of others (inode(7)).
const WRITABLE: [(u32, &str); 2] = [(0o020, "its group"), (0o002, "everybody")];

/// The worker's program, held open.
#[derive(Debug)]
pub struct WorkerProgram {
    file: File,
    path: PathBuf,
}

impl WorkerProgram {
    /// The one that belongs to this program.
    ///
    /// # Errors
    /// If there is none, or if somebody could have put it there who could not have changed this
    /// program: it is started with rights in namespaces of its own before it gives them up.
    pub fn find() -> Result<Self, Error> {
        let step = "find the worker's program";
        let own = fs::read_link(OWN).and_then(|path| Ok((fs::metadata(OWN)?, path)));
        let (own, own_path) = own.map_err(|error| Error::step(step, error))?;
        let path = beside(&own_path);
        let file = find(&own, &own_path, &path).map_err(|error| {
            let error = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            Error::step(step, error).hint(HINT)
        })?;
        Ok(Self { file, path })
    }

    /// A program that is a worker if it is started as one.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open(path)?, path: path.to_owned() })
    }

    /// Only its name is open (`O_PATH`).
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Where it was found: after an update another one may lie there.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `NAME-worker` beside `NAME`.
fn beside(own: &Path) -> PathBuf {
    let mut name = own.file_name().unwrap_or_default().to_owned();
    name.push("-worker");
    own.with_file_name(name)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)
}

/// The directory is looked up once: whoever may write above it could exchange it in between.
fn find(own: &Metadata, own_path: &Path, path: &Path) -> io::Result<File> {
    let directory = open(own_path.parent().unwrap_or(own_path))?;
    let below = |path: &Path| -> io::Result<File> {
        let name = path.file_name().unwrap_or_default();
        Ok(openat(&directory, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.into())
    };
    let there = below(own_path).and_then(|file| file.metadata());
    if !there.is_ok_and(|it| (it.dev(), it.ino()) == (own.dev(), own.ino())) {
        return Err(io::Error::other("this program was exchanged while it started"));
    }
    let file = below(path)?;
    let worker = file.metadata()?;
    if !worker.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    for (what, it) in [("it", &worker), ("its directory", &directory.metadata()?)] {
        if let Some(problem) = less_kept(own, it) {
            return Err(io::Error::other(format!("{what} {problem}, other than this program")));
        }
    }
    Ok(file)
}

/// Who can change `it` and not the program.
fn less_kept(own: &Metadata, it: &Metadata) -> Option<String> {
    if it.uid() != own.uid() && it.uid() != 0 {
        return Some(format!("belongs to the user {}", it.uid()));
    }
    WRITABLE.iter().find_map(|(bit, who)| {
        let same = own.mode() & bit != 0 && (*bit == 0o002 || own.gid() == it.gid());
        (it.mode() & bit != 0 && !same).then(|| format!("can be written by {who}"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn it_lies_beside_this_program() {
        for (own, worker) in
            [("/usr/bin/wasi-guard", "/usr/bin/wasi-guard-worker"), ("/x", "/x-worker")]
        {
            assert_eq!(beside(own.as_ref()), Path::new(worker));
        }
    }

    /// Works, refused, works again.
    #[test]
    fn what_others_can_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let path = |name: &str| folder.path().join(name);
        fs::write(path("own"), "").unwrap();
        fs::write(path("worker"), "").unwrap();
        mode(folder.path(), 0o755);
        let look = |own_mode: u32, worker: &Path, worker_mode: u32| {
            mode(&path("own"), own_mode);
            mode(worker, worker_mode);
            let found = find(&fs::metadata(path("own")).unwrap(), &path("own"), worker);
            found.map(drop).map_err(|error| error.to_string())
        };
        let worker = path("worker");
        let works = || assert_eq!(look(0o755, &worker, 0o755), Ok(()));
        let refused = |found: Result<(), String>, why: &str| {
            let error = found.unwrap_err();
            assert!(error.contains(why), "{error}");
            works();
        };
        works();
        refused(look(0o755, &worker, 0o775), "it can be written by its group");
        refused(look(0o755, &worker, 0o757), "it can be written by everybody");
        // No worse than this program is.
        assert_eq!(look(0o777, &worker, 0o777), Ok(()));
        mode(folder.path(), 0o777);
        let open_to_all = look(0o755, &worker, 0o755);
        mode(folder.path(), 0o755);
        refused(open_to_all, "its directory can be written by");
        fs::create_dir(path("folder")).unwrap();
        refused(look(0o755, &path("folder"), 0o755), "it is no file");
        let none = find(&fs::metadata(path("own")).unwrap(), &path("own"), &path("none"));
        refused(none.map(drop).map_err(|error| error.to_string()), "No such file");
        let before = fs::metadata(path("own")).unwrap();
        fs::write(path("new"), "").unwrap();
        fs::rename(path("new"), path("own")).unwrap();
        let exchanged = find(&before, &path("own"), &worker);
        refused(exchanged.map(drop).map_err(|error| error.to_string()), "was exchanged");
        // A link counts as what it leads to.
        symlink("worker", path("link")).unwrap();
        assert_eq!(look(0o755, &path("link"), 0o755), Ok(()));
        if rustix::process::geteuid().is_root() {
            for (name, owner) in [("worker", 1000), ("own", 1000)] {
                chown(path(name), Some(owner), None).unwrap();
                let found = look(0o755, &worker, 0o755);
                chown(path(name), Some(0), None).unwrap();
                match name {
                    "worker" => refused(found, "it belongs to the user 1000"),
                    // Root may change everybody's.
                    _ => assert_eq!(found, Ok(())),
                }
            }
        }
    }

    #[test]
    fn an_exchange_of_the_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker");
        fs::write(&path, "old").unwrap();
        let program = WorkerProgram::open(&path).unwrap();
        fs::write(folder.path().join("new"), "new").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        let held = format!("/proc/self/fd/{}", program.file().as_raw_fd());
        assert_eq!(fs::read_to_string(held).unwrap(), "old");
        assert_eq!(fs::read_to_string(program.path()).unwrap(), "new");
    }
}
