//! The command line: parsing, one command a file, and how errors and exit statuses look.
//!
//! Relied on by the executable only. [`report`] prints every error, [`exit`] has every exit
//! status, so that help, man pages and behaviour come from one place each.

mod check;
mod compile;
mod completions;
mod doctor;
mod engine;
pub mod exit;
mod explain;
mod gc;
mod man;
mod output;
mod policy;
mod policy_tools;
pub mod report;
mod run;
mod run_args;
mod unload;

use std::{ffi::OsString, iter, process::ExitCode};

use clap::{Args as _, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use engine::EngineOptions;
pub use policy::PolicyFile;
pub use run_args::{Dir, RunArgs};

use crate::supervisor::Error;

/// What a command comes to.
type Result<T> = std::result::Result<T, Error>;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "wasi-guard",
    version,
    about = "Runs WebAssembly (WASI) guests under policies that the Linux kernel enforces",
    long_about = LONG_ABOUT,
    after_long_help = AFTER_LONG_HELP,
    max_term_width = 100,
    disable_help_subcommand = true,
    propagate_version = true,
    arg_required_else_help = true,
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
Runs WebAssembly (WASI) guests under policies that the Linux kernel enforces.

A policy is a TOML file that lists what a guest may touch: directories, names in them, network \
addresses, memory, time. Everything else is denied, not by the WebAssembly runtime but by BPF LSM \
programs in the kernel, keyed to the guest's cgroup. So a bug in the runtime gains a guest nothing.";

const AFTER_LONG_HELP: &str = concat!(
    "\
Start here:
  wasi-guard doctor                          does this host offer what it takes?
  wasi-guard check app.toml                  is the policy right?
  wasi-guard run --policy app.toml app.wasm  run the guest under it
  wasi-guard explain app.toml read /data/x   why is this allowed or denied?

",
    exit::help!()
);

/// Each command describes itself in its file.
#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<RunArgs>),
    Compile(compile::Args),
    Check(check::Args),
    Explain(explain::Args),
    Policy(policy_tools::Args),
    Doctor(doctor::Args),
    Gc(gc::Args),
    Unload(unload::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(error) = wasi_guard_enforce::privilege::begin() {
        return finish(Err(error.into()), false);
    }
    if let Some(args) = run_alone(std::env::args_os()) {
        return run::run(&args);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Compile(args) => finish(compile::run(&args), args.verbose),
        Command::Check(args) => finish(check::run(&args), false),
        Command::Explain(args) => finish(explain::run(&args), false),
        Command::Policy(args) => finish(policy_tools::run(&args), false),
        Command::Doctor(args) => finish(doctor::run(&args), false),
        Command::Gc(args) => finish(gc::run(&args), args.verbose),
        Command::Unload(args) => finish(unload::run(&args), args.verbose),
        Command::Completions(args) => finish(completions::run(&args), false),
        Command::Man(args) => finish(man::run(&args), false),
    }
}

/// The arguments of `run`, without a look at the other commands, whose definitions cost a tenth of a
/// start. `None` for whatever is not right or not `run`: the whole definition has the words for it.
fn run_alone(mut arguments: impl Iterator<Item = OsString>) -> Option<RunArgs> {
    let program = arguments.next()?;
    arguments.next().filter(|command| command == "run")?;
    let definition = RunArgs::augment_args(clap::Command::new("run"));
    let matches = definition.try_get_matches_from(iter::once(program).chain(arguments)).ok()?;
    RunArgs::from_arg_matches(&matches).ok()
}

/// The definition that help, completions and man pages are made from.
fn definition() -> clap::Command {
    Cli::command()
}

/// An error for the first of these layers of the host that is missing.
fn need(names: &[&str]) -> Result<()> {
    let layers = wasi_guard_enforce::host::cheap();
    let missing = layers.iter().find(|it| names.contains(&it.name) && !it.is_present());
    missing.map_or(Ok(()), |layer| Err(Error::missing(layer)))
}

fn finish(result: Result<ExitCode>, verbose: bool) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            report::error(&error, verbose);
            exit::refused()
        }
    }
}

/// Help and version go to stdout and are a success; everything else is wasi-guard's refusal.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to be done if the stream is closed.
    let printed = error.print();
    if error.use_stderr() || printed.is_err() { exit::refused() } else { exit::ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `run` makes of its arguments does not depend on who parses them.
    #[test]
    fn run_alone_is_run() {
        let lines = [
            "run app.wasm",
            "run --policy app.toml app.wasm",
            "run -p app.toml --mode audit --audit-fd 3 app.wasm --policy x -- -h",
            "run --dir a::/b --dir c -S cli -Wfuel=1 -O opt-level=2 app.wasm",
            "run -v --env A=1 --argv0 x --cache /tmp --bpf-log app.wasm run",
            // Not right, or more than `run`.
            "run",
            "run --help",
            "run -h",
            "run --version",
            "run --nonsense app.wasm",
            "run --audit a --audit-fd 1 app.wasm",
            "run --mode maybe app.wasm",
            "check app.toml",
            "run app.wasm --help",
            "",
        ];
        let mut alone = 0;
        for line in lines {
            let arguments = iter::once("wasi-guard").chain(line.split_whitespace());
            let fast = run_alone(arguments.clone().map(OsString::from));
            let whole = match Cli::try_parse_from(arguments).map(|cli| cli.command) {
                Ok(Command::Run(args)) => Some(*args),
                Ok(_) | Err(_) => None,
            };
            assert_eq!(format!("{fast:?}"), format!("{whole:?}"), "{line}");
            alone += usize::from(fast.is_some());
        }
        assert_eq!(alone, 6);
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }
}
