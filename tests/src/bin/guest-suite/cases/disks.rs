//! Bounds of reading and writing disks, on file systems where the kernel cannot keep them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::Case;
use crate::lab::{Lab, Mounted};
use crate::program::{Outcome, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "bounds_of_disks_on_an_overlay_are_refused", run: overlay },
    Case { name: "bounds_of_writing_to_a_vfat_are_refused", run: vfat },
];

const READING: &str = "read_bps = \"1MiB\"";
const WRITING: &str = "write_iops = 100";

/// A folder on the machine's second disk, an ext4.
fn folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir_in("/mnt/ext4").context("a folder on ext4")
}

fn directory(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// A guest that reads a file of this directory, under this limit.
fn run(folder: &Path, directory: &Path, limit: &str) -> Result<Outcome> {
    let policy = folder.join("policy.toml");
    let host = directory.display();
    let text = format!(
        "version = 1\n[[preopen]]\nguest = \"/d\"\nhost = \"{host}\"\nread = [\"**\"]\n\
         [limits]\n{limit}\n"
    );
    fs::write(&policy, text).context("write the policy")?;
    let policy = policy.to_string_lossy();
    guarded(&["run", "--policy", &policy, "/guests/files.wasm", "read", "/d/file"]).finish()
}

fn starts(folder: &Path, directory: &Path, limit: &str) -> Result<()> {
    let outcome = run(folder, directory, limit)?;
    outcome.exits(0)?.prints("read /d/file: text\n")?.is_quiet()?;
    Ok(())
}

fn refused(folder: &Path, directory: &Path, limit: &str, why: &str) -> Result<()> {
    let outcome = run(folder, directory, limit)?;
    outcome.refuses("find the disks of the preopens", "take a directory on ext4")?;
    outcome.says("/d is on ")?.says(why)?;
    Ok(())
}

/// An overlay has no disk of its own, whatever its layers lie on.
fn overlay(_: &Lab) -> Result<()> {
    const WHY: &str = "(overlay): this file system does not tell on which disks it lies";
    let folder = folder()?;
    let folder = folder.path();
    let make = |name: &str| directory(folder.join(name));
    let (lower, upper, work, merged) =
        (make("lower")?, make("upper")?, make("work")?, make("merged")?);
    fs::write(lower.join("file"), "text")?;
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let mounted = Mounted::overlay(&merged, &layers)?;
    for limit in [READING, WRITING] {
        refused(folder, &merged, limit, WHY)?;
        // The layer's own directory is on a disk.
        starts(folder, &lower, limit)?;
    }
    starts(folder, &merged, "memory = \"1GiB\"")?;
    mounted.end()
}

/// A vfat is on a disk, and what is written to it is written in the kernel's name.
fn vfat(_: &Lab) -> Result<()> {
    const WHY: &str = "(vfat): this file system does not tell the kernel whose data it writes";
    let folder = folder()?;
    let folder = folder.path();
    let image = folder.join("image");
    File::create(&image)?.set_len(4 << 20)?;
    tool(Command::new("mkdosfs").arg(&image))?;
    let place = directory(folder.join("vfat"))?;
    tool(Command::new("modprobe").arg("loop"))?;
    tool(Command::new("mount").args(["-t", "vfat", "-o", "loop"]).arg(&image).arg(&place))?;
    let mounted = Mounted::at(&place);
    fs::write(place.join("file"), "text")?;
    let plain = directory(folder.join("plain"))?;
    fs::write(plain.join("file"), "text")?;
    refused(folder, &place, WRITING, WHY)?;
    starts(folder, &plain, WRITING)?;
    starts(folder, &place, READING)?;
    mounted.end()
}

fn tool(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok(())
}
