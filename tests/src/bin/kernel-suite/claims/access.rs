//! Opening: reading, writing, creating, and the ways around a preopen.

use anyhow::{Result, bail, ensure};
use wasi_guard_abi::operation::{Operation, Reason};
use wasi_guard_tests::operation::{Answer, At, BASE, Do, NOWHERE, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    reading_what_a_rule_grants_is_allowed,
    reading_what_no_rule_grants_is_denied,
    writing_what_a_rule_grants_is_allowed,
    writing_what_may_only_be_read_is_denied,
    creating_where_a_rule_grants_it_is_allowed,
    creating_where_no_rule_grants_it_is_denied,
    opening_an_existing_file_with_o_creat_needs_no_create,
    a_deny_rule_beats_a_grant_in_the_same_directory,
    a_deny_rule_covers_the_whole_subtree,
    a_deny_rule_covers_names_that_do_not_exist_yet,
    listing_a_directory_needs_read_on_it,
    o_rdonly_with_o_trunc_needs_write,
    access_mode_three_needs_read,
    truncate_by_path_needs_write,
    ftruncate_of_a_received_descriptor_needs_write,
    o_path_is_allowed_but_what_follows_is_judged,
    o_tmpfile_needs_write_in_its_directory,
    what_lies_outside_the_preopens_is_denied,
    dot_dot_out_of_a_preopen_is_denied,
    dot_dot_inside_a_preopen_is_judged_by_where_it_leads,
    an_absolute_path_is_judged_by_where_it_leads,
    proc_self_root_and_fd_lead_to_no_other_verdict,
    proc_and_dev_are_denied,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const RW: u32 = libc::O_RDWR as u32;
const CREATE: u32 = libc::O_CREAT as u32;
const EXCLUSIVE: u32 = libc::O_EXCL as u32;
const TRUNCATE: u32 = libc::O_TRUNC as u32;
const APPEND: u32 = libc::O_APPEND as u32;
const DIRECTORY: u32 = libc::O_DIRECTORY as u32;
const PATH: u32 = libc::O_PATH as u32;
const TMPFILE: u32 = libc::O_TMPFILE as u32;

const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["in/**", "out/**"]
write = ["out/**"]
create = ["out/**"]
delete = ["out/tmp-*"]
deny = ["in/secret/**", "**/*.pem"]
"#;
const TREE: &[&str] = &[
    "data/in/a.txt",
    "data/in/sub/b.txt",
    "data/in/secret/key",
    "data/in/secret/deep/er/key",
    "data/in/key.pem",
    "data/out/state",
    "data/other",
    "outside/secret",
];

fn stage(lab: &Lab) -> Result<Stage> {
    lab.stage(POLICY, TREE)
}

fn open(path: &str, flags: u32) -> Do {
    Do::Open(at(0, path), flags, Then::Close)
}

fn reading_what_a_rule_grants_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for path in ["in/a.txt", "in/sub/b.txt", "out/state"] {
        let bytes = stage.allowed(&Do::Open(at(0, path), R, Then::Read))?;
        ensure!(bytes == format!("content of data/{path}").as_bytes(), "read {bytes:?}");
    }
    Ok(())
}

fn reading_what_no_rule_grants_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Open(at(0, "other"), R, Then::Close), Why::NotGranted)
}

fn writing_what_a_rule_grants_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let write = Then::Write(b"new".to_vec());
    for flags in [W, RW, W | APPEND, W | TRUNCATE, W | CREATE] {
        stage.allowed(&Do::Open(at(0, "out/state"), flags, write.clone()))?;
        let path = stage.roots[0].join("out/state");
        ensure!(std::fs::read_to_string(path)?.contains("new"), "nothing was written");
    }
    stage.allowed(&Do::Open(at(0, "out/state"), RW, Then::Truncate(1)))?;
    stage.allowed(&Do::Open(at(0, "out/state"), RW, Then::Allocate(64))).map(drop)
}

fn writing_what_may_only_be_read_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for flags in [W, RW, W | APPEND, W | TRUNCATE, RW | CREATE] {
        stage.denied(&open("in/a.txt", flags), Why::NotGranted)?;
    }
    Ok(())
}

