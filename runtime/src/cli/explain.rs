//! `wasi-guard explain`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use wasi_guard_abi::operation::Operation;
use wasi_guard_policy::Rule;
use wasi_guard_policy::explain::{ExplainError, Question, explain};

use super::policy::known_addresses;
use super::report::printable;
use super::{PolicyFile, Result, exit, output};
use crate::supervisor::Error;

/// The operations come from the kernel side's list.
fn about() -> String {
    let words = |never: bool| {
        let chosen = Operation::EVERY.iter().filter(|it| it.is_never_granted() == never);
        chosen.map(|operation| operation.name()).collect::<Vec<_>>().join(", ")
    };
    format!(
        "\
Tell what a policy says about one operation, and which line decides.

OP is an operation as audit records name it: {}. Also read and write (open with that access), \
rename_dir (of a directory), replace (rename to the name of an existing file) and exchange (of two \
names). OBJECT is a path of the guest, or for network operations an address and port; renames and \
link take a second path, the new name. Of the host is looked at only which preopens are single files: symbolic links \
are not followed.

No policy can grant, and no object is given to: {}.

Also tells what would hold without the line that decides.",
        words(false),
        words(true)
    )
}

const EXAMPLES: &str = "\
Examples:
  wasi-guard explain app.toml read /data/in.csv
  wasi-guard explain app.toml rename /data/out/tmp-1 /data/out/1
  wasi-guard explain app.toml connect 10.0.0.7:5432
  wasi-guard explain app.toml send udp://192.0.2.1:53

Exit status:
  0    allowed
  1    denied
  125  the question has no answer: bad policy, unknown operation, bad path";

/// `wasi-guard explain`.
#[derive(Debug, clap::Args)]
#[command(about = "Tell what a policy says about one operation, and which line decides", long_about = about(), after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Policy file
    policy: PathBuf,

    /// The operation
    #[arg(value_name = "OP")]
    operation: String,

    /// A path of the guest, or [tcp://|udp://]ADDRESS:PORT; nothing for what no policy can grant
    #[arg(value_name = "OBJECT")]
    object: Option<OsString>,

    /// The new name, for renames and link
    #[arg(value_name = "NEW")]
    second: Option<OsString>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let file = PolicyFile::read(&args.policy)?;
    let (policy, _) = file.load_or_refuse()?;
    let policy = file.on_host(policy)?;
    let question = question(args);
    let addresses = known_addresses(&policy, std::slice::from_ref(&question));
    let answer = explain(&policy, &addresses, &question).map_err(refused)?;
    let mut text = format!("{answer}\n");
    if let Some(rule) = &answer.rule {
        text.push_str(&source_line(&file, rule));
    }
    output::print(&text)?;
    Ok(if answer.verdict.allowed { exit::ok() } else { exit::no() })
}

fn question(args: &Args) -> Question {
    let objects = args.object.iter().chain(&args.second);
    Question::new(args.operation.clone(), objects.map(|object| object.clone().into_vec()))
}

fn refused(error: ExplainError) -> Error {
    let hint = match &error {
        ExplainError::Operation { .. } => "`wasi-guard explain --help` tells what each takes",
        ExplainError::Missing { .. } => {
            "name a path of the guest, or an address and port; rename and link take two paths"
        }
        ExplainError::TooMany { .. } => {
            "rename and link take two objects; what no policy can grant takes none"
        }
        ExplainError::Path { .. } => "write the guest's path from its root, without `..`",
        ExplainError::Address { .. } | ExplainError::NotSingle { .. } => {
            "write one address and port, as in 10.0.0.1:443 or udp://[::1]:53"
        }
    };
    Error::step("ask the policy", error).hint(hint)
}

/// The line of the policy on which a rule stands.
fn source_line(file: &PolicyFile, rule: &Rule) -> String {
    let wasi_guard_policy::Origin::Policy { line, column } = rule.origin else {
        return String::new();
    };
    let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let bytes = file.source.bytes.split(|byte| *byte == b'\n').nth(index).unwrap_or_default();
    let text = printable(String::from_utf8_lossy(bytes).trim_end());
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let indent = " ".repeat(usize::try_from(column).unwrap_or(1).saturating_sub(1));
    // The rule's text and its quotes.
    let carets = "^".repeat(rule.text.chars().count() + 2);
    let mut out = String::new();
    let _ = write!(
        out,
        "{gutter}--> {}:{line}:{column}\n{gutter} |\n{number} | {text}\n{gutter} | {indent}{carets}\n",
        file.source.name
    );
    out
}
