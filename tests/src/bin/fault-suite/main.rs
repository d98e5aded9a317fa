//! The fault suite: whatever is killed or refused at whichever step, nobody runs unguarded, the next
//! start works, and nothing is left.
//!
//! Runs as root in a VM of its own (`cargo xtask test faults`), with `wasi-guard-faults` on PATH and
//! guests in `/guests`. The points are data: `wasi_guard_enforce::fault::Point`. Each of them is a
//! case, and one that is never reached fails.
//!
//! Prints `ok NAME` or `FAILED NAME: why` for each case; nothing is ever skipped.

mod builds;
mod left;
mod native;
mod others;
mod removed;
mod supervisor;
mod whole;

use std::process::ExitCode;

use anyhow::Result;
use wasi_guard_enforce::{fault::Point, programs::Build};
use wasi_guard_tests::suite::{self, Suite, Words};

/// A claim and its proof.
struct Case {
    name: String,
    run: Box<dyn Fn() -> Result<()>>,
}

impl Case {
    fn new(name: impl Into<String>, run: impl Fn() -> Result<()> + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

fn main() -> ExitCode {
    suite::main("fault-suite", run)
}

fn run() -> Result<ExitCode> {
    if supervisor::serve_if_asked()? {
        return Ok(ExitCode::SUCCESS);
    }
    let words = Words::read()?;
    let every = [
        vec![Case::new("points_have_different_names", different_names)],
        native::cases(),
        whole::cases(),
        others::cases(),
        removed::cases(),
        // Leaves nothing loaded.
        builds::cases(),
    ];
    let chosen = words.choose(every.into_iter().flatten(), |case| &case.name)?;
    if words.list {
        chosen.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    let mut suite = Suite::new("fault-suite");
    // Loading takes half a minute and fails the same way for every case.
    if suite.case("a_guest_runs", || supervisor::works(&Build::this(false))) {
        for case in chosen {
            if !suite.case(&case.name, &case.run) {
                // What it left must not fail the next one.
                let _ = left::collect();
            }
        }
    }
    Ok(suite.finish())
}

fn different_names() -> Result<()> {
    for (at, point) in Point::ALL.iter().enumerate() {
        let same = Point::ALL[..at].iter().find(|other| other.name() == point.name());
        anyhow::ensure!(same.is_none(), "{point:?} and {same:?}");
    }
    Ok(())
}
