//! `wasi-guard compile`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{EngineOptions, PolicyFile, Result, exit, output, report};
use crate::cache::{Cache, Key, Lookup};
use crate::compile::{self, Artifact, Origin, Request, Source};
use crate::program::WorkerProgram;
use crate::protocol::{Kind, Options};
use crate::supervisor::Error;

const ABOUT: &str = "\
Compile a module into the cache, so that its next run starts at once.

The compiler runs in a process that can reach nothing, because the module may be hostile. This takes \
no root, but root and other users have caches of their own. Give the same --policy and options as \
for the run: a time limit or fuel changes the compiled code.";

const EXAMPLES: &str = "\
Examples:
  wasi-guard compile app.wasm
  wasi-guard compile --policy app.toml app.wasm
  wasi-guard compile --target x86_64-unknown-linux-gnu --cache ./image/cache app.wasm

Exit status:
  0    the cache holds the compiled module
  125  it could not be compiled or kept";

/// `wasi-guard compile`.
#[derive(Debug, clap::Args)]
#[command(about = "Compile a module into the cache, so that its next run starts at once", long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Policy of the run, for its limits of time and fuel
    #[arg(short, long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// Compile for every CPU of this target instead of this machine's CPU
    ///
    /// A target triple, such as x86_64-unknown-linux-gnu. For a cache that other machines use.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,

    /// Keep compiled modules in this directory
    ///
    /// Default: /var/cache/wasi-guard for root, wasi-guard in the user's cache directory for
    /// others.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Say more: which layers confined the compiler
    #[arg(short, long)]
    pub(super) verbose: bool,

    #[command(flatten)]
    engine: EngineOptions,

    /// The module or component, binary or text
    module: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let options = args.engine.parse()?;
    let (fuel, epochs) = limits(args, &options)?;
    let mut source = open_module(&args.module)?;
    let name = args.module.display().to_string();
    let worker = WorkerProgram::find()?;
    let request = Request {
        name: &name,
        options: &options,
        fuel,
        epochs,
        target: args.target.as_deref(),
        isolated: None,
        worker: &worker,
    };
    let cache = open_cache(args)?;
    // An artifact for this machine's CPU has the same key as one for every CPU of its
    // architecture, so with a target whatever is there makes room.
    let obtain = if args.target.is_some() { compile::obtain_anew } else { compile::obtain };
    let artifact = obtain(&mut source, &request, Some(&cache))
        .map_err(|error| with_name(error, &args.module))?;
    for warning in &artifact.warnings {
        report::warning(warning);
    }
    if !kept(&cache, &source, &request) {
        return Err(Error::new(format!("keep the compiled module in {}", cache.path().display()))
            .hint("the cache needs room and must be writable; --cache names another one"));
    }
    output::print(&summary(&name, &source, &artifact, args.verbose))?;
    Ok(exit::ok())
}

/// Whether the run counts fuel and time, as the supervisor decides it.
fn limits(args: &Args, options: &Options) -> Result<(bool, bool)> {
    let mut fuel = options.fuel().is_some();
    let mut epochs = options.timeout().is_some();
    if let Some(path) = &args.policy {
        let (policy, _) = PolicyFile::read(path)?.load_or_refuse()?;
        fuel |= policy.limits.fuel.is_some_and(|fuel| fuel > 0);
        epochs |= policy.limits.time.is_some();
    }
    Ok((fuel, epochs))
}

/// Opens and hashes a module.
pub(super) fn open_module(path: &Path) -> Result<Source> {
    let file = File::open(path).map_err(|error| {
        Error::step(format!("open the module {}", path.display()), error)
            .hint("give the path of a .wasm or .wat file")
    })?;
    Source::read(file).map_err(|error| with_name(error, path))
}

/// The error, with the module's name if it is about the module.
pub(super) fn with_name(error: compile::Error, path: &Path) -> Error {
    Error::of_module(error, &path.display().to_string())
}

fn open_cache(args: &Args) -> Result<Cache> {
    let path = args.cache.clone().or_else(Cache::default_path).ok_or_else(|| {
        Error::new("find a place for the cache")
            .hint("name one with --cache; neither XDG_CACHE_HOME nor HOME is set")
    })?;
    Cache::open(&path).map_err(|error| {
        Error::step("use the cache", error)
            .hint("its directory must be yours alone; --cache names another one")
    })
}

/// Whether a run would find the artifact now.
fn kept(cache: &Cache, source: &Source, request: &Request<'_>) -> bool {
    let target = request.target.unwrap_or(std::env::consts::ARCH);
    let architecture = target.split('-').next().unwrap_or(target);
    let options = request.options.codegen_text(request.fuel, request.epochs);
    let key = Key::new(source.digest(), architecture, &options);
    matches!(cache.lookup(&key), Lookup::Hit { .. })
}

fn summary(name: &str, source: &Source, artifact: &Artifact, verbose: bool) -> String {
    let kind = kind(artifact.kind);
    let origin = match &artifact.origin {
        Origin::Cache => "was in the cache",
        Origin::Compiled { .. } => "compiled into the cache",
    };
    let mut text = format!("{name}: {kind}, {origin}\n");
    if verbose {
        text.push_str(&format!("  digest  {}\n", source.digest().to_hex()));
        if let Origin::Compiled { layers, imports_checked } = &artifact.origin {
            text.push_str(&format!("  layers  {}\n", layers.names().join(", ")));
            let checked = if *imports_checked { "checked" } else { "left to the run" };
            text.push_str(&format!("  imports {checked}\n"));
        }
    }
    text
}

/// The words for what a module is.
pub(super) const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Module => "a module (WASI preview 1)",
        Kind::Component => "a component (WASI preview 2)",
    }
}
