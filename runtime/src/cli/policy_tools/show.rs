//! `wasi-guard policy show`.

use std::path::PathBuf;
use std::process::ExitCode;

use wasi_guard_policy::show::show;
use wasi_guard_policy::{Addresses, compile};

use super::super::policy::addresses;
use super::super::report::{self, printable};
use super::super::{PolicyFile, Result, exit, output};
use crate::supervisor::Error;

const ABOUT: &str = "\
Show what a policy is compiled to.

Lists the preopens with their rules, by number, each with its line and what it gives, then the network \
rules, limits, and the sizes of the table that the kernel reads. Whatever the order, deny beats all \
other rules. \"On the way\" are the directories above a name that the rule could be about.";

const EXAMPLES: &str = "\
Examples:
  wasi-guard policy show app.toml
  wasi-guard policy show --resolve app.toml";

/// `wasi-guard policy show`.
#[derive(Debug, clap::Args)]
#[command(about = "Show what a policy is compiled to", long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Look host names in network rules up, as the start of a guest does
    #[arg(long)]
    resolve: bool,

    /// Policy file
    policy: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let file = PolicyFile::read(&args.policy)?;
    let (policy, _) = file.load_or_refuse()?;
    let policy = file.on_host(policy)?;
    let known = if args.resolve {
        let (addresses, problems) = addresses(&policy);
        problems.iter().for_each(|problem| report::warning(problem));
        Some(addresses)
    } else {
        None
    };
    // A name without an address matches nothing; the rest of the table is the same.
    let unknown =
        || policy.host_names().into_iter().map(|name| (name.to_owned(), Vec::new())).collect();
    let addresses: Addresses = known.clone().unwrap_or_else(unknown);
    let table =
        compile(&policy, &addresses).map_err(|error| Error::step("compile the policy", error))?;
    output::print(&format!(
        "policy   {}\ndigest   {}\n{}",
        printable(&file.source.name),
        file.digest.to_hex(),
        show(&policy, &table, known.as_ref())
    ))?;
    Ok(exit::ok())
}
