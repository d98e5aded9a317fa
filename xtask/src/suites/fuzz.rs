//! Each fuzz target over its corpus, and over new inputs for a while.

use anyhow::Result;

use super::{Context, Counts};
use crate::fuzz::{Fuzzer, targets};

/// For each target. All of them together must not keep a developer waiting; long runs are made by
/// hand, with `cargo xtask fuzz`.
const SECONDS: u64 = 15;

pub(super) fn run(context: &Context) -> Result<Counts> {
    let fuzzer = Fuzzer::build(&context.project)?;
    let mut counts = Counts::default();
    for target in targets(&context.project)? {
        match fuzzer.run(&target, SECONDS, true) {
            Ok(()) => {
                println!("ok {target}");
                counts.passed += 1;
            }
            Err(error) => {
                println!("FAILED {target}: {error:#}");
                counts.failed += 1;
            }
        }
    }
    Ok(counts)
}
