//! stat, and what changes metadata.

use anyhow::Result;
use wasi_guard_tests::operation::{BASE, Do, Then, at};

use super::cases;
use crate::{expect::Why, lab::Lab, stage::Stage};

cases![
    stat_of_what_has_a_right_is_allowed,
    stat_of_a_directory_on_the_way_is_allowed,
    stat_of_anything_else_is_denied,
    stat_of_a_denied_name_is_denied,
    stat_of_the_preopen_itself_is_allowed,
    fstat_of_a_pipe_is_allowed,
    chmod_chown_and_times_need_write,
    metadata_does_not_change_through_a_descriptor_opened_for_reading,
    metadata_does_not_change_through_an_o_path_descriptor,
];

const R: u32 = libc::O_RDONLY as u32;
const PATH: u32 = libc::O_PATH as u32;
const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["a/b/c/file", "list/**"]
write = ["w/file"]
create = ["new/made"]
deny = ["list/key"]
"#;
const TREE: &[&str] = &[
    "data/a/b/c/file",
    "data/a/b/c/other",
    "data/a/b/side/",
    "data/list/f",
    "data/list/key",
    "data/w/file",
    "data/new/",
    "data/nothing/f",
    "outside/f",
];

fn stage(lab: &Lab) -> Result<Stage> {
    lab.stage(POLICY, TREE)
}

fn stat(path: &str) -> Do {
    Do::Stat(at(0, path), false)
}

fn stat_of_what_has_a_right_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&stat("a/b/c/file"))?;
    stage.allowed(&stat("w/file"))?;
    stage.allowed(&Do::Open(at(0, "list/f"), R, Then::Stat)).map(drop)
}

fn stat_of_a_directory_on_the_way_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for path in ["a", "a/b", "a/b/c", "w", "new", "list"] {
        stage.allowed(&stat(path))?;
    }
    Ok(())
}

fn stat_of_anything_else_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for path in ["a/b/c/other", "a/b/side", "nothing", "nothing/f"] {
        stage.denied(&stat(path), Why::NotGranted)?;
    }
    stage.denied(&Do::Stat(at(BASE, "outside/f"), false), Why::Outside)?;
    stage.denied(&Do::Stat(at(BASE, ""), false), Why::Outside)?;
    stage.denied(&stat(".."), Why::Outside)
}

fn stat_of_a_denied_name_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&stat("list/key"), Why::Deny("list/key"))
}

fn stat_of_the_preopen_itself_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&stat(""))?;
    stage.allowed(&stat(".")).map(drop)
}

fn fstat_of_a_pipe_is_allowed(lab: &Lab) -> Result<()> {
    stage(lab)?.allowed(&Do::StatPipe).map(drop)
}

fn chmod_chown_and_times_need_write(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for change in [Do::Chmod, Do::Chown, Do::Times] {
        stage.allowed(&change(at(0, "w/file")))?;
        stage.denied(&change(at(0, "a/b/c/file")), Why::NotGranted)?;
        stage.denied(&change(at(0, "list/key")), Why::Deny("list/key"))?;
        stage.denied(&change(at(BASE, "outside/f")), Why::Outside)?;
    }
    Ok(())
}

fn metadata_does_not_change_through_a_descriptor_opened_for_reading(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for then in [Then::Chmod, Then::Chown, Then::Times] {
        stage.denied(&Do::Open(at(0, "list/f"), R, then), Why::NotGranted)?;
    }
    Ok(())
}

fn metadata_does_not_change_through_an_o_path_descriptor(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Open(at(0, "list/key"), PATH, Then::Stat), Why::Deny("list/key"))?;
    stage.denied(&Do::Open(at(0, "nothing/f"), PATH, Then::Reopen(R)), Why::NotGranted)
}
