//! The disks of a machine: its root, made for one set of files, and an empty ext4.
//!
//! Both are opened as snapshots: what a machine writes is gone when it ends.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::{NamedTempFile, TempPath};

use super::files::{FileSet, Size};
use super::kernel::sbin;
use crate::process;

/// A root disk; removed when dropped.
pub struct Disk {
    path: TempPath,
}

/// Free space on the root disk and size of the empty ext4. Sparse files: what is not written
/// takes no space on the host.
const FREE: u64 = 1 << 30;

const TEXTS: [(&str, &str); 6] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/hostname", "wasi-guard-vm\n"),
    ("etc/os-release", "NAME=\"wasi-guard test machine\"\nID=wasi-guard-vm\n"),
];

impl Disk {
    pub(super) fn root(folder: &Path, files: &FileSet) -> Result<Self> {
        let named = super::named();
        let stage = named.tempdir_in(folder).context("cannot create a folder for the disk")?;
        let stage = fs::canonicalize(stage.path()).map(|path| (stage, path));
        let (_keep, stage) = stage.context("cannot resolve the folder for the disk")?;
        base(&stage).context("cannot prepare the base of the root disk")?;
        let size = files.copy_to(&stage)?;
        let image = named.tempfile_in(folder).context("cannot create the root disk")?;
        make_ext4(image.path(), Some((&stage, size)))?;
        Ok(Self { path: image.into_temp_path() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The empty ext4 of all machines, out of the cache.
pub(super) fn scratch(cache: &Path) -> Result<PathBuf> {
    let path = cache.join("empty-1g.ext4");
    if !path.exists() {
        let image = NamedTempFile::new_in(cache).context("cannot create a disk")?;
        make_ext4(image.path(), None)?;
        image.persist(&path).with_context(|| format!("cannot create {}", path.display()))?;
    }
    Ok(path)
}

/// Folders, users and tools of a small Debian-like system.
fn base(stage: &Path) -> Result<()> {
    for folder in [
        "dev",
        "etc",
        "mnt/ext4",
        "proc",
        "root",
        "run",
        "srv",
        "sys",
        "tmp",
        "usr/bin",
        "usr/lib/modules",
        "usr/lib64",
        "usr/local/bin",
        "usr/sbin",
        "var/tmp",
    ] {
        fs::create_dir_all(stage.join(folder))?;
    }
    // 'create_dir' obeys the umask of whoever runs this.
    fs::set_permissions(stage, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(stage.join("root"), fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(stage.join("var/tmp"), fs::Permissions::from_mode(0o1777))?;
    for folder in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{folder}"), stage.join(folder))?;
    }
    for (path, text) in TEXTS {
        fs::write(stage.join(path), text)?;
    }
    let busybox = stage.join("usr/bin/busybox");
    fs::copy("/bin/busybox", &busybox)?;
    let applets = process::capture(Command::new("/bin/busybox").arg("--list-full"))?;
    for applet in applets.lines() {
        let folder = if applet.contains("sbin/") { "usr/sbin" } else { "usr/bin" };
        let name = applet.rsplit('/').next().unwrap_or(applet);
        if name != "busybox" {
            symlink("/usr/bin/busybox", stage.join(folder).join(name))?;
        }
    }
    Ok(())
}

/// Makes a sparse ext4 image at `image`, filled from a folder if there is one.
fn make_ext4(image: &Path, content: Option<(&Path, Size)>) -> Result<()> {
    let size = content.map_or(0, |(_, size)| size.bytes);
    // A tenth on top for what the file system itself needs.
    let blocks = (size + size / 10 + FREE) / 4096;
    File::options()
        .write(true)
        .open(image)
        .and_then(|file| file.set_len(blocks * 4096))
        .context("cannot set the size of a disk")?;
    let mke2fs = sbin("mke2fs");
    let mut command = if rustix::process::geteuid().is_root() {
        Command::new(mke2fs)
    } else {
        // Everything inside belongs to root, whoever makes the image.
        let mut command = Command::new("unshare");
        command.arg("--map-root-user").arg(mke2fs);
        command
    };
    command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0"]);
    // A thread that completes the image later would count in costs measured inside.
    command.args(["-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"]);
    if let Some((folder, size)) = content {
        let inodes = size.files + 16 * 1024;
        command.args(["-O", "^has_journal", "-N", &inodes.to_string(), "-d"]).arg(folder);
    }
    process::capture(command.arg(image).arg(blocks.to_string())).context("cannot make a disk")?;
    Ok(())
}
