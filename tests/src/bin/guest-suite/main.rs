//! The guest suite: does the real wasi-guard do what it promises, with real guests?
//!
//! Runs as root on a machine that can attach BPF LSM programs (in a VM: `cargo xtask test guest`),
//! with `wasi-guard` and `wasi-guard-unchecked` on PATH and, as xtask puts them there, compiled
//! guests in `/guests`, policies in `/policies` and CPython in `/python`.
//!
//! Prints `ok NAME` or `FAILED NAME: why` for each case, `guest-suite: N passed, N failed` in the
//! end, and exits with 1 if a case failed. Arguments choose the cases whose names contain one of
//! them; `--list` names all. Nothing is ever skipped.
//!
//! Each case begins and ends with a clean machine: no process, no cgroup and no map entry of a
//! guest. What is left behind fails the case that left it.

mod cases;
mod expect;
mod lab;
mod program;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};

use crate::lab::Lab;

/// A claim and its proof.
pub(crate) struct Case {
    /// The claim, or the name of the guest that it is about.
    pub(crate) name: &'static str,
    /// The proof.
    pub(crate) run: fn(&Lab) -> Result<()>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("guest-suite: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut filters: Vec<String> = std::env::args().skip(1).collect();
    let list = filters.iter().any(|word| word == "--list");
    filters.retain(|word| word != "--list");
    if let Some(option) = filters.iter().find(|word| word.starts_with("--")) {
        bail!("unknown option {option}");
    }
    let wanted = |case: &&Case| {
        filters.is_empty() || filters.iter().any(|filter| case.name.contains(filter.as_str()))
    };
    let chosen: Vec<&Case> =
        cases::EVERY.iter().flat_map(|family| family.iter()).filter(wanted).collect();
    if list {
        chosen.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    if chosen.is_empty() {
        bail!("no case has {} in its name", filters.join(" or "));
    }
    let lab = Lab::open()?;
    let (mut passed, mut failed) = (0, 0);
    for case in chosen {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| (case.run)(&lab)))
            .unwrap_or_else(|_| Err(anyhow!("panicked")))
            .and_then(|()| lab.check_clean());
        match result {
            Ok(()) => {
                println!("ok {}", case.name);
                passed += 1;
            }
            Err(error) => {
                println!("FAILED {}: {error:#}", case.name);
                failed += 1;
                lab.clean_up();
            }
        }
    }
    println!("guest-suite: {passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
