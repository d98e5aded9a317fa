//! What a policy says about files, through WASI.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::Case;
use crate::lab::{Folder, Lab};
use crate::program::{Outcome, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "files", run: files },
    Case { name: "denied_between_two_times_of_working", run: three_steps },
    Case { name: "metadata_and_names_follow_the_policy", run: metadata_and_names },
    Case { name: "a_second_name_from_before_the_start_does_not_help", run: second_name },
    Case { name: "a_directory_on_the_command_line_is_enforced", run: command_line },
    Case { name: "demo", run: demo },
];

/// Line 5 grants reading, 6 to 8 the rest, 9 denies.
const POLICY: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "./data"
read = ["**"]
write = ["out/**"]
create = ["out/**"]
delete = ["out/tmp-*"]
deny = ["**/*.pem", "secret/**"]
"#;

fn data(lab: &Lab) -> Result<Folder> {
    let folder = lab.folder()?;
    folder.file("data/in.csv", "a,1\n")?;
    folder.file("data/key.pem", "KEY")?;
    folder.file("data/secret/plan", "PLAN")?;
    folder.file("data/out/old", "old\n")?;
    folder.directory("data/empty")?;
    folder.file("policy.toml", POLICY)?;
    Ok(folder)
}

fn run(folder: &Folder, options: &[&str], operations: &[&str]) -> Result<Outcome> {
    let policy = folder.text("policy.toml");
    let mut words = vec!["run", "--policy", &policy];
    words.extend_from_slice(options);
    words.push("/guests/files.wasm");
    words.extend_from_slice(operations);
    guarded(&words).finish()
}

fn files(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let outcome = run(
        &folder,
        &[],
        &[
            "read",
            "/data/in.csv",
            "list",
            "/data/out",
            "make",
            "/data/out/new",
            "text",
            "append",
            "/data/out/old",
            "more\n",
            "mkdir",
            "/data/out/tmp-1",
            "rmdir",
            "/data/out/tmp-1",
            "read",
            "/data/key.pem",
            "read",
            "/data/secret/plan",
            "write",
            "/data/in.csv",
            "changed",
            "truncate",
            "/data/in.csv",
            "make",
            "/data/new",
            "text",
            "rmdir",
            "/data/empty",
            "unlink",
            "/data/out/old",
        ],
    )?;
    outcome.exits(0)?.is_quiet()?.prints(
        "read /data/in.csv: a,1\n\n\
         list /data/out: old\n\
         make /data/out/new: ok\n\
         append /data/out/old: ok\n\
         mkdir /data/out/tmp-1: ok\n\
         rmdir /data/out/tmp-1: ok\n\
         read /data/key.pem: EACCES\n\
         read /data/secret/plan: EACCES\n\
         write /data/in.csv: EACCES\n\
         truncate /data/in.csv: EACCES\n\
         make /data/new: EACCES\n\
         rmdir /data/empty: EACCES\n\
         unlink /data/out/old: EACCES\n",
    )?;
    let denied = |operation: &str, path: &str, wanted: &str, reason: &str| {
        json!({
            "operation": operation, "path": path, "preopen": "/data", "wanted": [wanted],
            "verdict": "denied", "reason": reason, "errno": "EACCES", "errno_number": 13,
            "mode": "enforce", "policy": folder.text("policy.toml"),
        })
    };
    let by_rule = |operation: &str, path: &str, text: &str, column: u32| {
        let mut record = denied(operation, path, "read", "deny_rule");
        record["rule"] = json!({ "kind": "deny", "text": text, "line": 9, "column": column });
        record
    };
    outcome.denials(&[
        by_rule("open", "/data/key.pem", "**/*.pem", 9),
        by_rule("open", "/data/secret/plan", "secret/**", 21),
        denied("open", "/data/in.csv", "write", "not_granted"),
        // Truncating an open file is asked for when it is opened.
        denied("open", "/data/in.csv", "write", "not_granted"),
        denied("create", "/data/new", "create", "not_granted"),
        denied("rmdir", "/data/empty", "delete", "not_granted"),
        denied("unlink", "/data/out/old", "delete", "not_granted"),
    ])?;
    folder.holds("data/in.csv", "a,1\n")?;
    folder.holds("data/out/old", "old\nmore\n")?;
    folder.holds("data/out/new", "text")?;
    ensure!(folder.path("data/empty").is_dir() && !folder.path("data/new").exists());
    Ok(())
}

/// The same guest, three times: it works where the policy lets it, is denied where it does not,
/// and works again. So it is the policy that denies, and nothing of it stays.
fn three_steps(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let directory = format!("{}::/data", folder.text("data"));
    let operations =
        ["read", "/data/key.pem", "write", "/data/in.csv", "x", "rmdir", "/data/empty"];
    let freely = || {
        let mut words = vec!["run", "--dir", &directory, "/guests/files.wasm"];
        words.extend_from_slice(&operations);
        guarded(&words).finish()
    };
    let works = "read /data/key.pem: KEY\nwrite /data/in.csv: ok\nrmdir /data/empty: ok\n";
    freely()?.exits(0)?.prints(works)?.denials(&[])?;
    folder.file("data/in.csv", "a,1\n")?;
    folder.directory("data/empty")?;
    let outcome = run(&folder, &[], &operations)?;
    outcome.exits(0)?.prints(
        "read /data/key.pem: EACCES\nwrite /data/in.csv: EACCES\nrmdir /data/empty: EACCES\n",
    )?;
    folder.holds("data/in.csv", "a,1\n")?;
    ensure!(outcome.of_kind("denial").len() == 3, "{outcome:?}");
    freely()?.exits(0)?.prints(works)?.denials(&[])?;
    Ok(())
}

