//! The socket of a running guest's supervisor: `guests/NAME` in the run directory, root's alone.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen,
        socket_with, sockopt::socket_peercred,
    },
    process::geteuid,
};
use wasi_guard_enforce::{cgroup, privilege::AsRoot, programs::run_dir};

use super::Error;
use crate::protocol::Channel;

/// Mode of the directory: who is not root does not come near a socket.
const DIRECTORY_MODE: u32 = 0o700;
/// Mode of a socket.
const SOCKET_MODE: u32 = 0o600;
/// How many may wait to be heard; one is heard at a time.
const BACKLOG: i32 = 16;

/// Where the sockets are.
fn directory() -> Result<PathBuf, Error> {
    Ok(run_dir()?.join("guests"))
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// A guest's socket. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Opens the socket of a guest whose cgroup exists, and removes those of guests that have
    /// none any more: their supervisors were killed.
    pub(super) fn bind(guest: &str) -> Result<Self, Error> {
        let _root = AsRoot::enter()?;
        let directory = directory()?;
        let step = |error| Error::step(format!("open a socket in {}", directory.display()), error);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&directory)
            .and_then(|()| {
                fs::set_permissions(&directory, fs::Permissions::from_mode(DIRECTORY_MODE))
            })
            .map_err(step)?;
        sweep(&directory, Path::new(cgroup::MOUNT)).map_err(step)?;
        Self::bind_in(&directory, guest).map_err(step)
    }

    fn bind_in(directory: &Path, guest: &str) -> io::Result<Self> {
        let path = directory.join(guest);
        // Names are unique among living guests, so whatever is there is nobody's.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let fd = socket()?;
        bind(&fd, &SocketAddrUnix::new(&path)?)?;
        let listener = Self { fd, path };
        fs::set_permissions(&listener.path, fs::Permissions::from_mode(SOCKET_MODE))?;
        listen(&listener.fd, BACKLOG)?;
        Ok(listener)
    }

    /// Somebody who has connected and may: root, or the user whom the supervisor is. `None` if
    /// nobody is there.
    pub(super) fn accept(&self) -> Option<Channel> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // An error is about one who is gone already, or about descriptors that are used up: then
        // there is nobody now.
        let fd = accept_with(&self.fd, flags).ok()?;
        // The directory's mode has said so already; but modes can be changed.
        let user = socket_peercred(&fd).ok()?.uid;
        (user.is_root() || user == geteuid()).then(|| Channel::from_fd(fd))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What cannot be removed here is swept by the next start.
        let _root = AsRoot::enter();
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the sockets of guests that have no cgroup, of whichever build. A socket is made after
/// its guest's cgroup, and a dead guest's cgroup is removed by the next start of its build.
fn sweep(directory: &Path, cgroups: &Path) -> io::Result<usize> {
    let mut living: BTreeSet<OsString> = BTreeSet::new();
    // The sockets first: one that appears later is not looked at.
    let sockets: Vec<PathBuf> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    for parent in fs::read_dir(cgroups)?.flatten() {
        if parent.file_name().as_encoded_bytes().starts_with(b"wasi-guard-") {
            let children = fs::read_dir(parent.path()).into_iter().flatten().flatten();
            living.extend(children.map(|child| child.file_name()));
        }
    }
    let mut swept = 0;
    for socket in sockets {
        if socket.file_name().is_some_and(|name| !living.contains(name)) {
            // Somebody else may have swept it meanwhile.
            swept += usize::from(fs::remove_file(socket).is_ok());
        }
    }
    Ok(swept)
}

/// Removes the sockets of guests that have no cgroup any more, and answers how many there were.
///
/// # Errors
/// If the directories cannot be listed.
pub(crate) fn sweep_sockets() -> Result<usize, Error> {
    let _root = AsRoot::enter()?;
    let directory = directory()?;
    if !directory.exists() {
        return Ok(0);
    }
    sweep(&directory, Path::new(cgroup::MOUNT)).map_err(|error| {
        Error::step(format!("sweep the sockets in {}", directory.display()), error)
    })
}

/// Connects to the supervisor of a guest.
///
/// # Errors
/// If there is no such guest, or whoever asks may not ask; the hint says which guests there are.
pub(crate) fn connect(guest: &str) -> Result<Channel, Error> {
    let path = directory()?.join(guest);
    let _root = AsRoot::enter()?;
    let connected = || -> io::Result<OwnedFd> {
        let fd = socket()?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(&path)?)?;
        Ok(fd)
    };
    connected().map(Channel::from_fd).map_err(|error| {
        let hint = match (error.kind(), running()) {
            (io::ErrorKind::PermissionDenied, _) => "run as root".to_owned(),
            (_, names) if names.is_empty() => "no guest runs".to_owned(),
            (_, names) => format!("guests that run: {}", names.join(", ")),
        };
        Error::step(format!("reach the supervisor of {guest}"), error).hint(hint)
    })
}

/// The names of the guests that run, as far as one may see them.
fn running() -> Vec<String> {
    let entries = directory().ok().and_then(|directory| fs::read_dir(directory).ok());
    let mut names: Vec<String> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Request, RequestError};

    fn connect_to(listener: &Listener) -> io::Result<OwnedFd> {
        let fd = socket()?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(&listener.path)?)?;
        Ok(fd)
    }

    #[test]
    fn a_socket_is_private_heard_without_waiting_and_gone_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let listener = Listener::bind_in(directory.path(), "guest-1-0").unwrap();
        let mode = fs::metadata(&listener.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert!(listener.accept().is_none(), "nobody is there");
        let client = connect_to(&listener).unwrap();
        let channel = listener.accept().unwrap();
        assert!(Request::receive(&channel).unwrap().is_none(), "it says nothing");
        drop(client);
        assert!(matches!(Request::receive(&channel), Err(RequestError::Closed)));
        let path = listener.path.clone();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_supervisor_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let dead = Listener::bind_in(directory.path(), "guest-1-0").unwrap();
        std::mem::forget(dead);
        let listener = Listener::bind_in(directory.path(), "guest-1-0").unwrap();
        let _client = connect_to(&listener).unwrap();
        assert!(listener.accept().is_some());
    }

    #[test]
    fn sockets_without_a_cgroup_are_swept() {
        let sockets = tempfile::tempdir().unwrap();
        let cgroups = tempfile::tempdir().unwrap();
        fs::create_dir_all(cgroups.path().join("wasi-guard-aa/guest-1-0")).unwrap();
        fs::create_dir_all(cgroups.path().join("wasi-guard-bb/guest-2-0")).unwrap();
        fs::create_dir_all(cgroups.path().join("other/guest-3-0")).unwrap();
        for name in ["guest-1-0", "guest-2-0", "guest-3-0", "guest-4-0"] {
            std::mem::forget(Listener::bind_in(sockets.path(), name).unwrap());
        }
        sweep(sockets.path(), cgroups.path()).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(sockets.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["guest-1-0", "guest-2-0"]);
    }
}
