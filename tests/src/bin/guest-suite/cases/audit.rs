//! Where records go, and what happens to those that find no room.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, symlink};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use crate::Case;
use crate::expect;
use crate::lab::{Folder, Lab};
use crate::program::{guarded, parse, read_all};

pub(super) const CASES: &[Case] = &[
    Case { name: "audit_mode_records_and_lets_pass", run: audit_mode },
    Case { name: "audit_to_a_file", run: to_a_file },
    Case { name: "audit_to_a_descriptor", run: to_a_descriptor },
    Case { name: "audit_on_a_full_disk", run: full_disk },
    Case { name: "lost_records_are_counted_and_told", run: lost_records },
];

pub(super) const DEBUG_LOG: &[Case] = &[Case { name: "bpf_log_prints_lines", run: bpf_log }];

const POLICY: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "./data"
read = ["in"]
[audit]
ring = "4KiB"
"#;

fn data(lab: &Lab) -> Result<Folder> {
    let folder = lab.folder()?;
    folder.file("data/in", "IN")?;
    folder.file("data/other", "OTHER")?;
    folder.file("policy.toml", POLICY)?;
    Ok(folder)
}

const OPERATIONS: [&str; 5] = ["/guests/files.wasm", "read", "/data/in", "read", "/data/other"];

fn words<'a>(policy: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--policy", policy], options, &OPERATIONS].concat()
}

const DENIED: &str = "read /data/in: IN\nread /data/other: EACCES\n";

fn audit_mode(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let policy = folder.text("policy.toml");
    let outcome = guarded(&words(&policy, &["--mode", "audit"])).finish()?;
    // WASI looks at what it has opened.
    let would_deny = ["open", "stat"].map(|operation| {
        json!({
            "operation": operation, "path": "/data/other", "mode": "audit",
            "verdict": "would_deny", "reason": "not_granted", "errno": null, "errno_number": null,
        })
    });
    let passed = "read /data/in: IN\nread /data/other: OTHER\n";
    outcome.exits(0)?.prints(passed)?.denials(&would_deny)?;
    let start = outcome.of_kind("start")[0];
    let layers = start["layers"].to_string();
    ensure!(layers.contains("seccomp-log") && !layers.contains("landlock"), "{layers}");
    // The same in the policy itself.
    let itself = folder.file("audit.toml", format!("mode = \"audit\"\n{POLICY}"))?;
    let outcome = guarded(&words(&itself, &[])).finish()?;
    outcome.exits(0)?.prints(passed)?.denials(&would_deny)?;
    // And beaten by the option.
    let outcome = guarded(&words(&itself, &["--mode", "enforce"])).finish()?;
    outcome.exits(0)?.prints(DENIED)?.denials(&[json!({ "verdict": "denied" })])?;
    Ok(())
}

/// The lines of whole audits, one denial each.
fn check_lines(text: &str, runs: usize) -> Result<()> {
    let records = parse(text)?;
    let parts: Vec<&[serde_json::Value]> = records.chunks(3).collect();
    ensure!(parts.len() == runs, "{runs} audits: {text}");
    for part in parts {
        let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
        expect::audit(part, first, last).with_context(|| text.to_owned())?;
    }
    Ok(())
}

fn to_a_file(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let policy = folder.text("policy.toml");
    let file = folder.text("audit.jsonl");
    for runs in 1..=2 {
        let outcome = guarded(&words(&policy, &["--audit", &file])).finish()?;
        outcome.exits(0)?.prints(DENIED)?.is_quiet()?;
        ensure!(outcome.records.is_empty(), "no records on stderr: {outcome:?}");
        check_lines(&folder.read("audit.jsonl")?, runs)?;
    }
    ensure!(fs::metadata(&file)?.mode() & 0o777 == 0o600, "it is its owner's alone");
    // In the policy, beside which it lies.
    let itself = folder.file("file.toml", format!("{POLICY}file = \"beside.jsonl\"\n"))?;
    guarded(&words(&itself, &[])).finish()?.exits(0)?.is_quiet()?;
    check_lines(&folder.read("beside.jsonl")?, 1)?;
    // A link could lead a record into another file.
    folder.file("target", "")?;
    symlink(folder.path("target"), folder.path("link"))?;
    let outcome = guarded(&words(&policy, &["--audit", &folder.text("link")])).finish()?;
    outcome.exits(125)?.prints("")?.says("open the audit file")?;
    folder.holds("target", "")?;
    Ok(())
}

