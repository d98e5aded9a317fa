//! rename(2) and renameat2(2): two names, two objects, and what lies below a directory.

use anyhow::{Result, ensure};
use wasi_guard_abi::operation::Operation;
use wasi_guard_tests::operation::{BASE, Do, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    rename_between_equal_names_is_allowed,
    rename_needs_delete_at_the_old_name,
    rename_needs_create_at_the_new_name,
    rename_over_a_file_needs_delete_there_too,
    rename_to_fewer_rights_is_allowed,
    rename_that_widens_is_denied,
    rename_of_a_denied_name_is_denied,
    rename_to_a_denied_name_is_denied,
    rename_out_of_the_preopens_is_denied,
    rename_into_a_preopen_is_denied,
    a_directory_moves_between_equal_subtrees,
    a_directory_does_not_move_between_unequal_subtrees,
    exchange_between_equal_names_is_allowed,
    exchange_needs_both_rights_at_both_names,
    exchange_that_widens_either_way_is_denied,
    exchange_of_directories_compares_subtrees,
    no_replace_is_judged_like_any_rename,
    rename_between_preopens_is_judged_by_rights,
    a_rename_that_leaves_a_device_behind_is_denied,
    a_file_that_is_written_beside_and_renamed_over_another_works,
];

const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["a/**", "b/**", "c/**", "wide/**", "fixed/*"]
write = ["wide/**"]
create = ["a/**", "b/**", "c/**", "wide/**", "drop/**"]
delete = ["a/**", "b/**", "c/**", "wide/**"]
deny = ["c/sub/key", "a/hidden/**"]

[[preopen]]
guest = "/more"
host = "more"
read = ["x/**"]
create = ["x/**"]
delete = ["x/**"]
"#;
const TREE: &[&str] = &[
    "data/a/f",
    "data/a/d/file",
    "data/a/hidden/f",
    "data/b/f",
    "data/b/d/",
    "data/c/sub/key",
    "data/c/other/file",
    "data/wide/f",
    "data/wide/d/file",
    "data/fixed/f",
    "data/drop/f",
    "more/x/f",
    "outside/f",
    "outside/d/file",
];
const PLAIN: u32 = 0;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
const NO_REPLACE: u32 = libc::RENAME_NOREPLACE;

fn stage(lab: &Lab) -> Result<Stage> {
    lab.stage(POLICY, TREE)
}

fn rename(from: &str, to: &str, flags: u32) -> Do {
    Do::Rename(at(0, from), at(0, to), flags)
}

fn rename_between_equal_names_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&rename("a/f", "b/new", PLAIN))?;
    anyhow::ensure!(stage.roots[0].join("b/new").exists(), "not moved");
    stage.allowed(&rename("a/f", "b/f", PLAIN)).map(drop)
}

fn rename_needs_delete_at_the_old_name(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&rename("fixed/f", "a/new", PLAIN), Why::NotGranted)
}

fn rename_needs_create_at_the_new_name(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&rename("a/f", "fixed/new", PLAIN), Why::NotGranted)
}

fn rename_over_a_file_needs_delete_there_too(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&rename("a/f", "drop/f", PLAIN), Why::NotGranted)
}

fn rename_to_fewer_rights_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&rename("a/f", "drop/new", PLAIN))?;
    stage.allowed(&rename("wide/f", "a/new", PLAIN)).map(drop)
}

fn rename_that_widens_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&rename("a/f", "wide/new", PLAIN), Why::Widens)?;
    stage.denied(&rename("a/f", "wide/f", PLAIN), Why::Widens)
}

fn rename_of_a_denied_name_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&rename("a/hidden/f", "a/new", PLAIN), Why::Deny("a/hidden/**"))
}

fn rename_to_a_denied_name_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&rename("a/f", "a/hidden/new", PLAIN), Why::Deny("a/hidden/**"))
}

fn rename_out_of_the_preopens_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Rename(at(0, "a/f"), at(BASE, "outside/new"), PLAIN), Why::Outside)?;
    stage.denied(&Do::Rename(at(0, "a/f"), at(0, "../outside/f"), PLAIN), Why::Outside)
}

