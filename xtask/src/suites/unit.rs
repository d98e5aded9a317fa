//! `cargo test` for the whole workspace, with its results counted.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::{Context, Counts};
use crate::host::{self, Task};

pub(super) fn run(context: &Context) -> Result<Counts> {
    // The broker's tests compile objects with the compiler of the guests.
    host::ensure(&[Task::Unit, Task::Guests])?;
    let mut command = context.project.cargo(["test", "--release", "--workspace", "--no-fail-fast"]);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut counts = Counts::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read what cargo test prints")?;
        println!("{line}");
        if line.starts_with("test ") && line.ends_with(" ... FAILED") {
            context.keep_failure("unit", &line);
        }
        if let Some(result) = result_line(&line) {
            counts.add(result);
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() && counts.failed == 0 {
        // It did not compile, or a test program crashed.
        let line = format!("cargo test: {status}");
        println!("FAILED {line}");
        context.keep_failure("unit", &line);
        counts.failed = 1;
    }
    Ok(counts)
}

/// Reads "test result: ok. 3 passed; 0 failed; 1 ignored; ...". An ignored test did not pass: it
/// counts as failed.
fn result_line(line: &str) -> Option<Counts> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let (_, rest) = rest.split_once(". ")?;
    let mut counts = Counts::default();
    for part in rest.split("; ") {
        let (number, what) = part.split_once(' ')?;
        match what {
            "passed" => counts.passed += number.parse::<u64>().ok()?,
            "failed" | "ignored" => counts.failed += number.parse::<u64>().ok()?,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_ignored_tests_are_no_passes() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; \
                    4 filtered out; finished in 0.00s";
        assert_eq!(result_line(line), Some(Counts { passed: 3, failed: 3 }));
        assert_eq!(result_line("test result: nothing"), None);
        assert_eq!(result_line("test a::b ... ok"), None);
    }
}
