//! The initramfs of a kernel: the agent, its libraries, busybox and modules.
//!
//! Made once per kernel and agent, uncompressed: it is some megabytes, which qemu hands over
//! faster than an emulated CPU unpacks them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::cpio::Archive;
use super::files;
use super::kernel::{Kernel, sbin};
use crate::process;

/// Modules in the machine: the first three are its drivers, the others are for what runs in it
/// (the kernel loads them when they are asked for, as on any host).
const MODULES: [&str; 17] = [
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "btrfs",
    "dummy",
    "erofs",
    "loop",
    "nls_ascii",
    "nls_cp437",
    "overlay",
    "sctp",
    "smc",
    "squashfs",
    "veth",
    "vfat",
    "vsock",
    "xfs",
];

/// Path of the initramfs, which is made if the cache does not have it.
pub(super) fn for_kernel(kernel: &Kernel, agent: &Path) -> Result<PathBuf> {
    let agent_bytes = super::read(agent)?;
    let busybox = super::read(Path::new("/bin/busybox"))?;
    let mut digest = Sha256::new();
    for part in [agent_bytes.as_slice(), &busybox, MODULES.join(" ").as_bytes()] {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    let name = format!("initramfs-{:.16x}.cpio", digest.finalize());
    let path = kernel.folder.join(name);
    if path.exists() {
        return Ok(path);
    }

    let mut archive = Archive::new();
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    for folder in ["proc", "sys", "newroot", "tmp"] {
        archive.folder(folder);
    }
    archive.file("init", &agent_bytes);
    for library in files::libraries(agent)? {
        let inside = library.to_string_lossy();
        archive.file(inside.trim_start_matches('/'), &super::read(&library)?);
    }
    archive.file("bin/busybox", &busybox);
    // The kernel's own way to ask for a module.
    archive.file("sbin/modprobe", &busybox);
    add_modules(&mut archive, kernel)?;

    // Renamed into place, so that two runs at once do not see each other's half.
    let mut file = tempfile::NamedTempFile::new_in(&kernel.folder)
        .context("cannot create a file in the cache")?;
    std::io::Write::write_all(&mut file, &archive.finish())
        .context("cannot write the initramfs")?;
    file.persist(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}

fn add_modules(archive: &mut Archive, kernel: &Kernel) -> Result<()> {
    let aside = tempfile::tempdir().context("cannot create a temporary folder")?;
    let inside = format!("lib/modules/{}", kernel.release);
    let mut wanted = Vec::new();
    for name in MODULES {
        // Lines are "insmod PATH", dependencies first, or "builtin NAME".
        let listed = process::capture(
            Command::new(sbin("modprobe"))
                .args(["-C", "/dev/null", "--show-depends", "--set-version", &kernel.release])
                .arg("--dirname")
                .arg(&kernel.folder)
                .arg(name),
        )?;
        wanted.extend(
            listed
                .lines()
                .filter_map(|line| Some(PathBuf::from(line.strip_prefix("insmod ")?.trim()))),
        );
    }
    wanted.sort();
    wanted.dedup();
    let copies = aside.path().join(&inside);
    for module in &wanted {
        let below = module
            .strip_prefix(kernel.folder.join(&inside))
            .with_context(|| format!("modprobe named {}", module.display()))?;
        let bytes = if module.extension().is_some_and(|end| end == "xz") {
            let unpacked = Command::new("xz").args(["-dc"]).arg(module).output();
            let unpacked = unpacked.context("cannot start xz")?;
            anyhow::ensure!(unpacked.status.success(), "xz cannot unpack {}", module.display());
            unpacked.stdout
        } else {
            super::read(module)?
        };
        let below = if below.extension().is_some_and(|end| end == "xz") {
            below.with_extension("")
        } else {
            below.to_owned()
        };
        write(&copies.join(&below), &bytes)?;
        archive.file(&format!("{inside}/{}", below.display()), &bytes);
    }
    // depmod for these alone: busybox reads its lists from start to end at each modprobe.
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        let from = kernel.folder.join(&inside).join(list);
        write(&copies.join(list), &super::read(&from)?)?;
    }
    process::capture(
        Command::new(sbin("depmod")).arg("-b").arg(aside.path()).arg(&kernel.release),
    )?;
    for list in ["modules.dep", "modules.alias", "modules.symbols", "modules.builtin"] {
        archive.file(&format!("{inside}/{list}"), &super::read(&copies.join(list))?);
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
