//! The policy bench: size of the table and time to compile for 10, 100 and 1,000 rules, and for
//! 10,000 rules about one file each beside 100 patterns, which must take less than a second.
//!
//! Runs on any host. Prints one JSON object a line.

use std::{fmt::Write as _, process::ExitCode, time::Instant};

use anyhow::{Result, anyhow, ensure};
use wasi_guard_policy::{Addresses, Source};
use wasi_guard_tests::{report, single_files};

const RULES: [usize; 3] = [10, 100, 1000];
/// Compilations, of which the fastest counts.
const RUNS: usize = 3;
/// Milliseconds that the largest policy may take.
const MOST: f64 = 1000.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("policy-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    for rules in RULES {
        measure(&format!("{rules} rules"), &text(rules), rules)?;
    }
    let rules = single_files::FILES + single_files::PATTERNS;
    let granting =
        measure("10,000 granted files and 100 patterns", &single_files::policy(), rules)?;
    // One more: what is not denied may be read.
    let denying =
        measure("10,000 denied files and 100 patterns", &single_files::denials(), rules + 1)?;
    let most = granting.max(denying);
    ensure!(most < MOST, "the largest policy takes {most} ms, not less than {MOST}");
    Ok(())
}

/// Prints size and time of a policy of so many rules; gives the time in milliseconds.
fn measure(name: &str, text: &str, rules: usize) -> Result<f64> {
    let source = Source::new("bench", text);
    let mut fastest = f64::INFINITY;
    let mut sizes = [0; 2];
    for _ in 0..RUNS {
        let start = Instant::now();
        let (policy, _) = wasi_guard_policy::load(&source)
            .map_err(|problems| anyhow!("{}", wasi_guard_policy::render_all(&problems, &source)))?;
        let table = wasi_guard_policy::compile(&policy, &Addresses::new())?;
        fastest = fastest.min(start.elapsed().as_secs_f64() * 1000.0);
        ensure!(policy.rules.len() == rules, "{} rules, not {rules}", policy.rules.len());
        sizes = [table.bytes().len(), table.stats().verdict_bytes];
    }
    for (what, bytes) in [("table", sizes[0]), ("verdicts", sizes[1])] {
        report::print(&[("policy", name), ("what", what)], bytes as f64, "bytes");
    }
    let time = (fastest * 100.0).round() / 100.0;
    report::print(&[("policy", name), ("what", "parse and compile")], time, "ms");
    Ok(fastest)
}

/// A policy as a host of many services has it: each has a directory to read, a queue to work on,
/// a log to create, and something in it that is denied.
fn text(rules: usize) -> String {
    let mut text = String::from("version = 1\n[[preopen]]\nguest = \"/\"\nhost = \"host\"\n");
    let services = rules / 5;
    let lists: [(&str, &dyn Fn(usize) -> String); 5] = [
        ("read", &|n| format!("services/s{n}/**/*.html")),
        ("write", &|n| format!("queues/s{n}/busy/**")),
        ("create", &|n| format!("logs/s{n}-*.log")),
        ("delete", &|n| format!("queues/s{n}/done/*")),
        ("deny", &|n| format!("services/s{n}/private/**")),
    ];
    for (key, pattern) in lists {
        let patterns: String =
            (0..services).map(|n| format!("    \"{}\",\n", pattern(n))).collect();
        let _ = write!(text, "{key} = [\n{patterns}]\n");
    }
    text
}
