//! The escape suite: what can native code do in a worker that its guest has taken over?
//!
//! Runs as root on a machine that can attach BPF LSM programs (in a VM: `cargo xtask test escape`),
//! with `wasi-guard-unchecked`, built with the feature `test-captive-worker`, on PATH and
//! `captive.wat` in `/guests`.
//!
//! Each idea is tried three times: by a process that nothing guards, where it works or is answered
//! in a way that shows that the kernel would do it; in a worker, with the rights, filters and
//! cgroup that every guest's worker has, where it must end as its idea says; and by a process that
//! nothing guards again. What an idea is stopped by is in `idea.rs`, the ideas are in `ideas/`.
//!
//! Prints `ok NAME` or `FAILED NAME: why` for each idea and `escape-suite: N passed, M failed` in
//! the end. Arguments choose ideas whose names contain one of them; `--list` names all,
//! with what must stop each.

mod captive;
mod idea;
mod ideas;
mod outside;
mod scene;
mod stops;
mod trial;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use wasi_guard_tests::suite::{self, Suite, Words};

use crate::scene::Scene;
use crate::trial::Lab;

fn main() -> ExitCode {
    if let Some(code) = outside::serve_if_asked() {
        return code;
    }
    suite::main("escape-suite", run)
}

fn run() -> Result<ExitCode> {
    let words = Words::read()?;
    ensure!(rustix::process::geteuid().is_root(), "the escape suite runs as root");
    let scene = Scene::set()?;
    let ideas = words.choose(ideas::all(&scene).into_iter(), |idea| idea.name())?;
    if words.list {
        ideas.iter().for_each(|idea| println!("{}: {}", idea.name(), idea.ends()));
        return Ok(ExitCode::SUCCESS);
    }
    let begin = Instant::now();
    let mut lab = Lab::new(&scene);
    let mut suite = Suite::new("escape-suite");
    for idea in &ideas {
        if !suite.case(idea.name(), || idea.try_it(&mut lab)) {
            lab.forget();
        }
    }
    suite.case("the_last_worker_ends_in_order", || lab.close());
    println!("{} ideas in {:.0?}", ideas.len(), begin.elapsed());
    Ok(suite.finish())
}
