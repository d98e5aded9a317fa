//! Preopens that are no plain directories: single files, and directories on overlayfs.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::reload;
use crate::Case;
use crate::lab::{Folder, Lab, Mounted};
use crate::program::{Outcome, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "a_single_file_is_all_that_the_guest_gets", run: single_file },
    Case { name: "a_second_name_of_a_single_file_does_not_help", run: second_name },
    Case { name: "what_cannot_be_a_single_file_is_refused", run: refused },
    Case { name: "a_policy_for_a_single_file_is_reloaded", run: reloaded },
    Case { name: "audit_mode_lets_a_single_file_be_written", run: audited },
    Case { name: "a_directory_on_overlayfs_is_enforced", run: overlay },
];

fn run(folder: &Folder, operations: &[&str]) -> Result<Outcome> {
    let policy = folder.text("policy.toml");
    let mut words = vec!["run", "--policy", &policy, "/guests/files.wasm"];
    words.extend_from_slice(operations);
    guarded(&words).finish()
}

const FILES: &str = r#"version = 1
[[preopen]]
guest = "/etc/app.conf"
host = "./app.conf"
read = ["."]
[[preopen]]
guest = "/etc/state"
host = "./state"
read = ["**"]
write = ["**"]
[[preopen]]
guest = "/data"
host = "./data"
read = ["**"]
"#;

fn place(lab: &Lab) -> Result<Folder> {
    let folder = lab.folder()?;
    folder.file("app.conf", "level=1")?;
    folder.file("secret", "SECRET")?;
    folder.file("state", "old")?;
    folder.file("data/in", "in")?;
    folder.file("policy.toml", FILES)?;
    Ok(folder)
}

fn single_file(lab: &Lab) -> Result<()> {
    let folder = place(lab)?;
    let outcome = run(
        &folder,
        &[
            "read",
            "/etc/app.conf",
            "stat",
            "/etc/app.conf",
            "list",
            "/etc",
            "stat",
            "/etc",
            "write",
            "/etc/state",
            "new",
            "read",
            "/etc/state",
            "read",
            "/data/in",
            "write",
            "/etc/app.conf",
            "x",
            "truncate",
            "/etc/app.conf",
            "times",
            "/etc/app.conf",
            "make",
            "/etc/new",
            "x",
            "unlink",
            "/etc/app.conf",
            "mkdir",
            "/etc/dir",
            "rename",
            "/etc/app.conf",
            "/etc/other",
        ],
    )?;
    outcome.exits(0)?.is_quiet()?.prints(
        "read /etc/app.conf: level=1\n\
         stat /etc/app.conf: ok\n\
         list /etc: app.conf state\n\
         stat /etc: ok\n\
         write /etc/state: ok\n\
         read /etc/state: new\n\
         read /data/in: in\n\
         write /etc/app.conf: EACCES\n\
         truncate /etc/app.conf: EACCES\n\
         times /etc/app.conf: EACCES\n\
         make /etc/new: EACCES\n\
         unlink /etc/app.conf: EACCES\n\
         mkdir /etc/dir: EACCES\n\
         rename /etc/app.conf: EACCES\n",
    )?;
    let denied = |operation: &str, path: &str, preopen: &str, wanted: &str| {
        json!({
            "operation": operation, "path": path, "preopen": preopen, "wanted": [wanted],
            "verdict": "denied", "reason": "not_granted", "errno": "EACCES",
        })
    };
    let conf = "/etc/app.conf";
    outcome.denials(&[
        denied("open", conf, conf, "write"),
        denied("open", conf, conf, "write"),
        // WASI opens a file to set its times.
        denied("open", conf, conf, "write"),
        denied("setattr", conf, conf, "write"),
        denied("create", "/etc/new", "/etc", "create"),
        denied("unlink", conf, "/etc", "delete"),
        denied("mkdir", "/etc/dir", "/etc", "create"),
        denied("rename", conf, "/etc", "delete"),
    ])?;
    folder.holds("app.conf", "level=1")?;
    folder.holds("state", "new")?;
    // The host sees none of the mounts.
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains("nr_inodes=4"), "{mounts}");
    Ok(())
}

fn second_name(lab: &Lab) -> Result<()> {
    let folder = place(lab)?;
    fs::hard_link(folder.path("app.conf"), folder.path("data/alias"))?;
    let policy = FILES.replace("host = \"./data\"\nread", "host = \"./data\"\nwrite");
    folder.file("policy.toml", policy)?;
    let outcome = run(&folder, &["read", "/etc/app.conf", "write", "/data/alias", "x"])?;
    outcome.exits(0)?.prints("read /etc/app.conf: EACCES\nwrite /data/alias: EACCES\n")?;
    folder.holds("app.conf", "level=1")
}

