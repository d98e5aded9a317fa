//! From a module's bytes to an artifact that a worker can load, without trusting the bytes: they
//! are compiled in a process of their own that can reach nothing (role Compile of
//! [`crate::worker`]).
//!
//! Relied on by the supervisor and by `wasi-guard compile`. Works without root, without BPF and
//! without Landlock.

mod content;
mod process;
mod source;
mod sys;

use std::fs::File;

pub use content::Content;
pub use source::Source;
pub use sys::worker_command;

use crate::cache::{Cache, Key, Lookup};
use crate::program::WorkerProgram;
use crate::protocol::{CompileStep, Kind, Layers, Options};
use crate::supervisor::Signals;

/// What is to be compiled, and how.
#[derive(Debug)]
pub struct Request<'a> {
    /// What messages call the module: its path as the caller gave it.
    pub name: &'a str,
    /// The caller's `-W -O -C -D -S` options.
    pub options: &'a Options,
    /// The run will count fuel: `-W fuel` or the policy's limit.
    pub fuel: bool,
    /// The run will have a time limit: `-W timeout` or the policy's limit.
    pub epochs: bool,
    /// Target triple; `None`: this machine with all its features.
    pub target: Option<&'a str>,
    /// The compiler gets namespaces of its own, or there is no artifact. For whoever runs guests:
    /// it takes a host and rights that `wasi-guard compile` does not ask for. As the first process
    /// of its pid namespace the compiler does not hear these signals, so they end the wait for it.
    pub isolated: Option<&'a Signals>,
    /// What a worker is made from.
    pub worker: &'a WorkerProgram,
}

/// A compiled module.
#[derive(Debug)]
pub struct Artifact {
    /// The artifact, to be given to a worker: a sealed memfd or a cache entry.
    pub file: File,
    /// What the module is.
    pub kind: Kind,
    /// Where it comes from.
    pub origin: Origin,
    /// What the caller should be told on stderr, one line each: a cache that could not be written,
    /// a damaged entry.
    pub warnings: Vec<String>,
    key: Key,
}

/// Where an artifact comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the cache.
    Cache,
    /// Compiled a moment ago.
    Compiled {
        /// The layers that confined the compiler.
        layers: Layers,
        /// See [`crate::protocol::FromWorker::Compiled`].
        imports_checked: bool,
    },
}

/// Why there is no artifact.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}: {cause}")]
pub struct Error {
    /// What was being done, to be read after "could not".
    pub step: String,
    /// The cause, one line per level.
    pub cause: String,
    /// What can be done about it.
    pub hint: Option<String>,
    /// The signal that ended the wait for the compiler.
    pub signal: Option<i32>,
}

impl Error {
    fn new(step: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self { step: step.into(), cause: cause.to_string(), hint: None, signal: None }
    }

    /// Whether the module itself is to blame: not Wasm, invalid, something missing.
    #[must_use]
    pub fn is_the_modules_fault(&self) -> bool {
        [CompileStep::Read, CompileStep::Compile, CompileStep::Link]
            .iter()
            .any(|step| step.text() == self.step)
    }
}

/// Takes the artifact from the cache, or compiles the module and fills the cache. A cache that
/// cannot be written costs a warning, not the artifact.
///
/// # Errors
/// If the module cannot be read or compiled.
pub fn obtain(
    source: &mut Source,
    request: &Request<'_>,
    cache: Option<&Cache>,
) -> Result<Artifact, Error> {
    let key = key(source, request);
    let mut warnings = Vec::new();
    if let Some(cache) = cache {
        match cache.lookup(&key) {
            Lookup::Hit { file, kind } => {
                return Ok(Artifact { file, kind, origin: Origin::Cache, warnings, key });
            }
            Lookup::Miss => {}
            Lookup::Removed(why) => {
                warnings.push(format!("a cache entry was removed and is made anew: {why}"));
            }
        }
    }
    let mut artifact = fresh(source, request)?;
    artifact.warnings.append(&mut warnings);
    if let Some(cache) = cache
        && let Err(error) = cache.store(&artifact.key, artifact.kind, &artifact.file)
    {
        artifact.warnings.push(format!("the compiled module is not kept: {error}"));
    }
    Ok(artifact)
}

/// After a worker's [`crate::protocol::FromWorker::Incompatible`]: drops the entry, compiles for
/// this machine and fills the cache anew.
///
/// # Errors
/// As [`obtain`].
pub fn obtain_anew(
    source: &mut Source,
    request: &Request<'_>,
    cache: Option<&Cache>,
) -> Result<Artifact, Error> {
    if let Some(cache) = cache {
        cache.remove(&key(source, request));
    }
    obtain(source, request, cache)
}

/// Compiles the module, whatever the cache holds.
fn fresh(source: &mut Source, request: &Request<'_>) -> Result<Artifact, Error> {
    // What is compiled must be what was hashed, so it is hashed again on its way into a sealed
    // copy: the caller's file can change between two looks.
    let module = source.sealed()?;
    let key = key(source, request);
    let compiled = process::run(&module, request)?;
    Ok(Artifact {
        file: compiled.file,
        kind: compiled.kind,
        origin: Origin::Compiled {
            layers: compiled.layers,
            imports_checked: compiled.imports_checked,
        },
        warnings: Vec::new(),
        key,
    })
}

fn key(source: &Source, request: &Request<'_>) -> Key {
    let target = request.target.unwrap_or(std::env::consts::ARCH);
    let architecture = target.split('-').next().unwrap_or(target);
    let options = request.options.codegen_text(request.fuel, request.epochs);
    Key::new(source.digest(), architecture, &options)
}
