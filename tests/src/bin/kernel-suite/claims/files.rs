//! Preopens that are single files.

use std::fs;

use anyhow::{Result, ensure};
use wasi_guard_tests::operation::{Answer, At, BASE, Do, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::{Lab, Mounted},
    stage::{Setup, Stage},
};

cases![
    a_single_file_is_judged_by_its_own_rules,
    the_directory_of_a_single_file_can_be_listed_and_nothing_else,
    a_single_file_in_another_preopen_is_judged_by_its_own_rules,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const DIRECTORY: u32 = (libc::O_RDONLY | libc::O_DIRECTORY) as u32;
/// `etc` stands in for what the supervisor makes: files with others mounted over them.
const POLICY: &str = r#"
[[preopen]]
guest = "/etc/app.conf"
host = "app.conf"
read = ["."]
[[preopen]]
guest = "/etc/state"
host = "state"
read = ["**"]
write = ["**"]
"#;
/// The number of the directory, after those of the policy's preopens.
const ETC: u8 = 2;

fn open(path: At, flags: u32) -> Do {
    Do::Open(path, flags, Then::Close)
}

fn stage(lab: &Lab, policy: &str) -> Result<(Stage, Vec<Mounted>)> {
    let base = lab.directory()?;
    for directory in ["etc", "data"] {
        fs::create_dir(base.join(directory))?;
    }
    for file in ["app.conf", "state", "other", "etc/app.conf", "etc/state", "data/f"] {
        fs::write(base.join(file), format!("content of {file}"))?;
    }
    let mount = |name: &str| Mounted::bind(&base.join(name), base.join("etc").join(name));
    let mounted = vec![mount("app.conf")?, mount("state")?];
    let mut setup = Setup::new(base.clone(), policy, &[]);
    setup.fresh = false;
    setup.holders = vec![base.join("etc")];
    Ok((setup.start(lab)?, mounted))
}

fn a_single_file_is_judged_by_its_own_rules(lab: &Lab) -> Result<()> {
    let (mut stage, _mounted) = stage(lab, POLICY)?;
    let (conf, state) = (at(ETC, "app.conf"), at(ETC, "state"));
    let read = Do::Open(conf.clone(), R, Then::Read);
    let content = stage.allowed_via(&read, Some("app.conf"))?;
    ensure!(content == b"content of app.conf", "{content:?}");
    stage.allowed_via(&Do::Stat(conf.clone(), false), Some("app.conf"))?;
    stage.allowed_via(&Do::Open(state.clone(), W, Then::Write(b"x".to_vec())), Some("state"))?;
    stage.allowed_via(&Do::Times(state.clone()), Some("state"))?;
    stage.denied_via(&open(conf.clone(), W), Some("app.conf"), Why::NotGranted)?;
    stage.denied_via(&Do::Chmod(conf), Some("app.conf"), Why::NotGranted)?;
    // By its name on the host it is the same file.
    stage.allowed(&open(at(BASE, "app.conf"), R))?;
    stage.denied(&open(at(BASE, "app.conf"), W), Why::NotGranted)?;
    stage.denied(&open(at(BASE, "other"), R), Why::Outside)?;
    stage.denied(&open(at(BASE, "data/f"), R), Why::Outside)
}

fn the_directory_of_a_single_file_can_be_listed_and_nothing_else(lab: &Lab) -> Result<()> {
    let (mut stage, _mounted) = stage(lab, POLICY)?;
    let listed = stage.allowed(&Do::Open(at(ETC, "."), DIRECTORY, Then::List))?;
    let listed = String::from_utf8(listed)?;
    let mut names: Vec<&str> = listed.lines().filter(|line| !line.starts_with('.')).collect();
    names.sort_unstable();
    ensure!(names == ["app.conf", "state"], "{names:?}");
    stage.allowed(&Do::Stat(at(ETC, "."), false))?;
    stage.denied(&Do::Chmod(at(ETC, ".")), Why::NotGranted)?;
    stage.denied(&open(at(ETC, "../data"), DIRECTORY), Why::Outside)?;
    // What would change names: nothing is to be left of what works outside.
    let unused = |name: &str| at(ETC, name);
    for (attempt, undo) in [
        (open(unused("new"), W | libc::O_CREAT as u32), Do::Unlink(unused("new"))),
        (Do::Mkdir(unused("dir")), Do::Rmdir(unused("dir"))),
        (Do::Symlink(b"x".to_vec(), unused("link")), Do::Unlink(unused("link"))),
    ] {
        for _ in 0..2 {
            let answer = stage.outside.ask(&attempt)?;
            ensure!(matches!(answer, Answer::Done(_)), "outside {attempt:?}: {answer:?}");
            ensure!(matches!(stage.outside.ask(&undo)?, Answer::Done(_)), "{undo:?}");
            stage.records()?;
            let answer = stage.inside.ask(&attempt)?;
            ensure!(answer == Answer::Failed(0, libc::EACCES), "{attempt:?}: {answer:?}");
            let records = stage.records()?;
            ensure!(
                records.len() == 1 && records[0].names[0].preopen == Some(ETC.into()),
                "{records:?}"
            );
        }
    }
    // A file that is mounted over cannot be removed, by whomever; the guest is told no before.
    for attempt in [Do::Unlink(at(ETC, "state")), Do::Rename(at(ETC, "state"), unused("x"), 0)] {
        let answer = stage.inside.ask(&attempt)?;
        ensure!(answer == Answer::Failed(0, libc::EACCES), "{attempt:?}: {answer:?}");
        ensure!(stage.records()?.len() == 1, "one record");
    }
    Ok(())
}

fn a_single_file_in_another_preopen_is_judged_by_its_own_rules(lab: &Lab) -> Result<()> {
    let policy = format!(
        "{POLICY}[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nwrite = [\"**\"]\n\
         [[preopen]]\nguest = \"/run/f\"\nhost = \"data/f\"\nread = [\".\"]\n"
    );
    let base = lab.directory()?;
    for directory in ["etc", "run", "data"] {
        fs::create_dir(base.join(directory))?;
    }
    for file in ["app.conf", "state", "data/f", "data/g"] {
        fs::write(base.join(file), file)?;
    }
    let mut setup = Setup::new(base.clone(), &policy, &[]);
    setup.fresh = false;
    setup.holders = vec![base.join("etc"), base.join("run")];
    let mut stage = setup.start(lab)?;
    stage.allowed(&open(at(2, "g"), W))?;
    stage.allowed(&open(at(2, "f"), R))?;
    stage.denied(&open(at(2, "f"), W), Why::NotGranted)
}
