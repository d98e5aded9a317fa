//! What the suites have in common: words that choose cases, a line for each, and the last line,
//! which `cargo xtask test` holds against the others.

use std::{panic::AssertUnwindSafe, process::ExitCode};

use anyhow::{Result, anyhow, bail};

/// A program whose errors go to stderr, with the exit status 2.
pub fn main(program: &str, run: impl FnOnce() -> Result<ExitCode>) -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{program}: {error:#}");
        ExitCode::from(2)
    })
}

/// Words of the command line: parts of names, and `--list`.
#[derive(Debug, Default)]
pub struct Words {
    /// A case is chosen if its name contains one of them, or if there is none.
    pub filters: Vec<String>,
    /// Only say which there are.
    pub list: bool,
}

impl Words {
    /// Those that this program was started with.
    ///
    /// # Errors
    /// At another option.
    pub fn read() -> Result<Self> {
        let mut words = Self::default();
        for word in std::env::args().skip(1) {
            match word.as_str() {
                "--list" => words.list = true,
                option if option.starts_with("--") => bail!("unknown option {option}"),
                _ => words.filters.push(word),
            }
        }
        Ok(words)
    }

    /// Those of `all` whose names are chosen.
    ///
    /// # Errors
    /// If there are none.
    pub fn choose<T>(&self, all: impl Iterator<Item = T>, name: fn(&T) -> &str) -> Result<Vec<T>> {
        let wanted = |it: &T| {
            self.filters.is_empty()
                || self.filters.iter().any(|filter| name(it).contains(filter.as_str()))
        };
        let chosen: Vec<T> = all.filter(wanted).collect();
        if chosen.is_empty() {
            bail!("nothing has {} in its name", self.filters.join(" or "));
        }
        Ok(chosen)
    }
}

/// A suite that runs.
#[derive(Debug)]
pub struct Suite {
    program: &'static str,
    passed: usize,
    failed: usize,
}

impl Suite {
    /// None ran yet.
    pub fn new(program: &'static str) -> Self {
        Self { program, passed: 0, failed: 0 }
    }

    /// Runs a case and says how it ended; true if it passed. A panic is a failure.
    pub fn case(&mut self, name: &str, run: impl FnOnce() -> Result<()>) -> bool {
        let result = std::panic::catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err(anyhow!("panicked")));
        match &result {
            Ok(()) => {
                println!("ok {name}");
                self.passed += 1;
            }
            Err(error) => {
                println!("FAILED {name}: {error:#}");
                self.failed += 1;
            }
        }
        result.is_ok()
    }

    /// The last line and the exit status.
    pub fn finish(self) -> ExitCode {
        let Self { program, passed, failed } = self;
        println!("{program}: {passed} passed, {failed} failed");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
