//! Makes a small Debian-like host out of a bare kernel: drivers, root disk, mounts, cgroups.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount, mount_bind, mount_move};

/// The virtio-serial port to the host.
pub(crate) const PORT: &str = "/dev/vport0p1";
/// What the disks need; the rest is loaded by the kernel or by `modprobe` when it is asked for.
const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_console"];
const ROOT_DISK: &str = "/dev/vda";
const EXT4_DISK: &str = "/dev/vdb";
const NEW_ROOT: &str = "/newroot";

/// In the initramfs: loads the drivers of the port and of the disks.
pub(crate) fn load_drivers() -> Result<()> {
    let none = MountFlags::empty();
    mount_new("proc", "/proc", "proc", none, None)?;
    mount_new("sysfs", "/sys", "sysfs", none, None)?;
    mount_new("devtmpfs", "/dev", "devtmpfs", none, None)?;
    busybox(&[&["modprobe", "-a"], &DRIVERS[..]].concat())
}

/// Mounts the root disk and makes it the root directory, as `switch_root` does.
///
/// A real root file system, because the kernel's initial one cannot be moved or pivoted.
pub(crate) fn enter_root_disk() -> Result<()> {
    wait_for(ROOT_DISK)?;
    mount_new(ROOT_DISK, NEW_ROOT, "ext4", MountFlags::empty(), None)?;
    for dir in ["/dev", "/proc", "/sys"] {
        let to = format!("{NEW_ROOT}{dir}");
        create_dir(&to)?;
        mount_move(dir, &*to).with_context(|| format!("cannot move {dir}"))?;
    }
    // The modules belong to the kernel, the disk belongs to the caller.
    let modules = format!("{NEW_ROOT}/usr/lib/modules");
    create_dir(&modules)?;
    mount_bind("/lib/modules", &*modules).context("cannot mount the kernel's modules")?;
    rustix::process::chdir(NEW_ROOT).context("cannot enter the root disk")?;
    mount_move(".", "/").context("cannot make the root disk the root")?;
    rustix::process::chroot(".").context("cannot make the root disk the root")?;
    rustix::process::chdir("/").context("cannot enter the new root")
}

/// On the root disk: mounts, devices, loopback, cgroup controllers, log level.
pub(crate) fn configure() -> Result<()> {
    let hard = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let soft = MountFlags::NOSUID | MountFlags::NODEV;
    mount_new("devpts", "/dev/pts", "devpts", hard, Some(c"gid=5,mode=620,ptmxmode=666"))?;
    mount_new("tmpfs", "/dev/shm", "tmpfs", soft, Some(c"mode=1777"))?;
    mount_new("tmpfs", "/run", "tmpfs", soft, Some(c"mode=755"))?;
    mount_new("tmpfs", "/tmp", "tmpfs", soft, Some(c"mode=1777"))?;
    mount_new("securityfs", "/sys/kernel/security", "securityfs", hard, None)?;
    mount_new("cgroup2", "/sys/fs/cgroup", "cgroup2", hard, Some(c"nsdelegate"))?;
    mount_new("bpf", "/sys/fs/bpf", "bpf", hard, Some(c"mode=700"))?;
    mount_new("tracefs", "/sys/kernel/tracing", "tracefs", hard, None)?;
    mount_new("debugfs", "/sys/kernel/debug", "debugfs", hard, None)?;
    wait_for(EXT4_DISK)?;
    mount_new(EXT4_DISK, "/mnt/ext4", "ext4", MountFlags::empty(), None)?;
    for (link, to) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let to = format!("/proc/self/fd{to}");
        symlink(&to, format!("/dev/{link}")).with_context(|| format!("cannot link {link}"))?;
    }
    write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +io +memory +pids")?;
    // Warnings belong into the console's log, which the host keeps ("quiet" hides them).
    write("/proc/sys/kernel/printk", "5 4 1 7")?;
    let name = fs::read_to_string("/etc/hostname").context("cannot read /etc/hostname")?;
    rustix::system::sethostname(name.trim().as_bytes()).context("cannot set the host name")?;
    busybox(&["ip", "link", "set", "lo", "up"])
}

/// Waits until a device's node is there; ten seconds are the limit.
pub(crate) fn wait_for(node: &str) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    while !Path::new(node).exists() {
        ensure!(Instant::now() < limit, "{node} did not appear: is its driver missing?");
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn mount_new(
    source: &str,
    target: &str,
    fstype: &str,
    flags: MountFlags,
    data: Option<&CStr>,
) -> Result<()> {
    create_dir(target)?;
    mount(source, target, fstype, flags, data)
        .with_context(|| format!("cannot mount {fstype} on {target}"))
}

fn create_dir(path: &str) -> Result<()> {
    // Not `create_dir_all` alone: sysfs refuses mkdir with EPERM also where the directory exists.
    if Path::new(path).is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).with_context(|| format!("cannot create {path}"))
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text:?} to {path}"))
}

fn busybox(words: &[&str]) -> Result<()> {
    let status = Command::new("/bin/busybox")
        .args(words)
        .status()
        .with_context(|| format!("cannot start busybox {}", words.join(" ")))?;
    ensure!(status.success(), "busybox {} failed: {status}", words.join(" "));
    Ok(())
}
