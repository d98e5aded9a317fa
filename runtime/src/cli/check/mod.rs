//! `wasi-guard check`.

mod names;

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::FileType;
use wasi_guard_policy::{
    Addresses, CompileError, Policy, Preopen, PreopenKind, RuleKind, Severity, Table, render_all,
};

use super::compile::{kind, open_module, with_name};
use super::policy::addresses;
use super::report::{self, printable};
use super::{EngineOptions, PolicyFile, Result, exit, output};
use crate::compile::{self, Request};
use crate::program::WorkerProgram;
use crate::supervisor::{Error, HOST_HINT, unfit};

const ABOUT: &str = "\
Check a policy, and a module with it, without running anything.

Shows every error and warning at once, each with its line, then what the policy comes to. Also looks \
whether the host directories are there, and the files that rules name. With MODULE, compiles it as `run` would, in a process that \
can reach nothing, and tells whether it is valid and imports only what wasi-guard provides. What the \
module will do with its imports nobody can tell beforehand: run it with --mode audit for that.";

const EXAMPLES: &str = "\
Examples:
  wasi-guard check app.toml
  wasi-guard check app.toml app.wasm

Exit status:
  0    no errors; there may be warnings
  1    errors in the policy, a host directory, or the module
  125  the check could not be made: a file cannot be read";

/// `wasi-guard check`.
#[derive(Debug, clap::Args)]
#[command(about = "Check a policy, and a module with it, without running anything", long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Policy file
    policy: PathBuf,

    #[command(flatten)]
    engine: EngineOptions,

    /// A module or component, binary or text
    module: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let options = args.engine.parse()?;
    let file = PolicyFile::read(&args.policy)?;
    let (policy, mut warnings) = match file.load() {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            report::write(&render_all(&diagnostics, &file.source));
            return Ok(exit::no());
        }
    };
    warnings.extend(names::warnings(&file, &policy));
    warnings.sort_by_key(|warning| warning.span.start);
    report::write(&render_all(&warnings, &file.source));
    let mut errors = Vec::new();
    for preopen in &policy.preopens {
        errors.extend(host_root(&file, preopen));
    }
    let (addresses, problems) = addresses(&policy);
    problems.iter().for_each(|problem| report::warning(problem));
    let policy = match file.on_host(policy.clone()) {
        Ok(policy) => policy,
        Err(error) => {
            errors.push(error);
            policy
        }
    };
    let table = table(&policy, &addresses, &mut errors);
    for error in &errors {
        report::error(error, false);
    }
    match errors.len() {
        0 => {}
        1 => report::write(&format!("{}: 1 error\n", printable(&file.source.name))),
        count => report::write(&format!("{}: {count} errors\n", printable(&file.source.name))),
    }
    if let (Some(table), true) = (table, errors.is_empty()) {
        let count = warnings.iter().filter(|it| it.severity == Severity::Warning).count();
        output::print(&summary(&file, &policy, &table, count + problems.len()))?;
    }
    let mut good = errors.is_empty();
    if let Some(path) = &args.module {
        good &= module(path, &policy, &options)?;
    }
    Ok(if good { exit::ok() } else { exit::no() })
}

/// What is wrong with a preopen on the host, as the start of a guest would see it.
fn host_root(file: &PolicyFile, preopen: &Preopen) -> Option<Error> {
    let path = file.resolve(&preopen.host);
    let cause = match path.symlink_metadata() {
        Ok(found) => format!("it {}", unfit(FileType::from_raw_mode(found.mode()))?),
        Err(error) => error.to_string(),
    };
    let line = preopen.line.map_or(String::new(), |line| format!(" (line {line})"));
    let mut error =
        Error::new(format!("open {}, which is {}{line}", path.display(), preopen.guest))
            .hint(HOST_HINT);
    error.causes.push(cause);
    Some(error)
}

fn table(policy: &Policy, addresses: &Addresses, errors: &mut Vec<Error>) -> Option<Table> {
    let result: std::result::Result<Table, CompileError> =
        wasi_guard_policy::compile(policy, addresses);
    result.map_err(|error| errors.push(Error::step("compile the policy", error))).ok()
}

/// Whether the module is one that `run` would start.
fn module(path: &Path, policy: &Policy, options: &crate::protocol::Options) -> Result<bool> {
    let mut source = open_module(path)?;
    let name = path.display().to_string();
    let worker = WorkerProgram::find()?;
    let request = Request {
        name: &name,
        options,
        fuel: options.fuel().is_some() || policy.limits.fuel.is_some_and(|fuel| fuel > 0),
        epochs: options.timeout().is_some() || policy.limits.time.is_some(),
        target: None,
        isolated: None,
        worker: &worker,
    };
    let artifact = match compile::obtain(&mut source, &request, None) {
        Ok(artifact) => artifact,
        Err(error) if error.is_the_modules_fault() => {
            report::error(&with_name(error, path), false);
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    output::print(&format!(
        "{name}: ok, {}\n  digest   {}\n",
        kind(artifact.kind),
        source.digest().to_hex()
    ))?;
    Ok(true)
}

fn summary(file: &PolicyFile, policy: &Policy, table: &Table, warnings: usize) -> String {
    let warnings = match warnings {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    let stats = table.stats();
    let mut text = format!("{}: ok{warnings}\n", file.source.name);
    let mut row = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:8} {}", printable(value));
    };
    row("digest", &file.digest.to_hex());
    row("mode", policy.mode.name());
    for preopen in &policy.preopens {
        row("preopen", &preopen_text(preopen));
    }
    if policy.preopens.is_empty() {
        row("preopen", "none: the guest sees no directory");
    }
    let network =
        policy.rules.iter().filter(|rule| matches!(rule.kind, RuleKind::Connect | RuleKind::Bind));
    let mut any = false;
    for rule in network {
        any = true;
        row("network", &format!("{} {}", rule.kind, rule.text));
    }
    if !any {
        row("network", "none: the guest has no sockets");
    }
    row("limits", &policy.limits.to_string());
    let records = policy.audit.file.as_ref();
    row("audit", &records.map_or("standard error".into(), |file| file.display().to_string()));
    row("rules", &policy.rules.len().to_string());
    row(
        "table",
        &format!(
            "{} bytes, {} states, {} plain names by hash, {} byte classes",
            table.bytes().len(),
            stats.states,
            stats.names,
            stats.classes
        ),
    );
    text
}

fn preopen_text(preopen: &Preopen) -> String {
    let lists = [
        ("read", &preopen.read),
        ("write", &preopen.write),
        ("create", &preopen.create),
        ("delete", &preopen.delete),
        ("deny", &preopen.deny),
    ];
    let counts: Vec<String> = lists
        .iter()
        .filter(|(_, rules)| !rules.is_empty())
        .map(|(name, rules)| format!("{name} {}", rules.len()))
        .collect();
    let counts = if counts.is_empty() { "nothing granted".into() } else { counts.join(", ") };
    match preopen.kind {
        PreopenKind::Holder => format!("{} is made for single files", preopen.guest),
        PreopenKind::File => {
            format!("{} is the file {}; rules: {counts}", preopen.guest, preopen.host.display())
        }
        PreopenKind::Directory => {
            format!("{} is {}; rules: {counts}", preopen.guest, preopen.host.display())
        }
    }
}
