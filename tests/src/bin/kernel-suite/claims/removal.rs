//! Names that come and go: mkdir, rmdir, unlink, mknod.

use anyhow::Result;
use wasi_guard_abi::operation::Operation;
use wasi_guard_tests::operation::{BASE, Do, at};

use super::cases;
use crate::{expect::Why, lab::Lab, stage::Stage};

cases![
    unlink_where_a_rule_grants_delete_is_allowed,
    unlink_without_delete_is_denied,
    unlink_of_a_denied_name_is_denied,
    unlink_outside_preopens_is_denied,
    rmdir_follows_delete,
    mkdir_follows_create,
    mknod_of_a_regular_file_follows_create,
    nothing_but_regular_files_can_be_made,
    symlink_follows_create,
    a_preopen_itself_cannot_be_removed,
];

const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "box/data"
read = ["**"]
write = ["out/**"]
create = ["out/**"]
delete = ["out/tmp-*", "out/tmp-*/**"]
deny = ["out/tmp-key", "out/private/**"]
"#;
const TREE: &[&str] = &[
    "box/data/out/tmp-1",
    "box/data/out/tmp-key",
    "box/data/out/tmp-d/",
    "box/data/out/private/",
    "box/data/out/keep/",
    "box/data/in/a",
    "outside/secret",
    "outside/empty/",
];

fn stage(lab: &Lab) -> Result<Stage> {
    lab.stage(POLICY, TREE)
}

fn unlink_where_a_rule_grants_delete_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&Do::Unlink(at(0, "out/tmp-1")))?;
    anyhow::ensure!(!stage.roots[0].join("out/tmp-1").exists(), "still there");
    Ok(())
}

fn unlink_without_delete_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&Do::Unlink(at(0, "in/a")), Why::NotGranted)
}

fn unlink_of_a_denied_name_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&Do::Unlink(at(0, "out/tmp-key")), Why::Deny("out/tmp-key"))
}

fn unlink_outside_preopens_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Unlink(at(BASE, "outside/secret")), Why::Outside)?;
    stage.denied(&Do::Unlink(at(0, "../../outside/secret")), Why::Outside)
}

fn rmdir_follows_delete(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&Do::Rmdir(at(0, "out/tmp-d")))?;
    stage.denied(&Do::Rmdir(at(0, "out/keep")), Why::NotGranted)?;
    stage.denied(&Do::Rmdir(at(BASE, "outside/empty")), Why::Outside)
}

fn mkdir_follows_create(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&Do::Mkdir(at(0, "out/new")))?;
    stage.denied(&Do::Mkdir(at(0, "in/new")), Why::NotGranted)?;
    stage.denied(&Do::Mkdir(at(0, "out/private/new")), Why::Deny("out/private/**"))?;
    stage.denied(&Do::Mkdir(at(BASE, "outside/new")), Why::Outside)
}

fn mknod_of_a_regular_file_follows_create(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&Do::Mknod(at(0, "out/new"), libc::S_IFREG))?;
    stage.denied(&Do::Mknod(at(0, "in/new"), libc::S_IFREG), Why::NotGranted)?;
    stage.denied(&Do::Mknod(at(BASE, "outside/new"), libc::S_IFREG), Why::Outside)
}

fn nothing_but_regular_files_can_be_made(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for kind in [libc::S_IFIFO, libc::S_IFCHR, libc::S_IFBLK, libc::S_IFSOCK] {
        stage.never(&Do::Mknod(at(0, "out/new"), kind), Operation::Create)?;
    }
    Ok(())
}

fn symlink_follows_create(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    // Where it leads does not matter: that is judged when it is followed.
    stage.allowed(&Do::Symlink(b"/etc/passwd".to_vec(), at(0, "out/new")))?;
    stage.denied(&Do::Symlink(b"a".to_vec(), at(0, "in/new")), Why::NotGranted)?;
    stage.denied(&Do::Symlink(b"a".to_vec(), at(BASE, "outside/new")), Why::Outside)
}

fn a_preopen_itself_cannot_be_removed(lab: &Lab) -> Result<()> {
    // Its rights are those of its own root: no rule of a preopen can grant delete there.
    let policy = "[[preopen]]\nguest = \"/data\"\nhost = \"box/data\"\ndelete = [\"**\"]\n";
    let base = lab.directory()?;
    let mut setup = crate::stage::Setup::new(base, policy, &[]);
    setup.fresh = false;
    let mut stage = setup.start(lab)?;
    let answer = stage.inside.ask(&Do::Rmdir(at(0, "../data")))?;
    anyhow::ensure!(
        answer == wasi_guard_tests::operation::Answer::Failed(0, libc::EACCES),
        "{answer:?}"
    );
    let records = stage.records()?;
    anyhow::ensure!(
        records.len() == 1 && records[0].names[0].path.is_empty(),
        "the record names the preopen itself: {records:?}"
    );
    let answer = stage.outside.ask(&Do::Rmdir(at(0, "../data")))?;
    anyhow::ensure!(
        answer == wasi_guard_tests::operation::Answer::Done(Vec::new()),
        "outside: {answer:?}"
    );
    Ok(())
}
