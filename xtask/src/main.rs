//! `cargo xtask`: everything that one does with this project besides `cargo build`.

mod commands;

use std::process::ExitCode;

use clap::Parser;
use xtask::vm;

/// Build, try, test and measure wasi-guard
///
/// `cargo xtask demo` shows what it does, `cargo xtask test` runs all tests. Both install what is
/// missing, as root on Debian 12, and say before what that is; on other hosts they print the
/// command to type.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Cli {
    Demo(commands::demo::Args),
    Test(commands::test::Args),
    Vm(commands::vm::Args),
    Bench(commands::bench::Args),
    Bpf(commands::bpf::Args),
    Docs(commands::docs::Args),
    Fuzz(commands::fuzz::Args),
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Cli::parse() {
        Cli::Demo(args) => commands::demo::run(&args),
        Cli::Test(args) => commands::test::run(&args),
        Cli::Vm(args) => return commands::vm::run(&args),
        Cli::Bench(args) => commands::bench::run(&args).map(done),
        Cli::Bpf(args) => commands::bpf::run(&args).map(done),
        Cli::Docs(args) => commands::docs::run(&args).map(done),
        Cli::Fuzz(args) => commands::fuzz::run(&args).map(done),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        match error.downcast_ref::<vm::Failure>() {
            Some(_) => ExitCode::from(vm::FAILED),
            None => ExitCode::FAILURE,
        }
    })
}
