//! `wasi-guard policy test`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use wasi_guard_policy::{Assertions, render_all};

use super::super::policy::{known_addresses, read_source};
use super::super::report::printable;
use super::super::{PolicyFile, Result, exit, output};
use crate::supervisor::Error;

const ABOUT: &str = "\
Hold a policy against what you expect of it.

FILE is TOML: `policy` names the policy, seen from FILE; `expect.allow` and `expect.deny` list \
attempts. An attempt is a list of strings, the words of `wasi-guard explain` after the policy: an \
operation and its object, for renames and links two. The policy's text alone is asked, nothing on the \
host is looked at but the addresses of host names in network rules.

Each assertion that fails is a line with its place and what decided; the last line counts.";

const EXAMPLES: &str = "\
Examples:
  wasi-guard policy test app.test.toml

  # app.test.toml
  policy = \"app.toml\"
  [expect]
  allow = [
      [\"read\", \"/data/in.csv\"],
      [\"rename\", \"/data/out/tmp-1\", \"/data/out/1\"],
      [\"connect\", \"10.0.0.7:5432\"],
  ]
  deny = [[\"read\", \"/data/keys/server.pem\"]]

Exit status:
  0    every assertion holds
  1    at least one does not
  125  nothing could be tested: FILE or the policy cannot be read or has errors";

/// `wasi-guard policy test`.
#[derive(Debug, clap::Args)]
#[command(about = "Hold a policy against what you expect of it", long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// File of assertions
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let source = read_source(&args.file, "file of assertions")?;
    let refused = |diagnostics: Vec<_>| Error::rendered(render_all(&diagnostics, &source));
    let assertions = Assertions::load(&source).map_err(refused)?;
    let file = PolicyFile::read(&args.file.with_file_name(&assertions.policy))?;
    let (policy, _) = file.load_or_refuse()?;
    let policy = file.on_host(policy)?;
    let questions: Vec<_> = assertions.list.iter().map(|it| it.question.clone()).collect();
    let addresses = known_addresses(&policy, &questions);
    let answers = assertions.answers(&source, &policy, &addresses).map_err(refused)?;
    let mut text = String::new();
    let mut failed = 0;
    for (assertion, answer) in assertions.list.iter().zip(&answers) {
        if assertion.allowed == answer.verdict.allowed {
            continue;
        }
        failed += 1;
        let line = format!(
            "{}:{}:{}: {assertion}: expected to be {}, is {}",
            source.name,
            assertion.line,
            assertion.column,
            if assertion.allowed { "allowed" } else { "denied" },
            answer.summary()
        );
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", printable(&line));
    }
    let passed = answers.len() - failed;
    let _ = writeln!(text, "{passed} passed, {failed} failed");
    output::print(&text)?;
    Ok(if failed == 0 { exit::ok() } else { exit::no() })
}
