//! What `cargo xtask demo` shows: two guests under policies/demo.toml, what they try, what the
//! kernel says, and whether that is what the policy says.
//!
//! Runs as root on a machine that can attach BPF LSM programs, in a folder that holds `policies/`
//! and `guests/`, with `wasi-guard` on PATH. Each attempt is looked at from four sides: what the
//! guest was told, the audit records, what the policy says about it
//! ([`wasi_guard_policy::explain`]), and what is on the disk and on the sockets afterwards. Ends
//! with 0 if they agree, with 1 if they do not, with 2 if the demo could not run.

mod attempts;
mod place;
mod report;

use std::{fs, path::Path, process::Command, process::ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use attempts::{Attempt, FILES, SOCKETS};
use wasi_guard_policy::{Policy, Source};

const POLICY: &str = "policies/demo.toml";
const AUDIT: &str = "audit.jsonl";
const FILES_GUEST: &str = "guests/demo.wasm";
const SOCKETS_GUEST: &str = "guests/connect.wat";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("run-demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let text = fs::read(POLICY).with_context(|| format!("cannot read {POLICY}"))?;
    let source = Source::new(POLICY, text);
    let (policy, _) = wasi_guard_policy::load(&source)
        .map_err(|found| anyhow::anyhow!(wasi_guard_policy::render_all(&found, &source)))?;
    let place = place::Place::make()?;
    clear_audit()?;

    println!(
        "The guests tests/guests/demo.c and connect.wat try what the table below shows, under"
    );
    println!("{POLICY}. The first start loads the BPF programs, which takes a moment.\n");
    let told = files(FILES)?;
    let mut rows = report::rows(&policy, FILES, &told, &denials()?)?;
    clear_audit()?;
    let told = sockets(SOCKETS)?;
    rows.extend(report::rows(&policy, SOCKETS, &told, &denials()?)?);

    report::print(&rows);
    let mut wrong = report::disagreements(&rows);
    wrong.extend(place.differences()?);
    Ok(conclude(&policy, rows.len(), &wrong))
}

fn conclude(policy: &Policy, attempts: usize, wrong: &[String]) -> bool {
    println!();
    for line in wrong {
        println!("WRONG: {line}");
    }
    if wrong.is_empty() {
        println!(
            "{attempts} attempts under {} rules: in each, the kernel did what the policy says.",
            policy.rules.len()
        );
    } else {
        println!("The kernel did not do what the policy says: please report it, see SECURITY.md.");
    }
    wrong.is_empty()
}

/// Runs the guest that works on files; what it was told about each attempt.
fn files(attempts: &[Attempt]) -> Result<Vec<String>> {
    let said = wasi_guard(FILES_GUEST)?;
    let mut lines = said.lines();
    let mut told = Vec::new();
    for attempt in attempts {
        let line = lines.next().unwrap_or_default();
        let answer = line.strip_prefix(&format!("{attempt}: "));
        let answer = answer.with_context(|| {
            format!("{FILES_GUEST} and run-demo disagree: `{line}` instead of `{attempt}`")
        })?;
        told.push(answer.to_owned());
    }
    ensure!(lines.next().is_none(), "{FILES_GUEST} tries more than run-demo knows");
    Ok(told)
}

/// Runs the guest that connects, which prints a letter for each attempt.
fn sockets(attempts: &[Attempt]) -> Result<Vec<String>> {
    let said = wasi_guard(SOCKETS_GUEST)?;
    ensure!(
        said.trim().len() == attempts.len(),
        "{SOCKETS_GUEST} printed `{said}`, not a letter for each attempt"
    );
    let answer = |letter| match letter {
        '+' => report::OK.to_owned(),
        'b' => report::DENIED.to_owned(),
        other => format!("error `{other}` of wasi:sockets"),
    };
    Ok(said.trim().chars().map(answer).collect())
}

/// Runs a guest to its end; what it printed.
fn wasi_guard(guest: &str) -> Result<String> {
    let arguments = ["run", "--policy", POLICY, "--audit", AUDIT, guest];
    println!("  wasi-guard {}", arguments.join(" "));
    let output = Command::new("wasi-guard")
        .args(arguments)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot start wasi-guard")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        bail!("wasi-guard ended with {}; the guest printed: {said}", output.status);
    }
    String::from_utf8(output.stdout).context("the guest printed what is not UTF-8")
}

fn clear_audit() -> Result<()> {
    if Path::new(AUDIT).exists() {
        fs::remove_file(AUDIT).with_context(|| format!("cannot remove {AUDIT}"))?;
    }
    Ok(())
}

/// The audit's denials. Fails if records were lost: then it says nothing about what is not in it.
fn denials() -> Result<Vec<serde_json::Value>> {
    let text = fs::read_to_string(AUDIT).with_context(|| format!("cannot read {AUDIT}"))?;
    let records = text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<Vec<serde_json::Value>, _>>()
        .with_context(|| format!("{AUDIT} has a line that is not JSON"))?;
    let of_kind = |kind: &'static str| records.iter().filter(move |r| r["record"] == kind);
    let end = of_kind("end").next().with_context(|| format!("{AUDIT} has no `end` record"))?;
    ensure!(end["lost"] == 0 && end["unwritten"] == 0, "{AUDIT} lacks records: {end}");
    Ok(of_kind("denial").cloned().collect())
}
