//! The privileged side of a run: small, and it never looks into the module.
//!
//! In the order of docs/architecture.md:
//!
//! 1. [`plan`]: policy, preopens, options, all checked before anything is made.
//! 2. [`crate::compile`] gives the artifact, from the cache or from a confined compiler.
//! 3. [`start`]: cgroup, table, worker, hand-shake with the canary.
//!    From here on [`syscalls`] answers for the worker's seccomp filter.
//! 4. [`watch`]: records, limits, signals, until the guest ends. [`reload`] is a part of it: another
//!    policy for the guest that runs.
//!
//! Leaving [`run`] by any way drops the guest: its processes are killed, its cgroup and its map
//! entries removed. If this process is killed, the kernel kills the worker (`PDEATHSIG`), the
//! pinned programs go on denying, and the next start removes what was left.

mod broker;
mod disks;
mod error;
mod holders;
mod links;
mod plan;
mod reload;
mod start;
mod sys;
pub mod syscalls;
mod told;
mod watch;

use std::{fs::File, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

pub use broker::ParserProcess;
pub use error::Error;
pub(crate) use plan::{HOST_HINT, unfit};
pub(crate) use reload::{connect, sweep_sockets};
pub(crate) use watch::Woken;
pub use watch::{Outcome, Signals};

use crate::{
    audit::{About, Auditor, Sink},
    cache::Cache,
    cli::report,
    compile,
    program::WorkerProgram,
    protocol::Options,
};
use plan::Plan;
use start::Started;
use wasi_guard_enforce::host;

/// Where a guest's grants come from.
#[derive(Clone, Debug)]
pub enum Grants {
    /// A policy file.
    Policy(PathBuf),
    /// Options as `wasmtime run` has them: `--dir HOST::GUEST`.
    Options {
        /// Host directory and its name for the guest.
        dirs: Vec<(PathBuf, String)>,
    },
}

/// Where records go.
#[derive(Debug)]
pub enum AuditTo {
    /// Where the policy says, else stderr.
    Default,
    /// A file, appended to.
    File(PathBuf),
    /// A descriptor that was handed in.
    Descriptor(OwnedFd),
}

/// One run, as the command line asks for it.
#[derive(Debug)]
pub struct Job {
    /// The module's path.
    pub module: PathBuf,
    /// The guest's arguments, without its name.
    pub arguments: Vec<String>,
    /// The guest's name for itself, if not the module's file name.
    pub argv0: Option<String>,
    /// The guest's environment.
    pub environment: Vec<(String, String)>,
    /// What it may do.
    pub grants: Grants,
    /// `--mode`: in place of the policy's.
    pub mode: Option<wasi_guard_policy::Mode>,
    /// Where records go.
    pub audit: AuditTo,
    /// The cache's directory; `None` is the default one.
    pub cache: Option<PathBuf>,
    /// Programs with the debug log.
    pub bpf_log: bool,
    /// Say more on stderr.
    pub verbose: bool,
}

/// How long a worker may take for one step of its start. Generous, because emulated machines on
/// which hundreds start at once are slow; it only guards against a worker that is stuck.
const STEP_TIMEOUT: Duration = Duration::from_secs(600);
/// Records that are written before something else has its turn: a guest that is denied without end
/// must not keep its supervisor from limits, signals and reloads.
const BATCH: usize = 256;
/// Starts of one run: a second one if the cached artifact is not for this machine.
const STARTS: usize = 2;

/// Runs a guest to its end.
///
/// # Errors
/// If wasi-guard refuses to run it: a bad policy, a missing layer, a failed step. Then nothing
/// of the guest has run, or it was ended.
pub fn run(job: &Job, options: &Options) -> Result<Outcome, Error> {
    let plan = Plan::new(job, options)?;
    for warning in &plan.warnings {
        report::write(warning);
    }
    // What the caller got wrong comes before what the host lacks.
    let file = File::open(&job.module)
        .map_err(|error| Error::step(format!("open the module {}", plan.module), error))?;
    let of_module = |error| Error::of_module(error, &plan.module);
    let mut source = compile::Source::read(file).map_err(of_module)?;
    if let Some(layer) = host::first_missing() {
        return Err(Error::missing(&layer));
    }
    let worker = Arc::new(WorkerProgram::find()?);
    let sink = sink(job, &plan)?;
    // From here on a signal ends the run in an orderly way, or asks for the policy anew.
    let signals = Signals::catch(matches!(job.grants, Grants::Policy(_)))?;

    let request = compile::Request {
        name: &plan.module,
        options,
        fuel: plan.fuel.is_some(),
        epochs: plan.time.is_some(),
        target: None,
        isolated: Some(&signals),
        worker: &worker,
    };
    let cache = open_cache(job);
    let mut artifact = match compile::obtain(&mut source, &request, cache.as_ref()) {
        Ok(artifact) => artifact,
        Err(error) => return no_artifact(error, &plan),
    };
    let mut auditor = Auditor::new(
        sink,
        About {
            policy: plan.policy_name.clone(),
            policy_digest: plan.policy_digest.clone(),
            module: plan.module.clone(),
            module_digest: source.digest().to_hex().to_string(),
            mode: plan.policy.mode,
        },
    );
    for _ in 0..STARTS {
        for warning in artifact.warnings.drain(..) {
            report::warning(&warning);
        }
        match start::start(job, &plan, options, &artifact, &mut auditor, &signals, &worker)? {
            Started::Running(running) => return watch::watch(*running, &plan, auditor, &signals),
            Started::Ended(outcome) => return Ok(outcome),
            Started::Incompatible(reason) => {
                if job.verbose {
                    report::warning(&format!("the module is compiled anew: {reason}"));
                }
                artifact = match compile::obtain_anew(&mut source, &request, cache.as_ref()) {
                    Ok(artifact) => artifact,
                    Err(error) => return no_artifact(error, &plan),
                };
            }
        }
    }
    Err(Error::new("load the compiled module: wasmtime refuses it twice")
        .hint("remove the cache directory; if it happens again, please report it"))
}

/// The end of a run that has come to no artifact.
fn no_artifact(error: compile::Error, plan: &Plan) -> Result<Outcome, Error> {
    match error.signal {
        Some(signal) => Ok(Outcome::Signalled(signal)),
        None => Err(Error::of_module(error, &plan.module)),
    }
}

/// The cache, or none with a warning: a run must not fail because nothing can be kept.
fn open_cache(job: &Job) -> Option<Cache> {
    let path = job.cache.clone().or_else(Cache::default_path)?;
    match Cache::open(&path) {
        Ok(cache) => Some(cache),
        Err(error) => {
            report::warning(&format!("compiled modules are not kept: {error}"));
            None
        }
    }
}

fn sink(job: &Job, plan: &Plan) -> Result<Sink, Error> {
    let open = |path: &PathBuf| {
        Sink::file(path)
            .map_err(|error| Error::step(format!("open the audit file {}", path.display()), error))
    };
    match (&job.audit, &plan.audit_file) {
        (AuditTo::File(path), _) | (AuditTo::Default, Some(path)) => open(path),
        (AuditTo::Descriptor(fd), _) => fd
            .try_clone()
            .map(Sink::descriptor)
            .map_err(|error| Error::step("use the audit descriptor", error)),
        (AuditTo::Default, None) => Ok(Sink::stderr()),
    }
}
