//! A runtime whose path checks are broken: host functions that open any path as they are asked.
//! What is left is the kernel.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::Case;
use crate::lab::{Folder, Lab};
use crate::program::{Outcome, unchecked};

pub(super) const CASES: &[Case] = &[
    Case { name: "unchecked", run: three_steps },
    Case { name: "unchecked_nothing_outside_can_be_changed", run: nothing_outside_changes },
    Case { name: "unchecked_a_directory_on_the_command_line", run: command_line },
];

/// Line 6 denies.
const POLICY: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "./data"
read = ["**"]
deny = ["secret/**"]
"#;

fn data(lab: &Lab) -> Result<Folder> {
    let folder = lab.folder()?;
    folder.file("data/open", "OPEN")?;
    folder.file("data/secret/plan", "PLAN")?;
    folder.file("shadow", "SHADOW")?;
    folder.directory("empty")?;
    folder.file("policy.toml", POLICY)?;
    Ok(folder)
}

fn run(folder: &Folder, mode: &str, operations: &[&str]) -> Result<Outcome> {
    let policy = folder.text("policy.toml");
    let mut words = vec!["run", "--policy", &policy, "--mode", mode, "/guests/unchecked.wasm"];
    words.extend_from_slice(operations);
    unchecked(&words).finish()
}

/// In audit mode the guest reads what it wants and each time a record says that this would be
/// denied; in enforce mode it is; in audit mode it works again.
fn three_steps(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let [open, plan, shadow] =
        ["data/open", "data/secret/plan", "shadow"].map(|it| folder.text(it));
    let operations = ["read", &open, "read", &plan, "read", &shadow];
    let expected = |verdict: &str, errno: Value| {
        [
            json!({
                "operation": "open", "path": "/data/secret/plan", "preopen": "/data",
                "verdict": verdict, "reason": "deny_rule", "errno": errno,
                "rule": { "kind": "deny", "text": "secret/**", "line": 6, "column": 9 },
            }),
            json!({
                "operation": "open", "preopen": null, "verdict": verdict,
                "reason": "outside_preopens", "errno": errno, "rule": null,
                // From the root of its file system, which is mounted at /tmp.
                "path": shadow.trim_start_matches("/tmp"),
            }),
        ]
    };
    let free = format!("read {open}: OPEN\nread {plan}: PLAN\nread {shadow}: SHADOW\n");
    let would = expected("would_deny", Value::Null);
    run(&folder, "audit", &operations)?.exits(0)?.prints(&free)?.denials(&would)?;
    let denied = format!("read {open}: OPEN\nread {plan}: errno 13\nread {shadow}: errno 13\n");
    let outcome = run(&folder, "enforce", &operations)?;
    outcome.exits(0)?.prints(&denied)?.denials(&expected("denied", json!("EACCES")))?;
    run(&folder, "audit", &operations)?.exits(0)?.prints(&free)?.denials(&would)?;
    Ok(())
}

fn nothing_outside_changes(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let [shadow, new, empty, moved] = ["shadow", "new", "empty", "moved"].map(|it| folder.text(it));
    let outcome = run(
        &folder,
        "enforce",
        &[
            "create",
            &new,
            "create",
            &shadow,
            "unlink",
            &shadow,
            "mkdir",
            &new,
            "rmdir",
            &empty,
            "rename",
            &shadow,
            &moved,
            "read",
            "/etc/hostname",
            "read",
            "/proc/1/environ",
            "read",
            "/proc/self/maps",
            "read",
            "/sys/kernel/security/lsm",
        ],
    )?;
    outcome.exits(0)?;
    for line in outcome.stdout.lines() {
        ensure!(line.ends_with(": errno 13"), "{line}: {outcome:?}");
    }
    ensure!(outcome.stdout.lines().count() == 10, "{outcome:?}");
    let operations: Vec<&str> =
        outcome.of_kind("denial").iter().filter_map(|it| it["operation"].as_str()).collect();
    let expected =
        ["create", "open", "unlink", "mkdir", "rmdir", "rename", "open", "open", "open", "open"];
    ensure!(operations == expected, "{operations:?}: {outcome:?}");
    for record in outcome.of_kind("denial") {
        ensure!(record["reason"] == "outside_preopens" && record["preopen"].is_null(), "{record}");
    }
    folder.holds("shadow", "SHADOW")?;
    ensure!(folder.path("empty").is_dir(), "the directory is gone");
    ensure!(!folder.path("new").exists() && !folder.path("moved").exists(), "something appeared");
    Ok(())
}

/// Options as `wasmtime run` has them become a policy, and the kernel enforces it.
fn command_line(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let [open, shadow] = ["data/open", "shadow"].map(|it| folder.text(it));
    let directory = format!("{}::/d", folder.text("data"));
    let run = |mode: &str| {
        let words = ["run", "--mode", mode, "--dir", &directory, "/guests/unchecked.wasm"];
        unchecked(&[&words[..], &["read", &open, "read", &shadow]].concat()).finish()
    };
    let outside = |verdict: &str| json!({ "operation": "open", "verdict": verdict, "reason": "outside_preopens" });
    let free = format!("read {open}: OPEN\nread {shadow}: SHADOW\n");
    run("audit")?.exits(0)?.prints(&free)?.denials(&[outside("would_deny")])?;
    let denied = format!("read {open}: OPEN\nread {shadow}: errno 13\n");
    run("enforce")?.exits(0)?.prints(&denied)?.denials(&[outside("denied")])?;
    run("audit")?.exits(0)?.prints(&free)?.denials(&[outside("would_deny")])?;
    Ok(())
}
