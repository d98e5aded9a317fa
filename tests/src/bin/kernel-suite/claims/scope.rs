//! Who is guarded, from when, and by which policy.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use wasi_guard_abi::operation::Reason;
use wasi_guard_enforce::programs::Pins;
use wasi_guard_tests::{
    actor::{Actor, describe},
    operation::{Answer, BASE, Do, Then, Use, at},
};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    before_the_policy_is_in_force_everything_is_denied,
    a_table_that_is_only_prepared_decides_nothing,
    without_a_table_everything_is_denied,
    a_child_cgroup_is_guarded_too,
    a_task_in_the_parent_cgroup_is_denied_everything,
    tasks_elsewhere_are_unaffected,
    audit_mode_records_and_lets_through,
    guests_with_other_policies_share_a_directory,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["yes"]
create = ["new"]
"#;
const TREE: &[&str] = &["data/yes", "data/no", "outside/f"];

fn open(path: &str) -> Do {
    Do::Open(at(0, path), R, Then::Close)
}

/// One of each family, all of which work outside.
fn of_every_family() -> Vec<Do> {
    vec![
        open("yes"),
        open("no"),
        Do::Stat(at(0, "yes"), false),
        Do::Mkdir(at(0, "new")),
        Do::Rmdir(at(0, "new")),
        Do::Rename(at(0, "yes"), at(0, "new"), 0),
        Do::Link(at(0, "new"), at(0, "yes")),
        Do::Unlink(at(0, "new")),
        Do::Symlink(b"x".to_vec(), at(0, "new")),
        Do::Unlink(at(0, "new")),
        Do::Mknod(at(0, "new"), libc::S_IFREG),
        Do::Chmod(at(0, "yes")),
        Do::Socket(libc::AF_INET, libc::SOCK_STREAM, 0, Use::Close),
        Do::Fork,
    ]
}

fn all_denied(stage: &Stage, actor: &Actor) -> Result<()> {
    stage.reset()?;
    for operation in of_every_family() {
        let answer = actor.ask(&operation)?;
        // A name that is not there is told before anything is judged.
        let absent = answer == Answer::Failed(0, libc::ENOENT)
            && matches!(operation, Do::Rmdir(_) | Do::Unlink(_) | Do::Link(..));
        ensure!(
            absent || answer == Answer::Failed(0, libc::EACCES),
            "{operation:?} gave {answer:?}"
        );
    }
    for operation in of_every_family() {
        let answer = stage.outside.ask(&operation)?;
        ensure!(matches!(answer, Answer::Done(_)), "outside: {operation:?} gave {answer:?}");
    }
    Ok(())
}

fn before_the_policy_is_in_force_everything_is_denied(lab: &Lab) -> Result<()> {
    let mut setup = Setup::new(lab.directory()?, POLICY, TREE);
    setup.armed = false;
    let mut stage = setup.start(lab)?;
    stage.records()?;
    all_denied(&stage, &stage.inside)?;
    let records = stage.records()?;
    ensure!(!records.is_empty(), "no record");
    for record in records {
        let never = record.operation == wasi_guard_abi::operation::Operation::Fork;
        let wanted = if never { Reason::Never } else { Reason::NoPolicy };
        ensure!(record.reason == wanted, "{record:?}");
    }
    stage.arm()?;
    stage.allowed(&open("yes"))?;
    stage.denied(&open("no"), Why::NotGranted)
}

/// In the steps of a start: prepared, on its way, in force.
fn a_table_that_is_only_prepared_decides_nothing(lab: &Lab) -> Result<()> {
    let mut setup = Setup::new(lab.directory()?, POLICY, TREE);
    setup.armed = false;
    let mut stage = setup.start(lab)?;
    stage.reset()?;
    ensure!(stage.guest.begin_arming().is_err(), "nothing is on its way into force");
    ensure!(stage.guest.arm_prepared().is_err(), "nothing is in force");

    let pins = |stage: &Stage| stage.guest.pins().pinned_tables();
    let before = pins(&stage);
    let first = stage.table()?;
    stage.guest.prepare(&first).map_err(describe)?;
    let one = pins(&stage);
    ensure!(one.len() == before.len() + 1, "{one:?} after {before:?}");
    all_denied(&stage, &stage.inside)?;

    // Another one in its place; the first is given up.
    stage.text = stage.text.replace("read = [\"yes\"]", "read = [\"yes\", \"other\"]");
    stage.policy = crate::stage::load(&stage.text)?;
    let second = stage.table()?;
    stage.guest.prepare(&second).map_err(describe)?;
    let other = pins(&stage);
    ensure!(other.len() == one.len() && other != one, "{other:?} after {one:?}");
    all_denied(&stage, &stage.inside)?;

    stage.guest.begin_arming().map_err(describe)?;
    ensure!(stage.guest.prepare(&first).is_err(), "another one is on its way");
    stage.guest.arm_prepared().map_err(describe)?;
    stage.records()?;
    stage.allowed(&open("yes"))?;
    stage.denied(&open("no"), Why::NotGranted)?;
    ensure!(pins(&stage) == other, "{:?} after {other:?}", pins(&stage));

    // One that never comes into force goes with its guest.
    stage.guest.prepare(&first).map_err(describe)?;
    ensure!(pins(&stage).len() == other.len() + 1, "{:?} after {other:?}", pins(&stage));
    drop(stage);
    let left = Pins::take(&lab.build).map_err(describe)?.context("no pins")?;
    ensure!(left.pinned_tables() == before, "left: {:?}", left.pinned_tables());
    Ok(())
}

