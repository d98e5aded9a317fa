//! Mounts below a preopen: outside, unless the policy names them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use wasi_guard_tests::operation::{At, Do, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::{Lab, Mounted},
    stage::{Setup, Stage},
};

cases![
    a_bind_mount_below_a_preopen_leads_outside,
    another_file_system_below_a_preopen_is_outside,
    a_file_system_from_before_the_start_is_outside,
    a_preopen_that_names_the_mounted_file_system_decides,
    a_preopen_that_names_a_bind_mount_decides_in_both_places,
    nested_preopens_of_one_file_system_are_judged_by_the_innermost,
    a_bind_mount_of_another_preopen_is_judged_where_it_lies,
    a_bind_mount_within_a_preopen_is_judged_where_it_lies,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const CREATE: u32 = libc::O_CREAT as u32;
const OUTER: &str = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"**\"]\n";

fn open(path: At, flags: u32) -> Do {
    Do::Open(path, flags, Then::Close)
}

/// A new directory with these files.
fn place(lab: &Lab, files: &[&str]) -> Result<PathBuf> {
    let base = lab.directory()?;
    write_all(&base, files)?;
    Ok(base)
}

fn write_all(base: &Path, files: &[&str]) -> Result<()> {
    for file in files {
        let path = base.join(file);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        fs::write(path, "content")?;
    }
    Ok(())
}

/// A stage whose files stay as they are.
fn start(lab: &Lab, base: PathBuf, policy: &str) -> Result<Stage> {
    let mut setup = Setup::new(base, policy, &[]);
    setup.fresh = false;
    setup.start(lab)
}

const FILES: &[&str] = &["data/in/file", "data/mnt/hidden", "outside/secret"];

fn a_bind_mount_below_a_preopen_leads_outside(lab: &Lab) -> Result<()> {
    let mut stage = start(lab, place(lab, FILES)?, OUTER)?;
    stage.allowed(&open(at(0, "mnt/hidden"), R))?;
    let _mounted = Mounted::bind(&stage.base.join("outside"), stage.roots[0].join("mnt"))?;
    stage.denied_via(&open(at(0, "mnt/secret"), R), Some("outside/secret"), Why::Outside)?;
    stage.denied_via(&Do::Stat(at(0, "mnt"), false), Some("outside"), Why::Outside)
}

fn another_file_system_below_a_preopen_is_outside(lab: &Lab) -> Result<()> {
    let mut stage = start(lab, place(lab, FILES)?, OUTER)?;
    let target = stage.roots[0].join("mnt");
    let _mounted = Mounted::new("tmpfs", &target, "mode=755")?;
    fs::write(target.join("file"), "content")?;
    stage.denied_via(&open(at(0, "mnt/file"), R), Some("elsewhere"), Why::OutsideSomewhere)
}

fn a_file_system_from_before_the_start_is_outside(lab: &Lab) -> Result<()> {
    let base = place(lab, FILES)?;
    let _mounted = Mounted::new("tmpfs", base.join("data/mnt"), "mode=755")?;
    write_all(&base, &["data/mnt/file"])?;
    let mut stage = start(lab, base, OUTER)?;
    stage.allowed(&open(at(0, "in/file"), R))?;
    stage.denied_via(&open(at(0, "mnt/file"), R), Some("elsewhere"), Why::OutsideSomewhere)?;
    stage.denied_via(&Do::Stat(at(0, "mnt"), false), Some("elsewhere"), Why::OutsideSomewhere)
}

/// The outer preopen grants reading of everything; what is named decides for itself.
fn inner(host: &str) -> String {
    format!(
        "{OUTER}[[preopen]]\nguest = \"/inner\"\nhost = \"{host}\"\nread = [\"pub/**\"]\n\
         write = [\"out/**\"]\ncreate = [\"out/**\"]\ndeny = [\"**/*.pem\"]\n"
    )
}

/// What the rules of [`inner`] say, by names below preopen `number` at `from`, which lead to
/// `leads_to` below the base if they do not lie where they seem to.
fn by_the_inner_rules(
    stage: &mut Stage,
    number: u8,
    from: &str,
    leads_to: Option<&str>,
) -> Result<()> {
    let name = |path: &str| at(number, format!("{from}{path}"));
    let lies = |path: &str| leads_to.map(|place| format!("{place}/{path}"));
    let mut allowed = |path: &str, flags| {
        stage.allowed_via(&open(name(path), flags), lies(path).as_deref()).map(drop)
    };
    allowed("pub/file", R)?;
    allowed("out/file", W)?;
    let mut denied = |path: &str, flags, why| {
        stage.denied_via(&open(name(path), flags), lies(path).as_deref(), why)
    };
    denied("none", R, Why::NotGranted)?;
    denied("pub/file", W, Why::NotGranted)?;
    denied("pub/key.pem", R, Why::Deny("**/*.pem"))
}

const INNER_FILES: &[&str] = &["none", "pub/file", "pub/key.pem", "out/file"];

fn write_inner(base: &Path) -> Result<()> {
    write_all(base, INNER_FILES)
}

fn a_preopen_that_names_the_mounted_file_system_decides(lab: &Lab) -> Result<()> {
    let base = place(lab, FILES)?;
    let target = base.join("data/mnt");
    let _mounted = Mounted::new("tmpfs", &target, "mode=755")?;
    write_inner(&target)?;
    let mut stage = start(lab, base, &inner("data/mnt"))?;
    stage.allowed(&open(at(0, "in/file"), R))?;
    // By the name below the outer preopen, and by its own.
    by_the_inner_rules(&mut stage, 0, "mnt/", None)?;
    by_the_inner_rules(&mut stage, 1, "", None)?;
    stage.denied(&open(at(0, "mnt/none"), W), Why::NotGranted)?;
    stage.allowed(&open(at(1, "out/new"), W | CREATE)).map(drop)
}

fn a_preopen_that_names_a_bind_mount_decides_in_both_places(lab: &Lab) -> Result<()> {
    let base = place(lab, FILES)?;
    write_inner(&base.join("outside"))?;
    let _mounted = Mounted::bind(&base.join("outside"), base.join("data/mnt"))?;
    let mut stage = start(lab, base, &inner("data/mnt"))?;
    by_the_inner_rules(&mut stage, 0, "mnt/", None)?;
    by_the_inner_rules(&mut stage, 1, "", None)?;
    // The directory itself is the preopen, by whatever name it is reached.
    by_the_inner_rules(&mut stage, 0, "../outside/", Some("data/mnt"))
}

fn nested_preopens_of_one_file_system_are_judged_by_the_innermost(lab: &Lab) -> Result<()> {
    let base = place(lab, FILES)?;
    write_inner(&base.join("data/deep/mnt"))?;
    let middle = "[[preopen]]\nguest = \"/deep\"\nhost = \"data/deep\"\nwrite = [\"none\"]\n";
    write_all(&base, &["data/deep/none", "data/deep/file"])?;
    let policy = format!("{}{middle}", inner("data/deep/mnt"));
    let mut stage = start(lab, base, &policy)?;
    by_the_inner_rules(&mut stage, 0, "deep/mnt/", None)?;
    by_the_inner_rules(&mut stage, 2, "mnt/", None)?;
    by_the_inner_rules(&mut stage, 1, "", None)?;
    stage.allowed(&open(at(0, "deep/none"), W))?;
    stage.denied(&open(at(0, "deep/file"), R), Why::NotGranted)?;
    stage.allowed(&open(at(0, "in/file"), R)).map(drop)
}

fn a_bind_mount_of_another_preopen_is_judged_where_it_lies(lab: &Lab) -> Result<()> {
    let base = place(lab, FILES)?;
    write_inner(&base.join("other"))?;
    let mut stage = start(lab, base, &inner("other"))?;
    let place = |name| stage.base.join(name);
    let _mounted = Mounted::bind(&place("other/pub"), place("data/mnt"))?;
    let lies = |name: &str| format!("other/pub/{name}");
    stage.allowed_via(&open(at(0, "mnt/file"), R), Some(&lies("file")))?;
    stage.denied_via(&open(at(0, "mnt/file"), W), Some(&lies("file")), Why::NotGranted)?;
    let key = lies("key.pem");
    stage.denied_via(&open(at(0, "mnt/key.pem"), R), Some(&key), Why::Deny("**/*.pem"))
}

fn a_bind_mount_within_a_preopen_is_judged_where_it_lies(lab: &Lab) -> Result<()> {
    let base = place(lab, &["data/in/file", "data/secret/plan", "data/mnt/hidden"])?;
    let policy = format!("{OUTER}deny = [\"secret/**\"]\n");
    let mut stage = start(lab, base, &policy)?;
    let base = stage.base.clone();
    let place = |name| base.join(name);
    let _mounted = Mounted::bind(&place("data/secret"), place("data/mnt"))?;
    let plan = open(at(0, "mnt/plan"), R);
    stage.denied_via(&plan, Some("data/secret/plan"), Why::Deny("secret/**"))?;
    let _over = Mounted::bind(&place("data/in"), place("data/secret"))?;
    stage.allowed_via(&open(at(0, "secret/file"), R), Some("data/in/file")).map(drop)
}
