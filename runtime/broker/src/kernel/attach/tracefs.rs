//! The kernel's list of tracepoints.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Where it is mounted; systemd and others do that.
const MOUNTED: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];
/// Longest number in it, with its newline.
const MAX_NUMBER: u64 = 24;

/// The number of a tracepoint.
///
/// # Errors
/// `ENOENT` if there is none; `EINVAL` if a name is none.
pub(super) fn tracepoint(category: &str, name: &str) -> Result<u64, Errno> {
    if !is_name(category) || !is_name(name) {
        return Err(Errno::INVAL);
    }
    let path = format!("{category}/{name}/id");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = File::from(openat(events()?, path, flags, Mode::empty())?);
    let mut text = String::new();
    file.take(MAX_NUMBER)
        .read_to_string(&mut text)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    text.trim().parse().map_err(|_| Errno::IO)
}

/// The directory of tracepoints. Where tracefs is not mounted, as in many containers, it is mounted
/// in a place that only this descriptor knows.
fn events() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Some(found) =
        MOUNTED.iter().find_map(|path| openat(CWD, *path, flags, Mode::empty()).ok())
    {
        return Ok(found);
    }
    let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    openat(root, "events", flags, Mode::empty())
}

/// Is it the name of one directory?
fn is_name(text: &str) -> bool {
    let letters = text.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'-'));
    letters && !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for text in ["", ".", "..", "a/b", "/", "a\0", "a b"] {
            assert_eq!(tracepoint(text, "sched_switch"), Err(Errno::INVAL), "{text:?}");
            assert_eq!(tracepoint("sched", text), Err(Errno::INVAL), "{text:?}");
        }
    }
}
