//! What several targets need.

pub mod object;

use std::alloc::System;

use cap::Cap;
use wasi_guard_policy::pattern::{Element, Part, Pattern};
use wasi_guard_policy::{Grants, Origin, PathRule, Policy, Rule, RuleKind, RuleNumber};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `work`, which may hold at most `bytes` more than is held now: more ends the process, which
/// the fuzzer reports.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let limit = |bytes| ALLOCATOR.set_limit(bytes).expect("a limit above what is held");
    limit(ALLOCATOR.allocated() + bytes);
    let result = work();
    limit(usize::MAX);
    result
}

/// The names of a path that a file can have.
pub fn names(path: &[u8]) -> Vec<&[u8]> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|name| !matches!(*name, b"" | b"." | b"..") && !name.contains(&0)).collect()
}

/// `*`, `**` and names of a pattern, over all that it stands for. Evaluator and compiler take
/// exponential time in the first two at worst, which is no news: targets leave such patterns out.
#[derive(Clone, Copy, Default)]
pub struct Size {
    /// How many `*` and `**`.
    pub wild: usize,
    /// How many elements of names.
    pub elements: usize,
}

impl Size {
    /// Of some patterns together.
    pub fn of<'p>(patterns: impl IntoIterator<Item = &'p Pattern>) -> Self {
        let mut size = Self::default();
        let paths = patterns.into_iter().flat_map(Pattern::alternatives);
        for part in paths.flat_map(|path| &path.parts) {
            match part {
                Part::Names => size.wild += 1,
                Part::Name(name) => {
                    size.elements += name.elements.len();
                    size.wild += name.elements.iter().filter(|it| **it == Element::Star).count();
                }
            }
        }
        size
    }

    /// Whether a policy of this size compiles in far less than a second.
    pub fn is_small(self) -> bool {
        self.wild <= 10 && self.elements <= 600
    }
}

/// A policy of preopens `/0`, `/1`, ..., each with lists of patterns that are given as kind and
/// pattern.
pub fn policy(preopens: &[&[(RuleKind, &Pattern)]]) -> Policy {
    let dirs = (0..preopens.len()).map(|index| ("/".into(), format!("/{index}"))).collect();
    let mut policy = Policy::from_grants(&Grants { dirs, ..Grants::default() });
    policy.rules.clear();
    for (index, (preopen, list)) in policy.preopens.iter_mut().zip(preopens).enumerate() {
        for rules in
            [&mut preopen.read, &mut preopen.write, &mut preopen.create, &mut preopen.delete]
        {
            rules.clear();
        }
        for (kind, pattern) in *list {
            let number = policy.rules.len() as RuleNumber + 1;
            policy.rules.push(Rule {
                number,
                kind: *kind,
                preopen: Some(index),
                text: pattern.text().to_owned(),
                origin: Origin::Policy { line: number, column: 1 },
            });
            let rules = match kind {
                RuleKind::Read => &mut preopen.read,
                RuleKind::Write => &mut preopen.write,
                RuleKind::Create => &mut preopen.create,
                RuleKind::Delete => &mut preopen.delete,
                _ => &mut preopen.deny,
            };
            rules.push(PathRule { number, pattern: (*pattern).clone() });
        }
    }
    policy
}
