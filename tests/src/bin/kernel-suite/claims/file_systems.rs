//! Preopens on other file systems, and mounts below and above them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use rustix::mount::UnmountFlags;
use wasi_guard_tests::operation::{Answer, Do, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::{Lab, mount},
    stage::{Setup, Stage},
};

cases![
    a_preopen_on_tmpfs_is_guarded,
    a_preopen_on_ext4_is_guarded,
    a_preopen_on_btrfs_is_guarded,
    overlayfs_lets_nothing_denied_through,
    a_bind_mount_below_a_preopen_leads_outside,
    another_file_system_below_a_preopen_is_outside,
    a_preopen_renamed_on_the_host_keeps_working,
    a_preopen_moved_into_another_directory_keeps_working,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const CREATE: u32 = libc::O_CREAT as u32;
const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["in/**", "out/**"]
write = ["out/**"]
create = ["out/**"]
delete = ["out/**"]
deny = ["**/*.pem"]
"#;
const TREE: &[&str] = &[
    "data/in/file",
    "data/in/key.pem",
    "data/out/state",
    "data/out/old",
    "data/out/dir/",
    "data/none",
    "outside/secret",
];

fn open(path: &str, flags: u32) -> Do {
    Do::Open(at(0, path), flags, Then::Close)
}

/// What must hold on every file system.
fn everything(stage: &mut Stage) -> Result<()> {
    stage.allowed(&Do::Open(at(0, "in/file"), R, Then::Read))?;
    stage.allowed(&Do::Open(at(0, "in/file"), R, Then::Stat))?;
    stage.allowed(&Do::Stat(at(0, "in/file"), false))?;
    stage.allowed(&Do::Stat(at(0, "in"), false))?;
    stage.allowed(&Do::Open(at(0, "out/state"), W, Then::Write(b"x".to_vec())))?;
    stage.allowed(&Do::Open(at(0, "out/state"), W, Then::Truncate(3)))?;
    stage.allowed(&Do::Open(at(0, "out/new"), W | CREATE, Then::Write(b"x".to_vec())))?;
    stage.allowed(&open("out/state", R | libc::O_TRUNC as u32))?;
    stage.allowed(&Do::Chmod(at(0, "out/state")))?;
    stage.allowed(&Do::Times(at(0, "out/state")))?;
    stage.allowed(&Do::Mkdir(at(0, "out/made")))?;
    stage.allowed(&Do::Symlink(b"state".to_vec(), at(0, "out/link")))?;
    stage.allowed(&Do::Link(at(0, "out/state"), at(0, "out/second")))?;
    stage.allowed(&Do::Rename(at(0, "out/old"), at(0, "out/renamed"), 0))?;
    stage.allowed(&Do::Rename(at(0, "out/old"), at(0, "out/state"), 0))?;
    stage.allowed(&Do::Unlink(at(0, "out/old")))?;
    stage.allowed(&Do::Rmdir(at(0, "out/dir")))?;
    stage.denied(&open("none", R), Why::NotGranted)?;
    stage.denied(&open("in/key.pem", R), Why::Deny("**/*.pem"))?;
    stage.denied(&open("in/file", W), Why::NotGranted)?;
    stage.denied(&open("in/new", W | CREATE), Why::NotGranted)?;
    stage.denied(&Do::Stat(at(0, "none"), false), Why::NotGranted)?;
    stage.denied(&Do::Chmod(at(0, "in/file")), Why::NotGranted)?;
    stage.denied(&Do::Unlink(at(0, "in/file")), Why::NotGranted)?;
    stage.denied(&Do::Mkdir(at(0, "in/new")), Why::NotGranted)?;
    stage.denied(&Do::Rename(at(0, "in/file"), at(0, "out/new"), 0), Why::NotGranted)?;
    stage.denied(&Do::Link(at(0, "in/file"), at(0, "out/new")), Why::Widens)
}

fn a_preopen_on_tmpfs_is_guarded(lab: &Lab) -> Result<()> {
    everything(&mut lab.stage(POLICY, TREE)?)
}

fn a_preopen_on_ext4_is_guarded(lab: &Lab) -> Result<()> {
    everything(&mut Setup::new(lab.directory_on_ext4()?, POLICY, TREE).start(lab)?)
}

fn a_preopen_on_btrfs_is_guarded(lab: &Lab) -> Result<()> {
    everything(&mut Setup::new(lab.directory_on_btrfs()?, POLICY, TREE).start(lab)?)
}

/// A mount that goes with the case.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Detached even while an actor of the case holds it.
        let _ = rustix::mount::unmount(self.0, UnmountFlags::DETACH);
    }
}

