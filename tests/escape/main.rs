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

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};

use crate::scene::Scene;
use crate::trial::Lab;

fn main() -> ExitCode {
    if let Some(code) = outside::serve_if_asked() {
        return code;
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("escape-suite: {error:#}");
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
    ensure!(rustix::process::geteuid().is_root(), "the escape suite runs as root");
    let scene = Scene::set()?;
    let mut ideas = ideas::all(&scene);
    ideas.retain(|idea| {
        filters.is_empty() || filters.iter().any(|filter| idea.name().contains(filter.as_str()))
    });
    if list {
        ideas.iter().for_each(|idea| println!("{}: {}", idea.name(), idea.ends()));
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(!ideas.is_empty(), "no idea has {} in its name", filters.join(" or "));
    let begin = Instant::now();
    let mut lab = Lab::new(&scene);
    let (mut passed, mut failed) = (0, 0);
    let mut report = |name: &str, result: Result<()>| {
        match &result {
            Ok(()) => println!("ok {name}"),
            Err(error) => println!("FAILED {name}: {error:#}"),
        }
        *(if result.is_ok() { &mut passed } else { &mut failed }) += 1;
        result.is_ok()
    };
    for idea in &ideas {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| idea.try_it(&mut lab)))
            .unwrap_or_else(|_| Err(anyhow!("panicked")));
        if !report(idea.name(), result) {
            lab.forget();
        }
    }
    report("the_last_worker_ends_in_order", lab.close());
    println!("{} ideas in {:.0?}", ideas.len(), begin.elapsed());
    println!("escape-suite: {passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