fn without_a_table_everything_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = lab.stage(POLICY, TREE)?;
    stage.allowed(&open("yes"))?;
    let mut pins = Pins::take(&lab.build).map_err(describe)?.context("no pins")?;
    pins.forget(stage.guest.id());
    all_denied(&stage, &stage.inside)
}

/// Moves a process.
fn enter(cgroup: &Path, pid: u32) -> Result<()> {
    fs::write(cgroup.join("cgroup.procs"), pid.to_string())
        .with_context(|| format!("move {pid} to {}", cgroup.display()))
}

fn a_child_cgroup_is_guarded_too(lab: &Lab) -> Result<()> {
    let mut stage = lab.stage(POLICY, TREE)?;
    let deep = stage.guest.path().join("child/grandchild");
    fs::create_dir_all(&deep)?;
    for cgroup in [deep.parent().context("a parent")?, &deep] {
        enter(cgroup, stage.inside.pid())?;
        stage.allowed(&open("yes"))?;
        stage.denied(&open("no"), Why::NotGranted)?;
        stage.denied(&Do::Open(at(BASE, "outside/f"), R, Then::Close), Why::Outside)?;
    }
    Ok(())
}

fn a_task_in_the_parent_cgroup_is_denied_everything(lab: &Lab) -> Result<()> {
    let stage = lab.stage(POLICY, TREE)?;
    let parent = stage.guest.path().parent().context("a parent")?;
    let stray = Actor::outside(&stage.handles())?;
    enter(parent, stray.pid())?;
    all_denied(&stage, &stray)?;
    // Back at the root of the hierarchy it is nobody's guest.
    enter(Path::new("/sys/fs/cgroup"), stray.pid())?;
    stage.reset()?;
    ensure!(stray.ask(&open("yes"))? == Answer::Done(Vec::new()), "moved out");
    Ok(())
}

fn tasks_elsewhere_are_unaffected(lab: &Lab) -> Result<()> {
    let stage = lab.stage(POLICY, TREE)?;
    let elsewhere = Path::new("/sys/fs/cgroup/kernel-suite-elsewhere");
    let below = elsewhere.join("below");
    fs::create_dir_all(&below)?;
    let free = Actor::outside(&stage.handles())?;
    for cgroup in [elsewhere, &below] {
        enter(cgroup, free.pid())?;
        stage.reset()?;
        for operation in of_every_family() {
            let answer = free.ask(&operation)?;
            ensure!(matches!(answer, Answer::Done(_)), "{operation:?} gave {answer:?}");
        }
    }
    drop(free);
    fs::remove_dir(&below)?;
    fs::remove_dir(elsewhere).map_err(Into::into)
}

fn audit_mode_records_and_lets_through(lab: &Lab) -> Result<()> {
    let policy = format!("mode = \"audit\"\n{POLICY}");
    let mut stage = lab.stage(&policy, TREE)?;
    stage.allowed(&open("yes"))?;
    stage.watched(&open("no"), Why::NotGranted)?;
    stage.watched(&Do::Open(at(0, "yes"), W, Then::Close), Why::NotGranted)?;
    stage.watched(&Do::Unlink(at(0, "no")), Why::NotGranted)?;
    stage.watched(&Do::Rename(at(0, "yes"), at(0, "elsewhere"), 0), Why::NotGranted)?;
    stage.watched(&Do::Open(at(BASE, "outside/f"), R, Then::Close), Why::Outside)?;
    stage.watched(&Do::Fork, Why::Never)?;
    let make = Do::Socket(libc::AF_INET, libc::SOCK_STREAM, 0, Use::Close);
    stage.watched(&make, Why::NotGranted)?;
    ensure!(stage.guest.counts().denied >= 7, "{:?}", stage.guest.counts());
    Ok(())
}

fn guests_with_other_policies_share_a_directory(lab: &Lab) -> Result<()> {
    let base = lab.directory()?;
    let mut one = Setup::new(base.clone(), POLICY, TREE).start(lab)?;
    let other = "[[preopen]]\nguest = \"/\"\nhost = \"data\"\nread = [\"no\"]\n";
    let mut two = Setup::new(base, other, TREE).start(lab)?;
    for _ in 0..2 {
        one.allowed(&open("yes"))?;
        one.denied(&open("no"), Why::NotGranted)?;
        two.allowed(&open("no"))?;
        two.denied(&open("yes"), Why::NotGranted)?;
    }
    drop(one);
    two.allowed(&open("no"))?;
    two.denied(&open("yes"), Why::NotGranted)?;
    ensure!(two.guest.pins().guests().contains(&two.guest.id()), "no entry any more");
    Ok(())
}
