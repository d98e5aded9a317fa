//! The disks on which preopens lie, as `io.max` names them.

use std::{collections::BTreeSet, fs, io, os::fd::AsFd, path::Path};

use procfs_core::{
    FromBufRead as _,
    process::{MountInfo, MountInfos},
};
use rustix::fs::{AtFlags, StatxFlags, statx};
use wasi_guard_enforce::cgroup::{DiskLimits, Disks};

use super::{Error, plan::Root};

const STEP: &str = "find the disks of the preopens, for [limits]";

/// File systems that lie in memory, or in nothing: no disk is read for them.
const WITHOUT_DISK: &[&str] = &[
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "hugetlbfs",
    "mqueue",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];
/// File systems that tell the kernel whose data they write back (`SB_I_CGROUPWB`): of the others,
/// what is written counts as the kernel's own.
const WITH_WRITER: &[&str] = &["ext2", "ext3", "ext4", "f2fs", "xfs"];

/// The disks below these preopens, for these limits: none if there are no limits.
///
/// # Errors
/// If a file system does not tell its disks, or cannot be bounded on writing.
pub(super) fn below(roots: &[Root], limits: DiskLimits) -> Result<Disks, Error> {
    if limits.is_empty() {
        return Ok(Disks::default());
    }
    let mounts = mounts().map_err(|error| Error::step(STEP, error))?;
    let mut numbers = BTreeSet::new();
    for root in roots {
        let mount = mount_of(root, &mounts).map_err(|error| Error::step(STEP, error))?;
        let disk = disk(mount, limits).map_err(|cause| {
            let mut error = Error::new(STEP);
            let (place, kind) = (mount.mount_point.display(), &mount.fs_type);
            error.causes.push(format!("{} is on {place} ({kind}): {cause}", root.guest));
            error.hint(
                "leave read_bps, write_bps, read_iops and write_iops out, or take a directory on ext4, xfs or f2fs",
            )
        })?;
        numbers.extend(disk);
    }
    Ok(Disks { numbers: numbers.into_iter().collect(), limits })
}

fn mounts() -> io::Result<Vec<MountInfo>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let MountInfos(mounts) = MountInfos::from_buf_read(&text[..])
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(mounts)
}

/// The mount of a preopen. Those below it are outside of the preopen.
fn mount_of<'a>(root: &Root, mounts: &'a [MountInfo]) -> io::Result<&'a MountInfo> {
    let id = mount_id(&root.fd)?;
    mounts.iter().find(|mount| mount.mnt_id == id).ok_or_else(|| {
        io::Error::other(format!("the preopen {} is on a mount that is not listed", root.guest))
    })
}

fn mount_id(fd: impl AsFd) -> io::Result<i32> {
    let stat = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    i32::try_from(stat.stx_mnt_id).map_err(io::Error::other)
}

/// The number of the disk below a mount, if there is one.
fn disk(mount: &MountInfo, limits: DiskLimits) -> Result<Option<(u32, u32)>, String> {
    let kind = mount.fs_type.as_str();
    if WITHOUT_DISK.contains(&kind) {
        return Ok(None);
    }
    if mount.majmin.starts_with("0:") {
        return Err("this file system does not tell on which disks it lies".into());
    }
    if limits.of_writing() && !WITH_WRITER.contains(&kind) {
        return Err("this file system does not tell the kernel whose data it writes".into());
    }
    let device = Path::new("/sys/dev/block").join(&mount.majmin);
    let told = |error: io::Error| format!("{}: {error}", device.display());
    let mut device = fs::canonicalize(&device).map_err(told)?;
    // The kernel bounds whole disks (blkg_conf_open_bdev, block/blk-cgroup.c).
    if device.join("partition").exists() {
        device.pop();
    }
    let text = fs::read_to_string(device.join("dev")).map_err(told)?;
    number(text.trim()).map(Some).ok_or_else(|| format!("{text:?} is no device number"))
}

fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> MountInfo {
        MountInfo::from_line(line).unwrap()
    }

    #[test]
    fn what_has_no_disk_and_what_hides_it() {
        let read = DiskLimits { read_bps: Some(1), ..DiskLimits::default() };
        let write = DiskLimits { write_bps: Some(1), ..DiskLimits::default() };
        let tmpfs = mount("36 35 0:40 / /tmp rw - tmpfs tmpfs rw");
        assert_eq!(disk(&tmpfs, write), Ok(None));
        let overlay = mount("36 35 0:41 / / rw - overlay overlay rw");
        assert!(disk(&overlay, read).unwrap_err().contains("on which disks"));
        let vfat = mount("36 35 8:1 / /boot rw - vfat /dev/sda1 rw");
        assert!(disk(&vfat, write).unwrap_err().contains("whose data"));
        let gone = mount("36 35 4000:1 / /x rw - ext4 /dev/x rw");
        assert!(disk(&gone, write).unwrap_err().contains("/sys/dev/block/4000:1"));
    }

    #[test]
    fn the_mount_of_a_preopen_is_the_one_that_it_was_opened_on() {
        let folder = tempfile::tempdir().unwrap();
        let fd = fs::File::open(folder.path()).unwrap().into();
        let root = Root { fd, guest: "/d".into(), file: false, overlay: false };
        let path = fs::canonicalize(folder.path()).unwrap();
        let own = mount_id(&root.fd).unwrap();
        let mounts = [
            mount(&format!("{} 1 8:2 / {} rw - ext4 /dev/b rw", own + 1, path.display())),
            mount(&format!("{own} 1 8:1 / / rw - ext4 /dev/a rw")),
        ];
        assert_eq!(mount_of(&root, &mounts).unwrap().majmin, "8:1");
        assert!(mount_of(&root, &mounts[..1]).is_err(), "its own is not listed");
    }

    #[test]
    fn the_mounts_of_this_process_are_listed() {
        assert!(!super::mounts().unwrap().is_empty());
    }
}