fn overlayfs_lets_nothing_denied_through(lab: &Lab) -> Result<()> {
    let base = lab.directory()?;
    for directory in ["lower/in", "lower/out/dir", "upper", "work", "data"] {
        fs::create_dir_all(base.join(directory))?;
    }
    for file in ["in/file", "in/key.pem", "out/state", "out/old", "none"] {
        fs::write(base.join("lower").join(file), "from the lower layer")?;
    }
    let path = |name| base.join(name).display().to_string();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    let data = base.join("data");
    mount("overlay", &data, &options)?;
    let _mounted = Mounted(&data);
    let mut setup = Setup::new(base.clone(), POLICY, &[]);
    setup.fresh = false;
    let mut stage = setup.start(lab)?;
    let mut failed = Vec::new();
    let mut claim = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            failed.push(format!("{what}: {error:#}"));
        }
    };
    // What is granted does not all work on overlayfs, which asks again for the file below it; the
    // supervisor refuses such preopens. What is denied must be denied all the same.
    claim("denied read", stage.denied_via(&open("none", R), None, Why::NotGranted));
    claim("denied key", stage.denied(&open("in/key.pem", R), Why::Deny("**/*.pem")));
    claim("denied stat", stage.denied(&Do::Stat(at(0, "none"), false), Why::NotGranted));
    claim("denied write", stage.denied(&open("none", W), Why::NotGranted));
    ensure!(failed.is_empty(), "{}", failed.join("\n    "));
    Ok(())
}

/// A stage with `data/mnt`, on which the case mounts something.
fn with_mount_point(lab: &Lab) -> Result<Stage> {
    let base = lab.directory()?;
    for file in ["data/in/file", "data/mnt/hidden", "outside/secret"] {
        let path = base.join(file);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        fs::write(path, "content")?;
    }
    let policy = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"**\"]\n";
    let mut setup = Setup::new(base, policy, &[]);
    setup.fresh = false;
    setup.start(lab)
}

fn a_bind_mount_below_a_preopen_leads_outside(lab: &Lab) -> Result<()> {
    let mut stage = with_mount_point(lab)?;
    stage.allowed(&open("mnt/hidden", R))?;
    let target = stage.roots[0].join("mnt");
    rustix::mount::mount_bind(stage.base.join("outside"), &target)?;
    let _mounted = Mounted(&target);
    stage.denied_via(&open("mnt/secret", R), Some("outside/secret"), Why::Outside)?;
    stage.denied_via(&Do::Stat(at(0, "mnt"), false), Some("outside"), Why::Outside)
}

fn another_file_system_below_a_preopen_is_outside(lab: &Lab) -> Result<()> {
    let mut stage = with_mount_point(lab)?;
    let target = stage.roots[0].join("mnt");
    mount("tmpfs", &target, "mode=755")?;
    let _mounted = Mounted(&target);
    fs::write(target.join("file"), "content")?;
    stage.denied_via(&open("mnt/file", R), Some("elsewhere"), Why::OutsideSomewhere)
}

fn a_preopen_renamed_on_the_host_keeps_working(lab: &Lab) -> Result<()> {
    let mut stage = with_mount_point(lab)?;
    stage.allowed(&open("in/file", R))?;
    fs::rename(stage.base.join("data"), stage.base.join("renamed"))?;
    stage.allowed(&open("in/file", R))?;
    // Another directory of the old name is no preopen.
    fs::create_dir_all(stage.base.join("data/in"))?;
    fs::write(stage.base.join("data/in/file"), "another")?;
    let by_path = Do::Open(at(wasi_guard_tests::operation::BASE, "data/in/file"), R, Then::Close);
    ensure!(stage.outside.ask(&by_path)? == Answer::Done(Vec::new()), "outside");
    let answer = stage.inside.ask(&by_path)?;
    ensure!(answer == Answer::Failed(0, libc::EACCES), "the new directory: {answer:?}");
    Ok(())
}

fn a_preopen_moved_into_another_directory_keeps_working(lab: &Lab) -> Result<()> {
    let mut stage = with_mount_point(lab)?;
    fs::rename(stage.base.join("data"), stage.base.join("outside/data"))?;
    stage.allowed(&open("in/file", R))?;
    fs::remove_dir_all(stage.base.join("outside"))?;
    let answer = stage.inside.ask(&open("in/file", R))?;
    ensure!(answer == Answer::Failed(0, libc::ENOENT), "removed: {answer:?}");
    Ok(())
}