fn refused(lab: &Lab) -> Result<()> {
    let folder = place(lab)?;
    std::os::unix::fs::symlink("app.conf", folder.path("link"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )?;
    for (from, to, told) in [
        ("./app.conf", "./link", "is a symbolic link"),
        ("./app.conf", "./fifo", "is a fifo"),
        ("./app.conf", "/dev/null", "is a device"),
        ("/etc/app.conf", "/data/app.conf", "would be in \"/data\", which is a preopen itself"),
        ("/etc/app.conf", "/etc/state", "a second preopen named"),
        ("read = [\".\"]", "read = [\"x\"]", "read \"x\" (line 5) can never match"),
        ("read = [\".\"]", "delete = [\"**\"]", "no guest may delete the single file"),
    ] {
        folder.file("policy.toml", FILES.replacen(from, to, 1))?;
        let outcome = run(&folder, &["read", "/etc/app.conf"])?;
        outcome.exits(125)?;
        ensure!(outcome.says.contains(told), "{to}: {:?}", outcome.says);
    }
    // Options take directories only.
    let file = format!("{}::/etc/app.conf", folder.text("app.conf"));
    let outcome = guarded(&["run", "--dir", &file, "/guests/hello.wasm"]).finish()?;
    outcome.exits(125)?;
    ensure!(outcome.says.contains("is a file"), "{:?}", outcome.says);
    Ok(())
}

/// One file that may be read; `write` is what else may be done.
fn one_file(write: &str) -> String {
    format!(
        "version = 1\n[[preopen]]\nguest = \"/etc/app.conf\"\nhost = \"./app.conf\"\n\
         read = [\".\"]\n{write}"
    )
}

const WRITABLE: &str = "write = [\".\"]\n";

/// Denials of writing it: an open, and in audit mode what comes after it as well.
fn not_granted(verdict: &str) -> Value {
    json!({
        "operation": "open", "path": "/etc/app.conf", "preopen": "/etc/app.conf", "verdict": verdict,
        "reason": "not_granted", "rule": null,
    })
}

fn reloaded(lab: &Lab) -> Result<()> {
    let folder = place(lab)?;
    folder.file("policy.toml", one_file(WRITABLE))?;
    folder.file("wide.toml", one_file(WRITABLE))?;
    folder.file("narrow.toml", one_file(""))?;
    let write = |text| ["write", "/etc/app.conf", text];
    let operations =
        [&write("a")[..], &["pause", "1"], &write("b"), &["pause", "2"], &write("c")].concat();
    let mut live = reload::start(&folder, "policy.toml", &operations)?;
    live.wait_for("write /etc/app.conf: ok")?;
    reload::reload(&live, &folder, "narrow.toml")?;
    live.go_on()?;
    live.wait_for("EACCES")?;
    reload::reload(&live, &folder, "wide.toml")?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints(
        "write /etc/app.conf: ok\npause 1: ok\nwrite /etc/app.conf: EACCES\npause 2: ok\n\
         write /etc/app.conf: ok\n",
    )?;
    outcome.denials(&[not_granted("denied")])?;
    let text = folder.read("app.conf")?;
    ensure!(text.starts_with('c'), "{text:?}");
    Ok(())
}

fn audited(lab: &Lab) -> Result<()> {
    let folder = place(lab)?;
    let policy = folder.file("policy.toml", one_file(""))?;
    let words = |mode| {
        let (file, guest) = ("/etc/app.conf", "/guests/files.wasm");
        ["run", "--policy", &policy, "--mode", mode, guest, "write", file, "new"].map(str::to_owned)
    };
    let run = |mode| {
        let words = words(mode);
        guarded(&words.each_ref().map(String::as_str)).finish()
    };
    let denied = |outcome: Outcome| -> Result<()> {
        outcome.exits(0)?.prints("write /etc/app.conf: EACCES\n")?;
        outcome.denials(&[not_granted("denied")])?;
        Ok(())
    };
    denied(run("enforce")?)?;
    folder.holds("app.conf", "level=1")?;
    let outcome = run("audit")?;
    outcome.exits(0)?.prints("write /etc/app.conf: ok\n")?;
    let first = outcome.of_kind("denial").first().map(|it| (*it).clone());
    ensure!(
        first.as_ref().is_some_and(|it| it["verdict"] == "would_deny" && it["operation"] == "open"),
        "{outcome:?}"
    );
    ensure!(folder.read("app.conf")?.starts_with("new"), "not written");
    denied(run("enforce")?)
}

fn overlay(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    for directory in ["lower/secret", "upper", "work", "data"] {
        folder.directory(directory)?;
    }
    for (file, text) in [("in", "in"), ("out", "old"), ("gone", "gone"), ("secret/plan", "PLAN")] {
        folder.file(&format!("lower/{file}"), text)?;
    }
    // On an overlay each name of a lower file has an inode of its own.
    fs::hard_link(folder.path("lower/secret/plan"), folder.path("lower/alias"))?;
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        folder.text("lower"),
        folder.text("upper"),
        folder.text("work")
    );
    let mounted = Mounted::overlay(folder.path("data"), &layers)?;
    folder.file(
        "policy.toml",
        "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \"./data\"\nread = [\"**\"]\n\
         write = [\"{out,new}\"]\ncreate = [\"new\"]\ndelete = [\"gone\"]\ndeny = [\"secret\"]\n",
    )?;
    let outcome = run(
        &folder,
        &[
            "read",
            "/data/in",
            "write",
            "/data/out",
            "new",
            "read",
            "/data/out",
            "make",
            "/data/new",
            "text",
            "unlink",
            "/data/gone",
            "write",
            "/data/in",
            "x",
            "read",
            "/data/secret/plan",
            "read",
            "/data/alias",
            "unlink",
            "/data/in",
        ],
    )?;
    outcome.exits(0)?.prints(
        "read /data/in: in\n\
         write /data/out: ok\n\
         read /data/out: new\n\
         make /data/new: ok\n\
         unlink /data/gone: ok\n\
         write /data/in: EACCES\n\
         read /data/secret/plan: EACCES\n\
         read /data/alias: EACCES\n\
         unlink /data/in: EACCES\n",
    )?;
    folder.holds("lower/out", "old")?;
    folder.holds("upper/out", "new")?;
    folder.holds("lower/gone", "gone")?;
    mounted.end()
}
