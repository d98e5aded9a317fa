//! `wasi-guard run`.

use std::process::ExitCode;

use super::{Result, RunArgs, exit, report};
use crate::supervisor::{self, AuditTo, Grants, Job, Outcome};

/// Runs a guest; the exit status is the guest's, or that of a refusal.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    match guest(args) {
        Ok(Outcome::Exited(code)) => exit::code(code),
        Ok(Outcome::Killed(signal)) => exit::code(128 + signal),
        Ok(Outcome::Signalled(signal)) => {
            // Whoever waits for us must see what it would see of `wasmtime run`: an end by the
            // signal. Where that cannot be, the status says it.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            exit::code(128 + signal)
        }
        Err(error) => {
            report::error(&error, args.verbose);
            exit::refused()
        }
    }
}

fn guest(args: &RunArgs) -> Result<Outcome> {
    let options = args.check()?;
    let grants = match &args.policy {
        Some(path) => Grants::Policy(path.clone()),
        None => Grants::Options {
            dirs: args.dirs.iter().map(|dir| (dir.host.clone(), dir.guest.clone())).collect(),
        },
    };
    let audit = match (&args.audit, args.audit_descriptor()?) {
        (Some(path), _) => AuditTo::File(path.clone()),
        (None, Some(descriptor)) => AuditTo::Descriptor(descriptor),
        (None, None) => AuditTo::Default,
    };
    let job = Job {
        module: args.module().to_owned(),
        arguments: args.arguments()?,
        argv0: args.argv0.clone(),
        environment: args.environment(options.inherit_env())?,
        grants,
        mode: args.mode(),
        audit,
        cache: args.cache.clone(),
        bpf_log: args.bpf_log,
        verbose: args.verbose,
    };
    supervisor::run(&job, &options)
}
