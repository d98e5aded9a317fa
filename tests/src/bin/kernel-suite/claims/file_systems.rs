//! Preopens on other file systems, and elsewhere than they were.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use wasi_guard_tests::operation::{Answer, Do, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    a_preopen_on_tmpfs_is_guarded,
    a_preopen_on_ext4_is_guarded,
    a_preopen_on_btrfs_is_guarded,
    a_preopen_on_xfs_is_guarded,
    a_preopen_renamed_on_the_host_keeps_working,
    a_preopen_moved_into_another_directory_keeps_working,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const CREATE: u32 = libc::O_CREAT as u32;
pub(super) const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["in/**", "out/**"]
write = ["out/**"]
create = ["out/**"]
delete = ["out/**"]
deny = ["**/*.pem"]
"#;
pub(super) const TREE: &[&str] = &[
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
pub(super) fn everything(stage: &mut Stage) -> Result<()> {
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

fn a_preopen_on_xfs_is_guarded(lab: &Lab) -> Result<()> {
    everything(&mut Setup::new(lab.directory_on_xfs()?, POLICY, TREE).start(lab)?)
}

/// A stage that can move.
fn movable(lab: &Lab) -> Result<Stage> {
    let base = lab.directory()?;
    for file in ["data/in/file", "outside/secret"] {
        let path = base.join(file);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        fs::write(path, "content")?;
    }
    let policy = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"**\"]\n";
    let mut setup = Setup::new(base, policy, &[]);
    setup.fresh = false;
    setup.start(lab)
}

fn a_preopen_renamed_on_the_host_keeps_working(lab: &Lab) -> Result<()> {
    let mut stage = movable(lab)?;
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
    let mut stage = movable(lab)?;
    fs::rename(stage.base.join("data"), stage.base.join("outside/data"))?;
    stage.allowed(&open("in/file", R))?;
    fs::remove_dir_all(stage.base.join("outside"))?;
    let answer = stage.inside.ask(&open("in/file", R))?;
    ensure!(answer == Answer::Failed(0, libc::ENOENT), "removed: {answer:?}");
    Ok(())
}
