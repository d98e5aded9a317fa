//! The kernel suite: does the kernel do what the policy says?
//!
//! Runs as root on a machine that can attach BPF LSM programs (in a VM: `cargo xtask test`, or
//! `cargo xtask vm --add target/release/kernel-suite:/bin/ -- kernel-suite [FILTER]...`).
//!
//! Prints `ok NAME` or `FAILED NAME: why` for each case, `kernel-suite: N passed, N failed` in
//! the end, and exits with 1 if a case failed. Nothing is ever skipped.
//!
//! `--seed S` and `--cases N` (policies) are for the differential test, which prints the seed it used;
//! `--race N` (opens) is for the race test. `--hide-symbols` hides the kernel's addresses from the
//! loader first.

mod check;
mod claims;
mod expect;
mod lab;
mod stage;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use wasi_guard_tests::{
    actor,
    suite::{self, Suite, Words},
};

use crate::lab::Lab;

/// A claim and its proof.
pub(crate) struct Case {
    /// The claim.
    pub(crate) name: &'static str,
    /// The proof.
    pub(crate) run: fn(&Lab) -> Result<()>,
}

struct Arguments {
    words: Words,
    /// The kernel does not tell the programs' loader where its variables are.
    hide_symbols: bool,
    seed: u64,
    worlds: u32,
    race: u32,
}

fn main() -> ExitCode {
    suite::main("kernel-suite", run)
}

fn run() -> Result<ExitCode> {
    if actor::serve_if_asked()? || claims::lifecycle::serve_if_asked()? {
        return Ok(ExitCode::SUCCESS);
    }
    let arguments = arguments()?;
    let every = claims::EVERY.iter().flat_map(|family| family.iter());
    let cases: Vec<&Case> = arguments.words.choose(every, |case| case.name)?;
    if arguments.words.list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.hide_symbols {
        hide_symbols()?;
    }
    let lab = Lab::open(arguments.seed, arguments.worlds, arguments.race)
        .context("prepare the machine")?;
    let mut suite = Suite::new("kernel-suite");
    // Loading takes seconds and fails the same way for every case: once is enough.
    if suite.case("the_programs_load", || lab.load()) {
        for case in cases {
            suite.case(case.name, || (case.run)(&lab));
        }
    }
    Ok(suite.finish())
}

/// From here on every decision reads whole paths, and reads them twice if names move.
fn hide_symbols() -> Result<()> {
    const SETTING: &str = "/proc/sys/kernel/kptr_restrict";
    std::fs::write(SETTING, "2\n").with_context(|| format!("write {SETTING}"))?;
    let layers = wasi_guard_enforce::host::probe();
    let symbols = layers.iter().find(|layer| layer.name == "symbols").context("no such layer")?;
    ensure!(!symbols.is_present() && !symbols.required, "not hidden: {symbols:?}");
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let mut parsed = Arguments {
        words: Words::default(),
        hide_symbols: false,
        seed: 0,
        worlds: 200,
        race: 1_000_000,
    };
    let mut seeded = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            let value = words.next().with_context(|| format!("{word} needs a number"))?;
            value.parse().with_context(|| format!("{word} {value}"))
        };
        match word.as_str() {
            "--seed" => {
                parsed.seed = number()?;
                seeded = true;
            }
            "--cases" => parsed.worlds = u32::try_from(number()?).context("--cases")?,
            "--race" => parsed.race = u32::try_from(number()?).context("--race")?,
            "--list" => parsed.words.list = true,
            "--hide-symbols" => parsed.hide_symbols = true,
            option if option.starts_with("--") => bail!("unknown option {option}"),
            filter => parsed.words.filters.push(filter.to_owned()),
        }
    }
    if !seeded {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        parsed.seed = u64::from_ne_bytes(bytes);
    }
    Ok(parsed)
}
