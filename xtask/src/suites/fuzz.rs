//! Each fuzz target over its corpus, and over new inputs for a while.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::{Context, Counts, at_once};
use crate::fuzz::{Fuzzer, targets};

/// For each target. All of them together must not keep a developer waiting; long runs are made by
/// hand, with `cargo xtask fuzz`.
const SECONDS: u64 = 15;

pub(super) fn run(context: &Context) -> Result<Counts> {
    let fuzzer = Fuzzer::build(&context.project)?;
    let counts = Mutex::new(Counts::default());
    // Each takes one processor.
    at_once(targets(&context.project)?, usize::MAX, |target| {
        let result = fuzzer.run(&target, SECONDS, true);
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                println!("ok {target}");
                counts.passed += 1;
            }
            Err(error) => {
                let line = format!("{target}: {error:#}");
                println!("FAILED {line}");
                context.keep_failure("fuzz", &line);
                counts.failed += 1;
            }
        }
    });
    Ok(counts.into_inner().unwrap_or_else(PoisonError::into_inner))
}