fn to_a_descriptor(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let policy = folder.text("policy.toml");
    // Descriptor 0, because `Command` can hand over no other besides 1 and 2. The guest's stdin is
    // that file then, which it does not read.
    let (path, outcome) = {
        let mut program = guarded(&words(&policy, &["--audit-fd", "0"]));
        let path = folder.path("records");
        program.command.stdin(File::create_new(&path)?);
        (path, program.finish()?)
    };
    outcome.exits(0)?.prints(DENIED)?.is_quiet()?;
    ensure!(outcome.records.is_empty(), "no records on stderr: {outcome:?}");
    check_lines(&read_all(File::open(path)?)?, 1)?;
    let outcome = guarded(&words(&policy, &["--audit-fd", "77"])).finish()?;
    outcome.refuses("write audit records to descriptor 77", "open it in the shell")?;
    Ok(())
}

/// The guest is denied what it is denied, and the trouble is told, once, with a count.
fn full_disk(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let policy = folder.text("policy.toml");
    let outcome = guarded(&words(&policy, &["--audit", "/dev/full"])).finish()?;
    outcome.exits(0)?.prints(DENIED)?.says("an audit record is lost")?;
    outcome.says("3 audit records could not be written")?;
    Ok(())
}

/// The supervisor stands still while the guest is denied so often that the smallest buffer is
/// full. Each denial stays one; what found no room is counted.
fn lost_records(lab: &Lab) -> Result<()> {
    const TIMES: u64 = 300;
    let folder = data(lab)?;
    let policy = folder.text("policy.toml");
    let times = TIMES.to_string();
    let guest = ["/guests/files.wasm", "read", "/data/in", "flood", "/data/other", &times];
    let mut live = guarded(&[&["run", "--policy", &policy], &guest[..]].concat()).start()?;
    live.wait_for("read /data/in: IN")?;
    live.signal(Signal::STOP)?;
    live.stdin.as_mut().context("stdin")?.write_all(b"x")?;
    live.wait_for("flood /data/other: ")?;
    live.signal(Signal::CONT)?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints(&format!("read /data/in: IN\nflood /data/other: {TIMES} denied\n"))?;
    let end = outcome.of_kind("end")[0];
    ensure!(end["denied"] == TIMES, "each was counted: {end}");
    ensure!(end["lost"].as_u64().is_some_and(|lost| lost > 0 && lost < TIMES), "some lost: {end}");
    ensure!(outcome.of_kind("loss").len() == 1, "{outcome:?}");
    Ok(())
}

/// The programs with the log are another set, loaded beside the usual one.
fn bpf_log(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let policy = folder.text("policy.toml");
    let outcome = guarded(&words(&policy, &["--bpf-log"])).finish()?;
    outcome.exits(0)?.prints(DENIED)?;
    let denied = [json!({ "operation": "open", "path": "/data/other", "verdict": "denied" })];
    outcome.denials(&denied)?;
    // The walk that led to each verdict: for the file that may be read, and for the other.
    let lines: Vec<&str> = outcome.says.lines().filter(|it| it.starts_with("bpf: ")).collect();
    let verdicts = lines.iter().filter(|line| line.contains(" rights ")).count();
    ensure!(verdicts >= 2, "the log has no verdicts: {outcome:?}");
    let silent = guarded(&words(&policy, &[])).finish()?;
    silent.exits(0)?.prints(DENIED)?.is_quiet()?;
    Ok(())
}
