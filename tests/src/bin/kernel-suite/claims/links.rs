//! Hard and symbolic links: another name gives no other rights.

use anyhow::Result;
use wasi_guard_tests::operation::{BASE, Do, Then, at};

use super::cases;
use crate::{expect::Why, lab::Lab, stage::Stage};

cases![
    link_to_equal_rights_is_allowed,
    link_needs_create_at_the_new_name,
    link_that_widens_is_denied,
    link_of_what_lies_outside_is_denied,
    link_through_proc_that_widens_is_denied,
    a_symlink_to_the_outside_is_judged_by_its_target,
    a_symlink_within_the_preopen_is_judged_by_its_target,
    a_symlink_in_the_middle_of_a_path_is_judged_by_its_target,
];

const R: u32 = libc::O_RDONLY as u32;
const PATH: u32 = libc::O_PATH as u32;
const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["a/**", "b/**", "wide/**"]
write = ["wide/**"]
create = ["a/**", "b/**", "wide/**"]
deny = ["a/hidden/**"]
"#;
const TREE: &[&str] = &[
    "data/a/f",
    "data/a/hidden/f",
    "data/b/",
    "data/wide/f",
    "data/none/f",
    "data/a/out -> ../../outside/f",
    "data/a/absent -> ../../outside/absent",
    "data/a/dir -> ../../outside",
    "data/a/good -> ../wide/f",
    "data/a/bad -> hidden/f",
    "data/a/worse -> hidden",
    "outside/f",
];

fn stage(lab: &Lab) -> Result<Stage> {
    lab.stage(POLICY, TREE)
}

fn open(path: &str, flags: u32) -> Do {
    Do::Open(at(0, path), flags, Then::Close)
}

fn link_to_equal_rights_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&Do::Link(at(0, "a/f"), at(0, "b/new")))?;
    stage.allowed(&Do::Link(at(0, "wide/f"), at(0, "a/new"))).map(drop)
}

fn link_needs_create_at_the_new_name(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&Do::Link(at(0, "a/f"), at(0, "none/new")), Why::NotGranted)
}

fn link_that_widens_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Link(at(0, "a/f"), at(0, "wide/new")), Why::Widens)?;
    stage.denied(&Do::Link(at(0, "a/hidden/f"), at(0, "a/new")), Why::Widens)?;
    stage.denied(&Do::Link(at(0, "none/f"), at(0, "a/new")), Why::Widens)
}

fn link_of_what_lies_outside_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Link(at(BASE, "outside/f"), at(0, "a/new")), Why::Outside)?;
    stage.denied(&Do::Link(at(0, "a/f"), at(BASE, "outside/new")), Why::Outside)
}

fn link_through_proc_that_widens_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let link = |path, to| Do::Open(at(0, path), PATH, Then::Link(at(0, to)));
    stage.allowed(&link("a/f", "b/new"))?;
    stage.denied(&link("a/hidden/f", "a/new"), Why::Widens)?;
    let outside = Do::Open(at(BASE, "outside/f"), PATH, Then::Link(at(0, "a/new")));
    stage.denied(&outside, Why::Outside)
}

fn a_symlink_to_the_outside_is_judged_by_its_target(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied_via(&open("a/out", R), Some("outside/f"), Why::Outside)?;
    let create = (libc::O_WRONLY | libc::O_CREAT) as u32;
    stage.denied_via(&open("a/absent", create), Some("outside/absent"), Why::Outside)?;
    stage.denied_via(&Do::Stat(at(0, "a/out"), false), Some("outside/f"), Why::Outside)?;
    // The link itself lies inside.
    stage.allowed(&Do::Stat(at(0, "a/out"), true)).map(drop)
}

fn a_symlink_within_the_preopen_is_judged_by_its_target(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let write = libc::O_WRONLY as u32;
    stage.allowed_via(&open("a/good", write), Some("data/wide/f"))?;
    stage.denied_via(&open("a/bad", R), Some("data/a/hidden/f"), Why::Deny("a/hidden/**"))
}

fn a_symlink_in_the_middle_of_a_path_is_judged_by_its_target(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied_via(&open("a/dir/f", R), Some("outside/f"), Why::Outside)?;
    stage.denied_via(&open("a/worse/f", R), Some("data/a/hidden/f"), Why::Deny("a/hidden/**"))
}
