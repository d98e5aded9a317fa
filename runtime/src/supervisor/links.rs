//! The search for files with several names, before a policy goes into force.
//!
//! The kernel judges a name. A file that has two, made by `ln` on the host, would be open under the
//! one although the other is denied. So a file gets what all its names in the preopens have in
//! common. Links that the guest makes later cannot widen (rule 4 in docs/architecture.md); links
//! that somebody else makes later are not seen.

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, statat,
    },
    io::Errno,
};
use wasi_guard_abi::operation::right;
use wasi_guard_enforce::guest::LinkedFile;
use wasi_guard_policy::{Policy, Table};

use super::{Error, plan::Root};

/// Levels below a preopen that are looked at. The kernel side denies what lies deeper: its walk has
/// 8,192 steps for both ways.
const MAX_DEPTH: usize = 4096;

/// Searches, if names change while they are looked at.
const TRIES: usize = 5;

/// Device and inode number.
type Id = (u64, u64);
/// Names from a preopen down.
type Path = Vec<Vec<u8>>;

/// A file with several names, as far as they are known.
#[derive(Default)]
struct Names {
    common: Option<u16>,
    differ: bool,
    deny_rule: u32,
    /// Where it was seen: preopen and path.
    places: Vec<(usize, Path)>,
}

/// Files whose names differ in their rights. Takes one look at every name below the preopens,
/// none if the policy gives all names the same rights.
///
/// # Errors
/// If a directory cannot be read, or is changed all the time.
pub(crate) fn search(
    policy: &Policy,
    table: &Table,
    preopens: &[Root],
) -> Result<Vec<LinkedFile>, Error> {
    if policy.same_rights_everywhere() {
        return Ok(Vec::new());
    }
    for _ in 0..TRIES {
        if let Some(files) = try_search(table, preopens)? {
            return Ok(files);
        }
    }
    Err(Error::new("look for files with several names: they change their names meanwhile")
        .hint("stop what renames files below the preopens, or name fewer of them in the policy"))
}

/// `None` if a file was gone under all its names when it was to be opened.
fn try_search(table: &Table, preopens: &[Root]) -> Result<Option<Vec<LinkedFile>>, Error> {
    let mut roots = Vec::new();
    for directory in preopens {
        roots.push(id(&fstat(&directory.fd).map_err(|error| failed(directory, &[], error))?));
    }
    let mut files: HashMap<Id, Names> = HashMap::new();
    for (preopen, directory) in preopens.iter().enumerate() {
        let mut see = |path: &[Vec<u8>], stat: &Stat| {
            let components: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
            let verdict = table.rights(preopen, &components);
            let rights = verdict.rights & right::OF_FILE;
            let names = files.entry(id(stat)).or_default();
            let common = names.common.unwrap_or(rights);
            names.differ |= common != rights;
            names.common = Some(common & rights);
            if names.deny_rule == 0 || (1..names.deny_rule).contains(&verdict.deny_rule) {
                names.deny_rule = verdict.deny_rule;
            }
            names.places.push((preopen, path.to_vec()));
        };
        if directory.file {
            // One of the names that its file may have.
            let stat = fstat(&directory.fd).map_err(|error| failed(directory, &[], error))?;
            if stat.st_nlink > 1 {
                see(&[], &stat);
            }
            continue;
        }
        // The same directory twice: the first one decides, as in the kernel's search for a root.
        if !roots[..preopen].contains(&roots[preopen]) {
            walk(directory, &roots, &mut see)?;
        }
    }
    let mut found = Vec::new();
    for (wanted, names) in files.into_iter().filter(|(_, names)| names.differ) {
        let rights = names.common.unwrap_or(0) | (right::ALL & !right::OF_FILE);
        // Overlayfs has an inode for each name of a lower layer's file, so each of them is marked;
        // elsewhere one name leads to the mark of all.
        let (apart, together): (Vec<_>, Vec<_>) =
            names.places.into_iter().partition(|(preopen, _)| {
                preopens.get(*preopen).is_some_and(|directory| directory.overlay)
            });
        let groups = apart.iter().map(std::slice::from_ref).chain([&together[..]]);
        for places in groups.filter(|places| !places.is_empty()) {
            let Some(fd) = open(preopens, wanted, places)? else { return Ok(None) };
            found.push(LinkedFile { fd, rights, deny_rule: names.deny_rule });
        }
    }
    Ok(Some(found))
}