fn creating_where_a_rule_grants_it_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for flags in [W | CREATE, RW | CREATE | EXCLUSIVE, R | CREATE, W | CREATE | TRUNCATE] {
        stage.allowed(&open("out/new", flags))?;
        ensure!(stage.roots[0].join("out/new").exists(), "nothing was created");
    }
    Ok(())
}

fn creating_where_no_rule_grants_it_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&open("in/new", R | CREATE), Why::NotGranted)?;
    stage.denied(&open("in/new", W | CREATE), Why::NotGranted)?;
    stage.denied(&open("new", W | CREATE | TRUNCATE), Why::NotGranted)
}

fn opening_an_existing_file_with_o_creat_needs_no_create(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&open("in/a.txt", R | CREATE)).map(drop)
}

fn a_deny_rule_beats_a_grant_in_the_same_directory(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&open("in/key.pem", R), Why::Deny("**/*.pem"))
}

fn a_deny_rule_covers_the_whole_subtree(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&open("in/secret/key", R), Why::Deny("in/secret/**"))?;
    stage.denied(&open("in/secret/deep/er/key", R), Why::Deny("in/secret/**"))?;
    stage.denied(&open("in/secret/deep", R | DIRECTORY), Why::Deny("in/secret/**"))
}

fn a_deny_rule_covers_names_that_do_not_exist_yet(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&open("out/new.pem", W | CREATE), Why::Deny("**/*.pem"))?;
    stage.denied(&Do::Mkdir(at(0, "out/x.pem")), Why::Deny("**/*.pem"))?;
    stage.allowed(&open("out/new.pemx", W | CREATE)).map(drop)
}

fn listing_a_directory_needs_read_on_it(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let names = stage.allowed(&Do::Open(at(0, "in/sub"), R | DIRECTORY, Then::List))?;
    ensure!(names.split(|byte| *byte == b'\n').any(|name| name == b"b.txt"), "{names:?}");
    // `in/**` is what is below `in`, not `in` itself.
    stage.denied(&Do::Open(at(0, "in"), R | DIRECTORY, Then::Close), Why::NotGranted)?;
    stage.denied(&Do::Open(at(0, "."), R | DIRECTORY, Then::Close), Why::NotGranted)
}

fn o_rdonly_with_o_trunc_needs_write(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&open("in/a.txt", R | TRUNCATE), Why::NotGranted)?;
    stage.allowed(&open("out/state", R | TRUNCATE)).map(drop)
}

fn access_mode_three_needs_read(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&open("in/a.txt", 3))?;
    stage.denied(&open("other", 3), Why::NotGranted)
}

fn absolute(stage: &Stage, path: &str) -> At {
    at(NOWHERE, stage.base.join(path).as_os_str().as_encoded_bytes())
}

fn truncate_by_path_needs_write(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&Do::Truncate(absolute(&stage, "data/in/a.txt")), Why::NotGranted)?;
    stage.denied(&Do::Truncate(absolute(&stage, "outside/secret")), Why::Outside)?;
    stage.allowed(&Do::Truncate(absolute(&stage, "data/out/state"))).map(drop)
}

fn ftruncate_of_a_received_descriptor_needs_write(lab: &Lab) -> Result<()> {
    let base = lab.directory()?;
    std::fs::create_dir_all(base.join("data/in"))?;
    let path = base.join("data/in/a.txt");
    std::fs::write(&path, "content")?;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path)?;
    let mut setup = Setup::new(base, POLICY, &[]);
    setup.fresh = false;
    setup.given.push((file.into(), 20));
    let mut stage = setup.start(lab)?;
    let attempts = [Then::Truncate(7), Then::Chmod, Then::Times, Then::Chown];
    for then in attempts {
        stage.denied_via(&Do::Given(20, then), Some("data/in/a.txt"), Why::NotGranted)?;
    }
    stage.allowed_via(&Do::Given(20, Then::Stat), Some("data/in/a.txt")).map(drop)
}

