//! What a reload reaches, and what it leaves alone.

use std::fs;

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;
use serde_json::json;

use super::{CLOSED, OPEN, data, denied_by, reload, start};
use crate::lab::{self, Lab};
use crate::program::{guarded, parse};

/// Reading and writing are judged when a file is opened; metadata is judged each time.
pub(super) fn open_descriptor(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    folder.file("policy.toml", format!("{OPEN}write = [\"in\"]\n"))?;
    folder.file("none.toml", format!("{OPEN}deny = [\"in\"]\n"))?;
    let operations = [
        ["hold", "/data/in"],
        ["size", "/data/in"],
        ["pause", "1"],
        ["held", "/data/in"],
        ["read", "/data/in"],
        ["held", "/data/in"],
        ["size", "/data/in"],
    ];
    let mut live = start(&folder, "policy.toml", operations.as_flattened())?;
    live.wait_for("size /data/in: ok")?;
    reload(&live, &folder, "none.toml")?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints(
        "hold /data/in: ok\nsize /data/in: ok\npause 1: ok\nheld /data/in: IN\n\
         read /data/in: EACCES\nheld /data/in: IN+\nsize /data/in: EACCES\n",
    )?;
    folder.holds("data/in", "IN++")?;
    let denied = |operation: &str| {
        json!({
            "operation": operation, "path": "/data/in", "policy": folder.text("none.toml"),
            "rule": { "kind": "deny", "text": "in", "line": 6 },
        })
    };
    outcome.denials(&[denied("open"), denied("stat")])?;
    Ok(())
}

/// To WASI the preopen was never read-only, so what the kernel denied before it lets pass now.
pub(super) fn wider(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    folder.file("wider.toml", format!("{OPEN}write = [\"in\", \"new\"]\ncreate = [\"new\"]\n"))?;
    let mut live = start(
        &folder,
        "policy.toml",
        &[
            "write",
            "/data/in",
            "x",
            "pause",
            "1",
            "write",
            "/data/in",
            "x",
            "make",
            "/data/new",
            "y",
        ],
    )?;
    live.wait_for("write /data/in: EACCES")?;
    reload(&live, &folder, "wider.toml")?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome
        .exits(0)?
        .prints("write /data/in: EACCES\npause 1: ok\nwrite /data/in: ok\nmake /data/new: ok\n")?;
    outcome.denials(&[json!({ "operation": "open", "path": "/data/in", "wanted": ["write"] })])?;
    folder.holds("data/in", "xN")?;
    Ok(())
}

/// What the new policy denies under one name is not open under another one.
pub(super) fn other_names(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    fs::hard_link(folder.path("data/secret"), folder.path("data/alias"))?;
    let operations = [
        "read",
        "/data/alias",
        "pause",
        "1",
        "read",
        "/data/alias",
        "pause",
        "2",
        "read",
        "/data/alias",
    ];
    let mut live = start(&folder, "policy.toml", &operations)?;
    live.wait_for("read /data/alias: SECRET")?;
    reload(&live, &folder, "closed.toml")?;
    live.go_on()?;
    live.wait_for("EACCES")?;
    reload(&live, &folder, "open.toml")?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints(
        "read /data/alias: SECRET\npause 1: ok\nread /data/alias: EACCES\npause 2: ok\n\
         read /data/alias: SECRET\n",
    )?;
    outcome.denials(&[json!({
        "operation": "open", "path": "/data/alias", "policy": folder.text("closed.toml"),
        "rule": { "number": 3, "kind": "deny", "text": "secret", "line": 8 },
    })])?;
    Ok(())
}

/// SIGHUP has no file to read there, and ends the run as before.
pub(super) fn options(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let directory = format!("{}::/data", folder.text("data"));
    let words = ["run", "--dir", &directory, "/guests/files.wasm"];
    let operations = ["pause", "1", "read", "/data/secret", "pause", "2"];
    let mut live = guarded(&[&words[..], &operations].concat()).start()?;
    // Its socket is there before the guest runs.
    live.wait_for_records("start", 1)?;
    reload(&live, &folder, "closed.toml")?;
    live.go_on()?;
    live.wait_for("read /data/secret: EACCES")?;
    live.signal(Signal::HUP)?;
    let outcome = live.outcome()?;
    outcome.ends_by(Signal::HUP)?.denials(&[denied_by(&folder, "closed.toml")])?;
    ensure!(outcome.of_kind("reload")[0]["previous_policy"] == "(command line)", "{outcome:?}");
    Ok(())
}

pub(super) fn audit_file(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    for (name, text) in [("a", OPEN), ("b", CLOSED)] {
        let policy = format!("{text}[audit]\nfile = \"{name}.jsonl\"\n");
        folder.file(&format!("{name}.toml"), policy)?;
    }
    let operations = ["read", "/data/in", "pause", "1", "read", "/data/secret"];
    let mut live = start(&folder, "a.toml", &operations)?;
    live.wait_for("read /data/in: IN")?;
    reload(&live, &folder, "b.toml")?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.is_quiet()?;
    ensure!(outcome.records.is_empty(), "{outcome:?}");
    for (file, kinds) in
        [("a.jsonl", &["start", "reload"][..]), ("b.jsonl", &["reload", "denial", "end"])]
    {
        let records = parse(&folder.read(file)?)?;
        let found: Vec<&str> = records.iter().filter_map(|it| it["record"].as_str()).collect();
        ensure!(found == kinds, "{file}: {found:?}");
    }
    Ok(())
}

pub(super) fn limits(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    for (name, limits) in [
        ("policy", "memory = \"512MiB\"\npids = 60"),
        ("less", "memory = \"256MiB\"\ncpu = 0.5\npids = 50"),
        ("lifted", "memory = \"512MiB\""),
        ("more", "memory = \"513MiB\""),
    ] {
        folder.file(&format!("{name}.toml"), format!("{OPEN}[limits]\n{limits}\n"))?;
    }
    let mut live = start(&folder, "policy.toml", &["read", "/data/in", "pause", "1"])?;
    live.wait_for("read /data/in: IN")?;
    let cgroups = lab::cgroups()?;
    let [cgroup] = &cgroups[..] else { bail!("one guest: {cgroups:?}") };
    let are = |expected: [&str; 3]| -> Result<()> {
        for (file, expected) in ["memory.max", "cpu.max", "pids.max"].iter().zip(expected) {
            let found = fs::read_to_string(cgroup.join(file)).unwrap_or_else(|_| "absent".into());
            ensure!(found.trim() == expected, "{file}: {found:?} instead of {expected:?}");
        }
        Ok(())
    };
    reload(&live, &folder, "less.toml")?;
    are(["268435456", "50000 100000", "50"])?;
    reload(&live, &folder, "lifted.toml")?;
    are(["536870912", "max 100000", "max"])?;
    let more = folder.text("more.toml");
    let outcome = guarded(&["policy", "reload", &live.guest(), &more]).finish()?;
    outcome.exits(1)?.says("[limits] memory: 512MiB at the start, 513MiB now")?;
    are(["536870912", "max 100000", "max"])?;
    live.go_on()?;
    live.finish()?.exits(0)?;
    Ok(())
}
