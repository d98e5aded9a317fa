//! Another policy for a guest that runs.

mod load;
mod scope;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::Case;
use crate::lab::{Folder, Lab};
use crate::program::{Live, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "reload_denies_and_allows_again", run: by_command },
    Case { name: "reload_by_sighup_does_the_same", run: by_signal },
    Case { name: "reload_of_a_bad_policy_leaves_the_old_one", run: refused },
    Case { name: "reload_leaves_open_descriptors", run: scope::open_descriptor },
    Case { name: "reload_grants_writing_where_nothing_was_written", run: scope::wider },
    Case { name: "reload_replaces_options_of_the_command_line", run: scope::options },
    Case { name: "reload_leaves_older_records_their_lines", run: load::older_records },
    Case { name: "reload_under_load_names_the_right_rules", run: load::under_load },
    Case { name: "reload_looks_for_other_names", run: scope::other_names },
    Case { name: "reload_moves_the_audit", run: scope::audit_file },
    Case { name: "reload_sets_limits", run: scope::limits },
    Case { name: "reload_is_not_disturbed_by_bad_clients", run: load::bad_clients },
];

/// Line 5 grants reading everything.
const OPEN: &str =
    "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \"./data\"\nread = [\"**\"]\n";
/// As [`OPEN`], with a rule in line 8, its second one, that denies `secret`.
const CLOSED: &str = "# closed\nversion = 1\n\n[[preopen]]\nguest = \"/data\"\nhost = \"./data\"\n\
                      read = [\"**\"]\ndeny = [\"other\", \"secret\"]\n";

fn data(lab: &Lab) -> Result<Folder> {
    let folder = lab.folder()?;
    folder.file("data/in", "IN")?;
    folder.file("data/secret", "SECRET")?;
    folder.file("open.toml", OPEN)?;
    folder.file("closed.toml", CLOSED)?;
    folder.file("policy.toml", OPEN)?;
    Ok(folder)
}

/// Starts a guest under a policy; it does these operations.
pub(super) fn start(folder: &Folder, policy: &str, operations: &[&str]) -> Result<Live> {
    let policy = folder.text(policy);
    let words = [&["run", "--policy", &policy, "/guests/files.wasm"], operations].concat();
    guarded(&words).start()
}

/// Reloads; the policy is accepted.
pub(super) fn reload(live: &Live, folder: &Folder, policy: &str) -> Result<()> {
    let path = folder.text(policy);
    let outcome = guarded(&["policy", "reload", &live.guest(), &path]).finish()?;
    outcome.exits(0)?.is_quiet()?;
    let expected = format!("{}: {path} is in force\n", live.guest());
    ensure!(outcome.stdout.starts_with(&expected), "{outcome:?}");
    Ok(())
}

/// Overwrites the policy of `--policy` and sends SIGHUP.
fn hang_up(live: &Live, folder: &Folder, text: &str) -> Result<()> {
    folder.file("policy.toml", text)?;
    live.signal(Signal::HUP)
}

const READ_THREE_TIMES: [&str; 10] = [
    "read",
    "/data/secret",
    "pause",
    "1",
    "read",
    "/data/secret",
    "pause",
    "2",
    "read",
    "/data/secret",
];
const READ_ONCE_DENIED: &str = "read /data/secret: SECRET\npause 1: ok\nread /data/secret: EACCES\n\
                                pause 2: ok\nread /data/secret: SECRET\n";

fn denied_by(folder: &Folder, policy: &str) -> Value {
    json!({
        "operation": "open", "path": "/data/secret", "reason": "deny_rule",
        "policy": folder.text(policy),
        "rule": { "number": 3, "kind": "deny", "text": "secret", "line": 8, "column": 18 },
    })
}

