//! `wasi-guard explain`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use wasi_guard_abi::operation::Operation;
use wasi_guard_policy::explain::{ExplainError, Question, explain};
use wasi_guard_policy::{Addresses, Policy, Rule};

use super::policy::addresses;
use super::report::{self, printable};
use super::{PolicyFile, Result, exit, output};
use crate::supervisor::Error;

const ABOUT: &str = "\
Tell what a policy says about one operation, and which line decides.

OP is read, write, or an operation as audit records name it: open, truncate, create, mkdir, rmdir, \
unlink, rename, link, symlink, stat, setattr, readlink, getxattr, setxattr, socket_create, connect, \
bind, listen, send, or one that no policy can grant, as exec or ptrace. OBJECT is a path of the guest, or for network operations an address and port; rename and link \
take a second path, the new name. Nothing on the host is looked at: symbolic links are not followed, \
and a rename is taken to be a file's, to a name that is free.";

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
#[command(about = "Tell what a policy says about one operation, and which line decides", long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Policy file
    policy: PathBuf,

    /// The operation
    #[arg(value_name = "OP")]
    operation: String,

    /// A path of the guest, or [tcp://|udp://]ADDRESS:PORT; nothing for what no policy can grant
    #[arg(value_name = "OBJECT")]
    object: Option<OsString>,

    /// The new name, for rename and link
    #[arg(value_name = "NEW")]
    second: Option<OsString>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let file = PolicyFile::read(&args.policy)?;
    let (policy, _) = file.load_or_refuse()?;
    let question = question(args)?;
    let addresses = known_addresses(&policy, &question);
    let answer = explain(&policy, &addresses, &question).map_err(refused)?;
    let mut text = format!("{answer}\n");
    if let Some(rule) = &answer.rule {
        text.push_str(&source_line(&file, rule));
    }
    output::print(&text)?;
    Ok(if answer.verdict.allowed { exit::ok() } else { exit::no() })
}

fn question(args: &Args) -> Result<Question> {
    let operation = args.operation.clone();
    let has_object = !Operation::from_name(&operation).is_some_and(Operation::is_never_granted);
    let object = match (&args.object, has_object) {
        (Some(_), false) => {
            return Err(Error::new(format!("ask about {operation} of an object"))
                .hint(format!("leave the object out: {operation} is never granted")));
        }
        (None, true) => {
            return Err(Error::new(format!("ask about {operation} of nothing"))
                .hint("name a path of the guest, or an address and port"));
        }
        (None, false) => Vec::new(),
        (Some(object), true) => object.clone().into_vec(),
    };
    let takes_two = matches!(operation.as_str(), "rename" | "link");
    if args.second.is_some() && !takes_two {
        return Err(Error::new(format!("ask about {operation} of two objects"))
            .hint("only rename and link have two"));
    }
    let object = with_protocol(&operation, object);
    let second = args.second.clone().map(OsString::into_vec);
    Ok(Question { operation, object, second })
}

/// `10.0.0.1:80` means TCP; sending to an address is what UDP does.
fn with_protocol(operation: &str, object: Vec<u8>) -> Vec<u8> {
    let protocol = match operation {
        "connect" | "bind" | "listen" => "tcp://",
        "send" => "udp://",
        _ => return object,
    };
    if object.windows(3).any(|window| window == b"://") {
        return object;
    }
    [protocol.as_bytes(), &object].concat()
}

/// Host names are looked up only where the answer can rest on them.
fn known_addresses(policy: &Policy, question: &Question) -> Addresses {
    let network = [Operation::Connect, Operation::Bind, Operation::Listen, Operation::Send];
    if !network.iter().any(|operation| operation.name() == question.operation) {
        return Addresses::new();
    }
    let (addresses, problems) = addresses(policy);
    for problem in problems {
        report::warning(&problem);
    }
    addresses
}

fn refused(error: ExplainError) -> Error {
    let hint = match &error {
        ExplainError::Operation { .. } => "`wasi-guard explain --help` tells what each takes",
        ExplainError::Second { .. } => "write both, as in: rename /data/a /data/b",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_protocol_is_the_usual_one() {
        let with = |operation, object: &str| {
            String::from_utf8(with_protocol(operation, object.into())).unwrap()
        };
        assert_eq!(with("connect", "1.2.3.4:5"), "tcp://1.2.3.4:5");
        assert_eq!(with("send", "1.2.3.4:5"), "udp://1.2.3.4:5");
        assert_eq!(with("bind", "udp://1.2.3.4:5"), "udp://1.2.3.4:5");
        assert_eq!(with("read", "/x"), "/x");
    }
}
