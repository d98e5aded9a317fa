//! `wasi-guard policy reload`.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::super::report::{self, printable};
use super::super::{PolicyFile, Result, exit, output};
use crate::protocol::{Answer, Channel, Request, RequestError, write_sealed};
use crate::supervisor::{self, Error};

const ABOUT: &str = "\
Put another policy into force for a guest that runs.

GUEST is the guest's name as audit records have it. Its supervisor checks the policy first, and puts \
it into force in one step; if anything is wrong with it, the policy before stays in force. What can \
change: the rules of the preopens, the network rules, where records go, and the limits of memory, \
processors and threads. What is set up at the start cannot: the preopens themselves, the mode, the \
limits of time and fuel, the size of the record buffer, and more memory than at the start.

A file that the guest has open stays open as it was opened.";

const EXAMPLES: &str = "\
Examples:
  wasi-guard policy reload guest-4711-0 app.toml
  kill -HUP 4711    # the supervisor reads the file of --policy again

Exit status:
  0    the policy is in force
  1    the policy was refused; the one before stays in force
  125  nobody could be asked: no such guest, no answer, a file that cannot be read";

/// How long to wait for the answer: looking up names may take long, compiling does not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// `wasi-guard policy reload`.
#[derive(Debug, clap::Args)]
#[command(about = "Put another policy into force for a guest that runs", long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// The guest's name, as in audit records: guest-4711-0
    #[arg(value_parser = parse_guest)]
    guest: String,

    /// Policy file
    policy: PathBuf,
}

/// The name of a cgroup, not a path.
fn parse_guest(text: &str) -> std::result::Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if text.is_empty() || text.len() > 64 || !text.chars().all(good) {
        return Err("give the guest's name as audit records have it, as in guest-4711-0".into());
    }
    Ok(text.to_owned())
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let file = PolicyFile::read(&args.policy)?;
    let request = Request::new(file.source.name.clone(), directory(&file.directory)?);
    let text = write_sealed("wasi-guard-policy", &file.source.bytes)
        .map_err(|error| Error::step("hand over the policy", error))?;
    let channel = supervisor::connect(&args.guest)?;
    request.send(&channel, &text).map_err(|error| unheard(&args.guest, error))?;
    match answer(&channel, &args.guest)? {
        Answer::InForce(it) => {
            report::write(&it.warnings);
            output::print(&format!(
                "{}: {} is in force\n  digest   {}\n  rules    {}\n",
                args.guest,
                printable(&file.source.name),
                printable(&it.digest),
                it.rules
            ))?;
            Ok(exit::ok())
        }
        Answer::Refused(text) => {
            report::write(&text);
            report::write(&format!(
                "{}: the policy was not reloaded; the one before stays in force\n",
                args.guest
            ));
            Ok(exit::no())
        }
    }
}

/// The policy's directory as the supervisor finds it, wherever that one was started.
fn directory(path: &Path) -> Result<Vec<u8>> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::step("find the policy's directory", error))?;
    Ok(path.as_os_str().as_bytes().to_vec())
}

fn answer(channel: &Channel, guest: &str) -> Result<Answer> {
    channel.receive(Some(ANSWER_TIMEOUT)).map_err(|error| {
        Error::step(format!("hear from the supervisor of {guest}"), error)
            .hint("the guest may have ended; its audit tells whether the policy came into force")
    })
}

fn unheard(guest: &str, error: RequestError) -> Error {
    Error::step(format!("ask the supervisor of {guest}"), error)
        .hint("the guest may have ended; try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_a_name_and_no_path() {
        assert_eq!(parse_guest("guest-4711-0").as_deref(), Ok("guest-4711-0"));
        for wrong in ["", ".", "..", "../lock", "a/b", "a b", &"x".repeat(65)] {
            assert!(parse_guest(wrong).is_err(), "{wrong}");
        }
    }
}