fn metadata_and_names(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let outcome = run(
        &folder,
        &[],
        &[
            "stat",
            "/data/in.csv",
            "stat",
            "/data/secret/plan",
            "times",
            "/data/in.csv",
            "times",
            "/data/out/old",
            "rename",
            "/data/secret/plan",
            "/data/out/plan",
            "link",
            "/data/key.pem",
            "/data/out/tmp-key",
        ],
    )?;
    outcome.exits(0)?.prints(
        "stat /data/in.csv: ok\n\
         stat /data/secret/plan: EACCES\n\
         times /data/in.csv: EACCES\n\
         times /data/out/old: ok\n\
         rename /data/secret/plan: EACCES\n\
         link /data/key.pem: EACCES\n",
    )?;
    let rule = |text: &str| json!({ "kind": "deny", "text": text, "line": 9 });
    outcome.denials(&[
        json!({ "operation": "stat", "path": "/data/secret/plan", "rule": rule("secret/**") }),
        // WASI's way to set times: through a descriptor, then by name.
        json!({ "operation": "open", "path": "/data/in.csv", "wanted": ["write"] }),
        json!({ "operation": "setattr", "path": "/data/in.csv", "wanted": ["write"] }),
        json!({
            "operation": "rename", "path": "/data/secret/plan", "path2": "/data/out/plan",
            "denied": "path", "preopen": "/data", "preopen2": "/data", "rule": rule("secret/**"),
        }),
        json!({ "operation": "link", "path": "/data/key.pem", "path2": "/data/out/tmp-key" }),
    ])?;
    folder.holds("data/secret/plan", "PLAN")?;
    ensure!(!folder.path("data/out/plan").exists() && !folder.path("data/out/tmp-key").exists());
    Ok(())
}

/// Works without the policy, is denied under it, and works again.
fn second_name(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    fs::hard_link(folder.path("data/key.pem"), folder.path("data/out/innocent"))?;
    let operations = ["read", "/data/out/innocent", "read", "/data/out/old"];
    let directory = format!("{}::/data", folder.text("data"));
    let freely = || {
        let mut words = vec!["run", "--dir", &directory, "/guests/files.wasm"];
        words.extend_from_slice(&operations);
        let works = "read /data/out/innocent: KEY\nread /data/out/old: old\n\n";
        guarded(&words).finish()?.exits(0)?.prints(works)?.denials(&[]).map(drop)
    };
    freely()?;
    let outcome = run(&folder, &[], &operations)?;
    outcome.exits(0)?.prints("read /data/out/innocent: EACCES\nread /data/out/old: old\n\n")?;
    let rule = json!({ "kind": "deny", "text": "**/*.pem", "line": 9 });
    outcome.denials(&[json!({
        "operation": "open", "path": "/data/out/innocent", "reason": "linked_name",
        "wanted": ["read"], "rule": rule,
    })])?;
    freely()
}

/// `--dir` is a policy: all below it, nothing beside it. WASI says so first; that the kernel does
/// so as well is shown without WASI's checks, in the next family.
fn command_line(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    folder.file("outside", "OUTSIDE")?;
    fs::hard_link(folder.path("outside"), folder.path("outside-too"))?;
    let mut program = guarded(&[
        "run",
        "--dir",
        "data::/d",
        "/guests/files.wasm",
        "read",
        "/d/key.pem",
        "make",
        "/d/new",
        "text",
        "unlink",
        "/d/new",
        "read",
        "/d/../outside",
        "read",
        "/outside",
    ]);
    program.command.current_dir(folder.path(""));
    let outcome = program.finish()?;
    outcome.exits(0)?.denials(&[])?;
    let (works, denied) = outcome.stdout.split_at(outcome.stdout.find("read /d/..").unwrap_or(0));
    ensure!(works == "read /d/key.pem: KEY\nmake /d/new: ok\nunlink /d/new: ok\n", "{outcome:?}");
    ensure!(denied.lines().count() == 2 && !denied.contains("OUTSIDE"), "{outcome:?}");
    let policy = guarded(&["run", "--dir", &folder.text("missing"), "/guests/hello.wasm"]);
    policy.finish()?.refuses("open the directories of --dir", "existing directories")?;
    Ok(())
}

/// The guest of `cargo xtask demo` under its policy. The demo itself checks every line.
fn demo(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = folder.file("demo.toml", fs::read("/policies/demo.toml")?)?;
    folder.file("demo-data/in.csv", "a,1\n")?;
    folder.file("demo-data/keys/server.pem", "KEY")?;
    folder.file("demo-data/secret/plan.txt", "PLAN")?;
    folder.directory("demo-data/out")?;
    folder.directory("demo-data/archive")?;
    let outcome = guarded(&["run", "--policy", &policy, "/guests/demo.wasm"]).finish()?;
    outcome.exits(0)?;
    for line in [
        "read /data/in.csv: ok",
        "create /data/out/report.txt: ok",
        "read /data/keys/server.pem: EACCES",
        "read /data/secret/plan.txt: EACCES",
        "rmdir /data/archive: EACCES",
    ] {
        ensure!(outcome.stdout.lines().any(|it| it == line), "expected {line:?}: {outcome:?}");
    }
    ensure!(folder.path("demo-data/archive").is_dir());
    Ok(())
}
