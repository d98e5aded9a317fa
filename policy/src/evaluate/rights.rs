//! The rights of a name.

use wasi_guard_abi::operation::right;

use super::matcher;
use crate::model::{PathRule, Policy, Preopen, RuleNumber};

/// The rights of a name and the rules behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Mask of [`wasi_guard_abi::operation::right`].
    pub rights: u16,
    /// Number of the deny rule that decides, 0 if none matches: of those that match the name
    /// nearest to the preopen the first one.
    pub deny_rule: RuleNumber,
    /// For each right that a rule of its list grants the first such rule: a bit of
    /// [`wasi_guard_abi::operation::right`] and the number. Empty if a deny rule matches.
    pub granted: Vec<(u16, RuleNumber)>,
}

impl Decision {
    /// A rule behind the lowest of the wanted rights; for STAT alone any granting rule; 0 if no
    /// single rule stands for it.
    pub fn granting_rule(&self, wanted: u16) -> RuleNumber {
        let by_right = |mask| self.granted.iter().find(|(bit, _)| bit & mask != 0);
        by_right(wanted)
            .or_else(|| (wanted == right::STAT).then(|| by_right(right::ALL)).flatten())
            .map_or(0, |(_, rule)| *rule)
    }
}

/// The rights of the name with these components below a preopen; none for a preopen that the
/// policy does not have.
pub fn rights(policy: &Policy, preopen: usize, components: &[&[u8]]) -> Decision {
    let Some(preopen) = policy.preopens.get(preopen) else {
        return Decision::default();
    };
    // A deny rule denies what it matches and everything below: it matches some beginning of the
    // path, the path itself included. The shortest beginning that is denied decides.
    for length in 0..=components.len() {
        let denies = |rule: &&PathRule| matches_rule(rule, &components[..length]);
        if let Some(rule) = preopen.deny.iter().filter(denies).min_by_key(|rule| rule.number) {
            return Decision { deny_rule: rule.number, ..Decision::default() };
        }
    }
    let mut decision = Decision::default();
    let mut leads = false;
    for (bit, rules) in preopen.grants() {
        leads |= rules.iter().any(|rule| {
            rule.pattern.alternatives().iter().any(|path| matcher::leads_to(path, components))
        });
        if components.is_empty() && (bit == right::CREATE || bit == right::DELETE) {
            continue;
        }
        let first =
            rules.iter().filter(|rule| matches_rule(rule, components)).min_by_key(|r| r.number);
        if let Some(rule) = first {
            decision.rights |= bit;
            decision.granted.push((bit, rule.number));
        }
    }
    if leads || decision.rights != 0 {
        decision.rights |= right::STAT;
    }
    decision
}

/// Whether a `create` rule of a preopen matches the name with these components, denied or not.
pub fn names_creatable(preopen: &Preopen, components: &[&[u8]]) -> bool {
    preopen.create.iter().any(|rule| matches_rule(rule, components))
}

fn matches_rule(rule: &PathRule, path: &[&[u8]]) -> bool {
    rule.pattern.alternatives().iter().any(|pattern| matcher::matches(pattern, path))
}
