//! Each system call that ends a worker, once more from a second thread: the whole process must end,
//! not the thread that makes the call.
//!
//! Stopped by: seccomp, a `[[kill]]` row. The list itself says which rows there are, so a new row
//! without an idea fails the suite.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use syscalls::Sysno;
use wasi_guard_captive::{Entry, Script, Step};

use crate::idea::{Attempt, Draft, Guarded, Idea};
use crate::trial::Lab;

const LIST: &str = include_str!("../../../policies/seccomp/run.toml");
/// The compiler's; see `compiler.rs`.
pub(super) const COMPILE_LIST: &str = include_str!("../../../policies/seccomp/compile.toml");

#[derive(Deserialize)]
struct List {
    kill: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    syscall: String,
}

/// The calls of a list's rows.
pub(super) fn rows(list: &str) -> Result<BTreeSet<Sysno>> {
    let list: List = toml::from_str(list).context("read the seccomp list")?;
    let number = |row: &Row| {
        row.syscall.parse().ok().with_context(|| format!("{} is no system call", row.syscall))
    };
    list.kill.iter().map(number).collect()
}

/// For each row the first of the ideas that tries it.
pub(super) fn ideas<'a>(others: &[Idea<'a>]) -> Vec<Idea<'a>> {
    // A list that cannot be read fails the case below.
    let mut rows = rows(LIST).unwrap_or_default();
    let mut ideas = vec![Idea::Case("every_call_that_ends_a_worker_is_an_idea", every_row)];
    for other in others {
        if let Idea::Attempt(attempt) = other
            && ends_by(attempt).is_some_and(|call| rows.remove(&call))
        {
            ideas.push(Idea::Attempt(attempt.by_a_second_thread()));
        }
    }
    ideas
}

/// The call by which an attempt ends the worker.
pub(crate) fn ends_by(attempt: &Attempt<'_>) -> Option<Sysno> {
    let (script, decides) = Draft::write(false, &*attempt.writer);
    if attempt.guarded == Guarded::Killed { call(&script, decides) } else { None }
}

/// The call that this step of a script makes, in the way that the rows are about.
pub(super) fn call(script: &Script, step: usize) -> Option<Sysno> {
    match script.steps.get(step)? {
        Step::Call(call) if call.entry == Entry::Plain => {
            Sysno::new(usize::try_from(call.number).ok()?)
        }
        _ => None,
    }
}

fn every_row(lab: &mut Lab<'_>) -> Result<()> {
    let all = super::all(lab.scene);
    for second in [false, true] {
        let tried: BTreeSet<_> = all
            .iter()
            .filter_map(|idea| match idea {
                Idea::Attempt(attempt) if attempt.second == second => ends_by(attempt),
                _ => None,
            })
            .collect();
        let missing: Vec<_> = rows(LIST)?.difference(&tried).map(|call| call.name()).collect();
        ensure!(missing.is_empty(), "no idea (from a second thread: {second}) tries {missing:?}");
    }
    Ok(())
}
