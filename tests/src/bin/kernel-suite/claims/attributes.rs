//! Extended attributes, access control lists, and where symbolic links point to.

use anyhow::{Result, ensure};
use wasi_guard_abi::operation::{Operation, Reason};
use wasi_guard_tests::operation::{ATTRIBUTE, Answer, BASE, Do, Then, at};

use super::cases;
use crate::{
    check::told,
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    reading_attributes_needs_read,
    changing_attributes_needs_write,
    attributes_do_not_change_through_a_descriptor_opened_for_reading,
    reading_a_link_needs_a_right_on_its_name,
    following_a_link_that_may_not_be_read_is_judged_by_where_it_leads,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["r/**"]
write = ["w/**"]
deny = ["r/key"]
"#;
const TREE: &[&str] = &[
    "data/r/f",
    "data/w/f",
    "data/r/link -> f",
    "data/r/key -> f",
    "data/hidden -> r/f",
    "outside/link -> nowhere",
];
/// Setting and removing.
const CHANGES: [(Then, Then); 2] =
    [(Then::SetXattr, Then::RemoveXattr), (Then::SetAcl, Then::RemoveAcl)];

/// On ext4, whose files have attributes on every kernel; with attributes to read.
fn stage(lab: &Lab) -> Result<Stage> {
    let base = lab.directory_on_ext4()?;
    let made = Setup::new(base.clone(), POLICY, TREE).start(lab)?;
    made.reset()?;
    for path in ["data/r/f", "data/w/f"] {
        let file = at(BASE, path);
        for then in [Then::SetXattr, Then::SetAcl] {
            worked(&made.outside.ask(&Do::Open(file.clone(), W, then))?)?;
        }
    }
    drop(made);
    let mut setup = Setup::new(base, POLICY, TREE);
    setup.fresh = false;
    setup.start(lab)
}

fn reading_attributes_needs_read(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let value = stage.allowed(&Do::Open(at(0, "r/f"), R, Then::GetXattr))?;
    ensure!(value == b"x", "{ATTRIBUTE} is {value:?}");
    stage.allowed(&Do::Open(at(0, "r/f"), R, Then::ListXattr))?;
    stage.allowed(&Do::Open(at(0, "r/f"), R, Then::GetAcl))?;
    for then in [Then::GetXattr, Then::ListXattr, Then::GetAcl] {
        stage.denied(&Do::Open(at(0, "w/f"), W, then), Why::NotGranted)?;
    }
    Ok(())
}

fn changing_attributes_needs_write(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for (set, remove) in CHANGES {
        stage.allowed(&Do::Open(at(0, "w/f"), W, set.clone()))?;
        stage.allowed(&Do::Open(at(0, "w/f"), W, remove))?;
        stage.allowed(&Do::Open(at(0, "w/f"), W, set))?;
    }
    Ok(())
}

fn attributes_do_not_change_through_a_descriptor_opened_for_reading(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for (set, remove) in CHANGES {
        let open = |then| Do::Open(at(0, "r/f"), R, then);
        stage.denied(&open(set.clone()), Why::NotGranted)?;
        // What was removed is to be there again before the next step.
        for then in [&remove, &set] {
            worked(&stage.outside.ask(&open(then.clone()))?)?;
        }
        ensure!(stage.inside.ask(&open(remove.clone()))? == Answer::Failed(1, libc::EACCES));
        let records = stage.records()?;
        ensure!(
            records.len() == 1
                && records[0].operation == Operation::SetXattr
                && records[0].reason == Reason::NotGranted,
            "{}",
            told(&records)
        );
        worked(&stage.outside.ask(&open(remove))?)?;
    }
    Ok(())
}

fn worked(answer: &Answer) -> Result<()> {
    ensure!(matches!(answer, Answer::Done(_)), "{answer:?}");
    Ok(())
}

fn reading_a_link_needs_a_right_on_its_name(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let target = stage.allowed(&Do::Readlink(at(0, "r/link")))?;
    ensure!(target == b"f", "{target:?}");
    stage.denied(&Do::Readlink(at(0, "r/key")), Why::Deny("r/key"))?;
    stage.denied(&Do::Readlink(at(0, "hidden")), Why::NotGranted)?;
    stage.denied(&Do::Readlink(at(BASE, "outside/link")), Why::Outside)
}

fn following_a_link_that_may_not_be_read_is_judged_by_where_it_leads(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let open = Do::Open(at(0, "hidden"), R, Then::Read);
    stage.allowed_via(&open, Some("data/r/f")).map(drop)
}