fn by_command(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let mut live = start(&folder, "policy.toml", &READ_THREE_TIMES)?;
    live.wait_for("read /data/secret: SECRET")?;
    reload(&live, &folder, "closed.toml")?;
    live.go_on()?;
    live.wait_for("EACCES")?;
    reload(&live, &folder, "open.toml")?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints(READ_ONCE_DENIED)?.is_quiet()?;
    outcome.denials(&[denied_by(&folder, "closed.toml")])?;
    let reloads = outcome.of_kind("reload");
    let [closed, open] = &reloads[..] else { bail!("two reloads: {outcome:?}") };
    let start = outcome.of_kind("start")[0];
    let (denial, end) = (outcome.of_kind("denial")[0], outcome.of_kind("end")[0]);
    ensure!(closed["by"] == "command" && open["by"] == "command", "{outcome:?}");
    ensure!(closed["policy"] == folder.text("closed.toml"), "{closed}");
    ensure!(closed["previous_policy"] == folder.text("policy.toml"), "{closed}");
    ensure!(closed["previous_digest"] == start["policy_digest"], "{closed}");
    ensure!(closed["policy_digest"] == denial["policy_digest"], "{closed} {denial}");
    ensure!(closed["policy_digest"] != start["policy_digest"], "{closed}");
    // The same text under another name.
    ensure!(open["policy_digest"] == start["policy_digest"], "{open}");
    ensure!(end["policy"] == folder.text("open.toml"), "{end}");
    Ok(())
}

fn by_signal(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let mut live = start(&folder, "policy.toml", &READ_THREE_TIMES)?;
    live.wait_for("read /data/secret: SECRET")?;
    hang_up(&live, &folder, CLOSED)?;
    live.wait_for_records("reload", 1)?;
    live.go_on()?;
    live.wait_for("EACCES")?;
    hang_up(&live, &folder, OPEN)?;
    live.wait_for_records("reload", 2)?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints(READ_ONCE_DENIED)?.is_quiet()?;
    outcome.denials(&[denied_by(&folder, "policy.toml")])?;
    let reloads = outcome.of_kind("reload");
    ensure!(reloads.len() == 2 && reloads.iter().all(|it| it["by"] == "signal"), "{outcome:?}");
    Ok(())
}

/// Whoever asks is told, as `check` would, and so is the audit.
fn refused(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let operations = ["read", "/data/in", "pause", "1", "read", "/data/secret"];
    let mut live = start(&folder, "closed.toml", &operations)?;
    live.wait_for("read /data/in: IN")?;
    let bad = folder.file("bad.toml", "version = 1\nmoed = \"audit\"\n")?;
    let outcome = guarded(&["policy", "reload", &live.guest(), &bad]).finish()?;
    outcome.exits(1)?.prints("")?.says("bad.toml:2:1")?.says("stays in force")?;
    let watching = folder.file("watching.toml", format!("mode = \"audit\"\n{OPEN}"))?;
    let outcome = guarded(&["policy", "reload", &live.guest(), &watching]).finish()?;
    outcome.exits(1)?.says("mode: enforce at the start, audit now")?.says("hint: ")?;
    // The file of `--policy`, which is not the one that is named `policy.toml` here.
    folder.file("closed.toml", "version = 2\n")?;
    live.signal(Signal::HUP)?;
    live.wait_for_records("reload_refused", 3)?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints("read /data/in: IN\npause 1: ok\nread /data/secret: EACCES\n")?;
    outcome.says("closed.toml:1:")?.says("stays in force")?;
    outcome.denials(&[denied_by(&folder, "closed.toml")])?;
    ensure!(outcome.of_kind("reload").is_empty(), "{outcome:?}");
    let told = outcome.of_kind("reload_refused");
    for (record, (by, offered, word)) in told.iter().zip([
        ("command", "bad.toml", "moed"),
        ("command", "watching.toml", "mode: enforce"),
        ("signal", "closed.toml", "version"),
    ]) {
        ensure!(record["by"] == by && record["offered"] == folder.text(offered), "{record}");
        let error = record["error"].as_str().context("an error")?;
        ensure!(error.contains(word), "{error}");
    }
    let outcome = guarded(&["policy", "reload", "guest-1-99", &bad]).finish()?;
    outcome.exits(125)?.says("reach the supervisor of guest-1-99")?.says("hint: no guest runs")?;
    Ok(())
}
