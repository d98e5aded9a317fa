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

use std::process::ExitCode;

use anyhow::Result;
use wasi_guard_tests::suite::{self, Suite, Words};

use crate::lab::Lab;

/// A claim and its proof.
pub(crate) struct Case {
    /// The claim, or the name of the guest that it is about.
    pub(crate) name: &'static str,
    /// The proof.
    pub(crate) run: fn(&Lab) -> Result<()>,
}

fn main() -> ExitCode {
    suite::main("guest-suite", run)
}

fn run() -> Result<ExitCode> {
    cases::serve_if_asked()?;
    cases::connect_if_asked()?;
    let words = Words::read()?;
    let every = cases::EVERY.iter().flat_map(|family| family.iter());
    let chosen: Vec<&Case> = words.choose(every, |case| case.name)?;
    if words.list {
        chosen.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    let lab = Lab::open()?;
    let mut suite = Suite::new("guest-suite");
    for case in chosen {
        if !suite.case(case.name, || (case.run)(&lab).and_then(|()| lab.check_clean())) {
            lab.clean_up();
        }
    }
    Ok(suite.finish())
}
