//! Hard and symbolic links: another name gives no other rights.

use anyhow::{Result, ensure};
use wasi_guard_abi::operation::{Operation, Reason, right};
use wasi_guard_enforce::guest::LinkedFile;
use wasi_guard_tests::operation::{Answer, BASE, Do, Then, at};

use super::cases;
use crate::{
    check::told,
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    link_to_equal_rights_is_allowed,
    link_needs_create_at_the_new_name,
    link_that_widens_is_denied,
    link_of_what_lies_outside_is_denied,
    link_through_proc_that_widens_is_denied,
    link_of_a_descriptor_that_widens_is_denied,
    chains_of_symlinks_are_judged_by_their_end_and_loops_end_by_themselves,
    a_symlink_to_the_outside_is_judged_by_its_target,
    a_symlink_within_the_preopen_is_judged_by_its_target,
    a_symlink_in_the_middle_of_a_path_is_judged_by_its_target,
    a_file_has_no_more_rights_than_another_of_its_names,
    what_is_linked_to_a_limited_file_is_limited_too,
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

fn link_of_a_descriptor_that_widens_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let link = |to: &str| Do::Open(at(0, "a/f"), R, Then::LinkEmpty(at(0, to)));
    stage.allowed(&link("b/new"))?;
    stage.denied(&link("wide/new"), Why::Widens)?;
    let hidden = Do::Open(at(0, "a/hidden/f"), PATH, Then::LinkEmpty(at(0, "b/new")));
    stage.denied(&hidden, Why::Widens)
}

fn chains_of_symlinks_are_judged_by_their_end_and_loops_end_by_themselves(lab: &Lab) -> Result<()> {
    let tree = &[
        "data/a/f",
        "data/a/hidden/f",
        "data/a/1 -> f",
        "data/b/2 -> ../a/1",
        "data/b/3 -> 2",
        "data/a/4 -> hidden/f",
        "data/b/5 -> ../a/4",
        "data/a/loop -> ../b/loop",
        "data/b/loop -> ../a/loop",
    ];
    let mut stage = lab.stage(POLICY, tree)?;
    stage.allowed_via(&open("b/3", R), Some("data/a/f"))?;
    stage.denied_via(&open("b/5", R), Some("data/a/hidden/f"), Why::Deny("a/hidden/**"))?;
    ensure!(stage.inside.ask(&open("a/loop", R))? == Answer::Failed(0, libc::ELOOP));
    ensure!(stage.records()?.is_empty(), "nothing was judged");
    Ok(())
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

/// With `a/hidden/f`, which is denied, under the second name `wide/second`, as a supervisor that
/// has found both tells the kernel.
fn linked(lab: &Lab) -> Result<Stage> {
    let mut setup = Setup::new(lab.directory()?, POLICY, TREE);
    setup.armed = false;
    let mut stage = setup.start(lab)?;
    stage.reset()?;
    stage.keep();
    let (hidden, second) = (stage.roots[0].join("a/hidden/f"), stage.roots[0].join("wide/second"));
    std::fs::hard_link(&hidden, &second)?;
    let mut table = stage.table()?;
    let deny_rule = table.rights(0, &[b"a", b"hidden", b"f"]).deny_rule;
    ensure!(deny_rule != 0, "the case denies nothing");
    let rights = right::CREATE | right::DELETE;
    let fd = std::fs::File::open(&hidden)?.into();
    stage.guest.links(&mut table, vec![LinkedFile { fd, rights, deny_rule }])?;
    stage.guest.arm(&table)?;
    // What the actor was denied before there was a policy.
    stage.records()?;
    Ok(stage)
}

fn a_file_has_no_more_rights_than_another_of_its_names(lab: &Lab) -> Result<()> {
    let mut stage = linked(lab)?;
    let rule = stage.table()?.rights(0, &[b"a", b"hidden", b"f"]).deny_rule;
    let second = || at(0, "wide/second");
    for (operation, wanted) in [
        (Do::Open(second(), R, Then::Close), right::READ),
        (Do::Open(second(), libc::O_WRONLY as u32, Then::Close), right::WRITE),
        (Do::Open(second(), PATH, Then::Reopen(R)), right::READ),
        (Do::Stat(second(), false), right::STAT),
        (Do::Times(second()), right::WRITE),
    ] {
        ensure!(matches!(stage.outside.ask(&operation)?, Answer::Done(_)), "{operation:?} outside");
        let answer = stage.inside.ask(&operation)?;
        let records = stage.records()?;
        ensure!(
            matches!(answer, Answer::Failed(_, libc::EACCES))
                && records.len() == 1
                && records[0].reason == Reason::Linked
                && records[0].rule == rule
                && records[0].wanted == wanted
                && records[0].rights & !(right::CREATE | right::DELETE) == 0
                && records[0].names[0].path == b"wide/second",
            "{operation:?}: {answer:?}, {}",
            told(&records)
        );
        ensure!(matches!(stage.outside.ask(&operation)?, Answer::Done(_)), "{operation:?} again");
    }
    // Other files of the directory, and names that do not exist, are as before.
    stage.allowed(&open("wide/f", R))?;
    stage.allowed(&open("wide/new", (libc::O_CREAT | libc::O_WRONLY) as u32))?;
    Ok(())
}

fn what_is_linked_to_a_limited_file_is_limited_too(lab: &Lab) -> Result<()> {
    let mut stage = linked(lab)?;
    let link = Do::Link(at(0, "wide/second"), at(0, "b/third"));
    ensure!(stage.inside.ask(&link)? == Answer::Failed(0, libc::EACCES));
    let records = stage.records()?;
    ensure!(
        records.len() == 1
            && records[0].operation == Operation::Link
            && records[0].reason == Reason::Widens,
        "{}",
        told(&records)
    );
    // A link that the host makes after the start is the same file.
    let third = stage.roots[0].join("b/third");
    std::fs::hard_link(stage.roots[0].join("wide/second"), third)?;
    ensure!(stage.inside.ask(&open("b/third", R))? == Answer::Failed(0, libc::EACCES));
    ensure!(stage.records()?.iter().all(|record| record.reason == Reason::Linked));
    Ok(())
}