fn id(stat: &Stat) -> Id {
    (stat.st_dev, stat.st_ino)
}

fn failed(directory: &Root, path: &[Vec<u8>], error: Errno) -> Error {
    let path = String::from_utf8_lossy(&path.join(&b'/')).into_owned();
    let step = format!("look for files with several names below {} at {path:?}", directory.guest);
    let error_number = error;
    let error = Error::step(step, std::io::Error::from(error));
    if error_number == Errno::MFILE {
        error.hint("raise the limit of open files (ulimit -n): it takes one for each level")
    } else {
        error.hint("the supervisor must be able to read every directory below a preopen")
    }
}

/// One directory on the way.
struct Level {
    entries: std::vec::IntoIter<(Vec<u8>, FileType)>,
    fd: OwnedFd,
}

/// Calls `see` for each name below the directory that is one of several of a file. Other file
/// systems and other preopens below are not entered: the kernel judges them apart.
fn walk(
    directory: &Root,
    roots: &[Id],
    see: &mut impl FnMut(&[Vec<u8>], &Stat),
) -> Result<(), Error> {
    let mut path: Path = Vec::new();
    let top = openat(&directory.fd, ".", directory_flags(), Mode::empty())
        .and_then(Level::list)
        .map_err(|error| failed(directory, &path, error))?;
    let mut levels = vec![top];
    loop {
        let deeper = levels.len() < MAX_DEPTH;
        let Some(level) = levels.last_mut() else { return Ok(()) };
        let Some((name, kind)) = level.entries.next() else {
            levels.pop();
            path.pop();
            continue;
        };
        path.push(name);
        let below = look(level.fd.as_fd(), &path, kind, roots, deeper, see)
            .map_err(|error| failed(directory, &path, error))?;
        match below {
            Some(below) => levels.push(below),
            None => drop(path.pop()),
        }
    }
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Looks at one name; the directory to go into, if it is one.
fn look(
    above: BorrowedFd<'_>,
    path: &[Vec<u8>],
    kind: FileType,
    roots: &[Id],
    deeper: bool,
    see: &mut impl FnMut(&[Vec<u8>], &Stat),
) -> Result<Option<Level>, Errno> {
    let Some(name) = path.last() else { return Ok(None) };
    if kind == FileType::Directory || kind == FileType::Unknown {
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(above, &name[..], directory_flags(), Mode::empty(), resolve) {
            Ok(fd) => {
                let skip = !deeper || roots.contains(&id(&fstat(&fd)?));
                return if skip { Ok(None) } else { Level::list(fd).map(Some) };
            }
            // Gone, a mount, or no directory (any more).
            Err(Errno::NOENT | Errno::XDEV) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
    }
    match statat(above, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => {
            if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                see(path, &stat);
            }
            Ok(None)
        }
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Level {
    fn list(fd: OwnedFd) -> Result<Self, Errno> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                entries.push((name.to_vec(), entry.file_type()));
            }
        }
        Ok(Self { entries: entries.into_iter(), fd })
    }
}

/// Opens the file by one of its names; `None` if it has none of them any more.
fn open(preopens: &[Root], wanted: Id, places: &[(usize, Path)]) -> Result<Option<OwnedFd>, Error> {
    for (preopen, path) in places {
        let Some(directory) = preopens.get(*preopen) else { continue };
        match open_at(directory, path) {
            Ok(fd) if fstat(&fd).is_ok_and(|stat| id(&stat) == wanted) => return Ok(Some(fd)),
            // Somebody renames meanwhile; another name may do.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
            Err(error) => return Err(failed(directory, path, error)),
        }
    }
    Ok(None)
}

/// Name by name, because a path may be longer than the kernel takes.
fn open_at(directory: &Root, path: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    for name in path {
        let from = at.as_ref().map_or(directory.fd.as_fd(), |fd| fd.as_fd());
        at = Some(openat(from, &name[..], flags, Mode::empty())?);
    }
    match at {
        Some(fd) => Ok(fd),
        // A single file.
        None => rustix::io::fcntl_dupfd_cloexec(&directory.fd, 0),
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
