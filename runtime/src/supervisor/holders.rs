//! Directories that hold single files.
//!
//! WASI takes directories only, so a guest gets a preopen that is a file by way of a directory in
//! which there is nothing else. It is made in a mount namespace that nobody else is in: a small
//! tmpfs, an empty file for each name, and over it the host's file, as a bind mount. Rules about
//! the file are found by its own inode, those about the directory by the directory's. Nobody
//! leaves or enters the namespace: the worker gets a descriptor of the directory.
//!
//! Nothing can be added: each inode that the tmpfs may have is in use, and its directories may be
//! written to by nobody. Mounted read-only it is not, because then the kernel would answer before
//! it asks, and the attempt would have no record.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    thread,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, chmodat, mkdirat, open, openat},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
        mount_change, move_mount, open_tree, unmount,
    },
    process::{chdir, pivot_root},
};
use wasi_guard_enforce::{privilege::AsRoot, programs::run_dir};
use wasi_guard_policy::PreopenKind;

use super::{Error, Plan, sys::unshare_mounts};

/// The directories, as long as they are to be there.
pub(crate) struct Holders {
    /// In the order of the policy's preopens that are [`PreopenKind::Holder`].
    pub(crate) list: Vec<Holder>,
    /// Keeps the mounts.
    _namespace: Option<OwnedFd>,
}

/// A directory for single files.
pub(crate) struct Holder {
    /// Opened with `O_PATH`.
    pub(crate) fd: OwnedFd,
    pub(crate) guest: String,
}

/// What is to be in a directory: names, and what is mounted there.
type Content = Vec<(Vec<u8>, OwnedFd)>;

/// Makes the directories for the plan's single files.
///
/// # Errors
/// If the kernel refuses a step.
pub(crate) fn make(plan: &Plan) -> Result<Holders, Error> {
    let mut guests = Vec::new();
    let mut contents = Vec::new();
    for preopen in plan.policy.preopens.iter().filter(|it| it.kind == PreopenKind::Holder) {
        let mut content = Content::new();
        for (index, name) in plan.policy.held_by(preopen) {
            let Some(root) = plan.roots.get(index) else { continue };
            // Made here, because the kernel binds only what is in the caller's own namespace.
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH;
            let tree = open_tree(&root.fd, "", flags).map_err(|error| {
                failed(&format!("make a bind mount of the file of {}", root.guest), error)
            })?;
            content.push((name, tree));
        }
        guests.push(preopen.guest.clone());
        contents.push(content);
    }
    if guests.is_empty() {
        return Ok(Holders { list: Vec::new(), _namespace: None });
    }
    let place = run_dir()?;
    let step = "make a directory for single files";
    let (fds, namespace) = thread::scope(|scope| {
        thread::Builder::new()
            .name("holders".into())
            .spawn_scoped(scope, || build(&place, contents))
            .map_err(|error| Error::step(step, error))?
            .join()
            .map_err(|_| Error::new(step))?
    })?;
    let list = guests.into_iter().zip(fds).map(|(guest, fd)| Holder { fd, guest }).collect();
    Ok(Holders { list, _namespace: Some(namespace) })
}

fn failed(step: &str, error: Errno) -> Error {
    let result = Error::step(step, std::io::Error::from(error));
    match error {
        Errno::PERM | Errno::ACCESS => result.hint(
            "a preopen that is a single file needs the right to mount (CAP_SYS_ADMIN); in a systemd service, no RestrictNamespaces=",
        ),
        _ => result.hint("name the directory of the file as the preopen, with a rule for the file"),
    }
}

/// Runs in a thread of its own, which ends after it: its namespace is not the others'. Answers the
/// directories and the namespace.
fn build(place: &Path, contents: Vec<Content>) -> Result<(Vec<OwnedFd>, OwnedFd), Error> {
    let step = |what: &'static str| move |error| failed(what, error);
    // The place is root's.
    let _root = AsRoot::enter()?;
    unshare_mounts().map_err(step("make a mount namespace for single files"))?;
    // What is mounted here must not appear anywhere else.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(step("keep mounts for single files private"))?;
    let read_only = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = open("/proc/thread-self/ns/mnt", read_only, Mode::empty())
        .map_err(step("hold the mount namespace for single files"))?;

    // The root, the directories, the files.
    let inodes = 1 + contents.iter().map(|content| 1 + content.len()).sum::<usize>();
    let options = std::ffi::CString::new(format!("mode=0555,size=4096,nr_inodes={inodes}"))
        .map_err(|error| Error::step("mount a tmpfs for single files", error))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", place, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(step("mount a tmpfs for single files"))?;
    let mut directories = Vec::new();
    for (number, content) in contents.into_iter().enumerate() {
        let path = place.join(number.to_string());
        directories.push(fill(&path, content).map_err(step("fill a directory for single files"))?);
    }
    // Everything else in the namespace goes: a file system that somebody unmounts must not be
    // held by a guest that has nothing of it.
    chdir(place)
        .and_then(|()| pivot_root(".", "."))
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .map_err(step("leave all other mounts behind"))?;
    Ok((directories, namespace))
}

fn fill(path: &Path, content: Content) -> rustix::io::Result<OwnedFd> {
    mkdirat(CWD, path, Mode::RWXU)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, path, flags, Mode::empty())?;
    for (name, tree) in content {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(openat(&directory, &name[..], flags, Mode::empty())?);
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(tree.as_fd(), "", &directory, &name[..], flags)?;
    }
    // Whatever the process's umask is.
    chmodat(CWD, path, Mode::from_raw_mode(0o555), AtFlags::empty())?;
    Ok(directory)
}