fn rename_into_a_preopen_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Rename(at(BASE, "outside/f"), at(0, "a/new"), PLAIN), Why::Outside)?;
    stage.denied(&Do::Rename(at(BASE, "outside/d"), at(0, "a/new"), PLAIN), Why::Outside)
}

fn a_directory_moves_between_equal_subtrees(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&rename("a/d", "b/new", PLAIN))?;
    anyhow::ensure!(stage.roots[0].join("b/new/file").exists(), "not moved");
    stage.allowed(&rename("a/d", "b/d", PLAIN))?;
    stage.allowed(&rename("c/other", "a/new", PLAIN)).map(drop)
}

fn a_directory_does_not_move_between_unequal_subtrees(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    // Its own rights are those of the new name, but a denied file lies below.
    stage.denied(&rename("c/sub", "a/new", PLAIN), Why::Widens)?;
    stage.denied(&rename("c/sub", "c/new", PLAIN), Why::Widens)?;
    stage.denied(&rename("a/d", "wide/new", PLAIN), Why::Widens)
}

fn exchange_between_equal_names_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&rename("a/f", "b/f", EXCHANGE))?;
    stage.allowed(&rename("a/d", "b/f", EXCHANGE)).map(drop)
}

fn exchange_needs_both_rights_at_both_names(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&rename("a/f", "drop/f", EXCHANGE), Why::NotGranted)?;
    stage.denied(&rename("drop/f", "a/f", EXCHANGE), Why::NotGranted)?;
    stage.denied(&rename("a/f", "fixed/f", EXCHANGE), Why::NotGranted)
}

fn exchange_that_widens_either_way_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&rename("a/f", "wide/f", EXCHANGE), Why::Widens)?;
    stage.denied(&rename("wide/f", "a/f", EXCHANGE), Why::Widens)
}

fn exchange_of_directories_compares_subtrees(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&rename("a/d", "b/d", EXCHANGE))?;
    stage.denied(&rename("a/d", "c/sub", EXCHANGE), Why::Widens)?;
    stage.denied(&rename("a/f", "c/sub", EXCHANGE), Why::Widens)
}

fn no_replace_is_judged_like_any_rename(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&rename("a/f", "b/new", NO_REPLACE))?;
    stage.denied(&rename("a/f", "wide/new", NO_REPLACE), Why::Widens)?;
    stage.denied(&rename("a/f", "fixed/new", NO_REPLACE), Why::NotGranted)
}

fn rename_between_preopens_is_judged_by_rights(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&Do::Rename(at(0, "a/f"), at(1, "x/new"), PLAIN))?;
    stage.allowed(&Do::Rename(at(1, "x/f"), at(0, "b/f"), PLAIN))?;
    stage.allowed(&Do::Rename(at(0, "a/d"), at(1, "x/new"), PLAIN))?;
    stage.denied(&Do::Rename(at(0, "c/sub"), at(1, "x/new"), PLAIN), Why::Widens)?;
    stage.denied(&Do::Rename(at(1, "x/f"), at(0, "wide/new"), PLAIN), Why::Widens)
}

/// RENAME_WHITEOUT makes a character device at the old name.
fn a_rename_that_leaves_a_device_behind_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.never(&rename("a/f", "b/new", libc::RENAME_WHITEOUT), Operation::Rename)
}

/// How editors and databases replace a file: the new one has the old one's rights at once.
fn a_file_that_is_written_beside_and_renamed_over_another_works(lab: &Lab) -> Result<()> {
    let policy = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"state\", \"state.tmp\"]\n\
                  write = [\"state\", \"state.tmp\"]\ncreate = [\"state\", \"state.tmp\"]\n\
                  delete = [\"state\", \"state.tmp\"]\n";
    let mut setup = Setup::new(lab.directory()?, policy, &[]);
    setup.fresh = false;
    let mut stage = setup.start(lab)?;
    let create = (libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL) as u32;
    for round in 0..3u8 {
        let write = Then::Write(vec![b'0' + round]);
        stage.allowed(&Do::Open(at(0, "state.tmp"), create, write))?;
        stage.allowed(&Do::Rename(at(0, "state.tmp"), at(0, "state"), 0))?;
        let read = Do::Open(at(0, "state"), libc::O_RDONLY as u32, Then::Read);
        ensure!(stage.allowed(&read)? == [b'0' + round], "round {round}");
    }
    Ok(())
}