fn o_path_is_allowed_but_what_follows_is_judged(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&open("other", PATH))?;
    stage.allowed(&Do::Open(at(0, "in/a.txt"), PATH, Then::Stat))?;
    stage.denied(&Do::Open(at(0, "other"), PATH, Then::Stat), Why::NotGranted)?;
    stage.denied(&Do::Open(at(0, "other"), PATH, Then::Reopen(R)), Why::NotGranted)?;
    stage.denied(&Do::Open(at(0, "in/a.txt"), R, Then::Reopen(W)), Why::NotGranted)?;
    stage.denied(&Do::Open(at(BASE, "outside/secret"), PATH, Then::Stat), Why::Outside)
}

fn o_tmpfile_needs_write_in_its_directory(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.reset()?;
    let make = |path| Do::Open(at(0, path), RW | TMPFILE, Then::Close);
    ensure!(stage.outside.ask(&make("in"))? == Answer::Done(Vec::new()), "outside");
    ensure!(stage.inside.ask(&make("out"))? == Answer::Done(Vec::new()), "where it may write");
    ensure!(stage.inside.ask(&make("in"))? == Answer::Failed(0, libc::EACCES), "where not");
    let records = stage.records()?;
    let [record] = &records[..] else { bail!("one record, not {records:?}") };
    ensure!(
        (record.operation, record.reason) == (Operation::Open, Reason::NotGranted)
            && record.names[0].path.starts_with(b"in/#"),
        "{record:?}"
    );
    ensure!(stage.outside.ask(&make("in"))? == Answer::Done(Vec::new()), "outside again");
    Ok(())
}

fn what_lies_outside_the_preopens_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for flags in [R, W, RW, R | TRUNCATE] {
        let open = Do::Open(at(BASE, "outside/secret"), flags, Then::Close);
        stage.denied(&open, Why::Outside)?;
    }
    stage.denied(&Do::Open(at(BASE, "outside"), R | DIRECTORY, Then::Close), Why::Outside)?;
    stage.denied(&Do::Open(at(BASE, "outside/new"), W | CREATE, Then::Close), Why::Outside)?;
    stage.denied(&Do::Open(at(BASE, "."), R | DIRECTORY, Then::Close), Why::Outside)
}

fn dot_dot_out_of_a_preopen_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&open("../outside/secret", R), Why::Outside)?;
    stage.denied(&open("in/sub/../../../outside/secret", R), Why::Outside)?;
    stage.denied(&Do::Mkdir(at(0, "../outside/new")), Why::Outside)
}

fn dot_dot_inside_a_preopen_is_judged_by_where_it_leads(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&open("in/secret/../a.txt", R))?;
    stage.denied(&open("in/sub/../secret/key", R), Why::Deny("in/secret/**"))?;
    stage.allowed(&open("../data/in/a.txt", R)).map(drop)
}

fn an_absolute_path_is_judged_by_where_it_leads(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.allowed(&Do::Open(absolute(&stage, "data/in/a.txt"), R, Then::Read))?;
    stage.denied(&Do::Open(absolute(&stage, "outside/secret"), R, Then::Close), Why::Outside)?;
    stage.denied(&Do::Open(absolute(&stage, "data/other"), R, Then::Close), Why::NotGranted)
}

fn proc_self_root_and_fd_lead_to_no_other_verdict(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let by_root = |path: &str| {
        let mut name = b"/proc/self/root".to_vec();
        name.extend(stage.base.join(path).as_os_str().as_encoded_bytes());
        Do::Open(at(NOWHERE, name), R, Then::Close)
    };
    let (good, bad) = (by_root("data/in/a.txt"), by_root("outside/secret"));
    stage.allowed_via(&good, Some("data/in/a.txt"))?;
    stage.denied_via(&bad, Some("outside/secret"), Why::Outside)?;
    stage.allowed(&Do::OpenProc(at(0, "in/a.txt"), R))?;
    stage.denied(&Do::OpenProc(at(0, "other"), R), Why::NotGranted)?;
    stage.denied(&Do::OpenProc(at(BASE, "outside/secret"), R), Why::Outside)?;
    stage.denied(&Do::OpenProc(at(BASE, ""), R | DIRECTORY), Why::Outside)
}

fn proc_and_dev_are_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for path in ["/proc/self/maps", "/proc/version", "/dev/null", "/sys/kernel/notes"] {
        let open = Do::Open(at(NOWHERE, path), R, Then::Close);
        stage.denied(&open, Why::OutsideSomewhere)?;
    }
    Ok(())
}
