//! What is wrong between rules that are each well formed.

use std::collections::HashMap;
use std::path::{Component, Path};

use wasi_guard_abi::table::{MAX_NET_RULES, MAX_PREOPENS};

use super::draft::{Draft, DraftPreopen, DraftRule};
use crate::diagnostic::Findings;
use crate::guest_path;
use crate::model::RuleKind;
use crate::pattern::cover::{Reach, Shadows};
use crate::pattern::{MAX_NAME_BYTES, PathPattern, Pattern};
use crate::source::LineIndex;

pub(super) fn validate(draft: &Draft, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    counts(draft, findings);
    duplicate_preopens(draft, lines, findings);
    for preopen in &draft.preopens {
        roots(preopen, findings);
        shadows(preopen, lines, findings);
        repetitions(preopen, lines, findings);
        impossible(preopen, findings);
        if !preopen.incomplete && preopen.rules.iter().all(|rule| rule.kind == RuleKind::Deny) {
            findings.warn(
                preopen.guest_span.clone(),
                format!("the preopen \"{}\" grants nothing", preopen.guest),
                Some("add a list, as in `read = [\"**\"]`, or remove the preopen".into()),
            );
        }
    }
    nested_preopens(draft, lines, findings);
    repeated_endpoints(draft, lines, findings);
}

fn counts(draft: &Draft, findings: &mut Findings<'_>) {
    if let Some(preopen) = draft.preopens.get(MAX_PREOPENS) {
        findings.error(
            preopen.place.clone(),
            format!("{} preopens; a policy may have {MAX_PREOPENS}", draft.preopens.len()),
            Some("use a directory above several of them, with patterns".into()),
        );
    }
    if let Some(rule) = draft.network.get(MAX_NET_RULES) {
        findings.error(
            rule.span.clone(),
            format!("{} network rules; a policy may have {MAX_NET_RULES}", draft.network.len()),
            Some("use networks and port ranges".into()),
        );
    }
}

fn duplicate_preopens(draft: &Draft, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    let mut seen: HashMap<Vec<&[u8]>, u32> = HashMap::new();
    for preopen in draft.preopens.iter().filter(|preopen| !preopen.guest.is_empty()) {
        let names = guest_path::names(preopen.guest.as_bytes());
        let line = lines.position(preopen.guest_span.start).0;
        if let Some(first) = seen.get(&names) {
            findings.error(
                preopen.guest_span.clone(),
                format!(
                    "a second preopen named \"{}\"; the first is on line {first}",
                    preopen.guest
                ),
                Some("join the two, or give this one another name".into()),
            );
        } else {
            seen.insert(names, line);
        }
    }
}

/// The preopen itself is there before the guest and stays after it.
fn roots(preopen: &DraftPreopen, findings: &mut Findings<'_>) {
    for rule in &preopen.rules {
        if !matches!(rule.kind, RuleKind::Create | RuleKind::Delete) {
            continue;
        }
        if rule.pattern.alternatives().iter().all(|path| path.parts.is_empty()) {
            findings.error(
                rule.span.clone(),
                format!("this rule can never match: no guest may {} a preopen itself", rule.kind),
                Some("`**` stands for everything below it".into()),
            );
        }
    }
}

fn shadows(preopen: &DraftPreopen, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    let line = |rule: &DraftRule| lines.position(rule.span.start).0;
    let denies = of_kind(preopen, RuleKind::Deny);
    let denied = Shadows::of(Reach::Below, denies.iter().map(|rule| &rule.pattern));
    covered(&denies, &denied, |rule, deny| {
        findings.warn(
            rule.span.clone(),
            format!("line {} already denies everything that this rule denies", line(deny)),
            Some("remove it".into()),
        );
    });
    for kind in [RuleKind::Read, RuleKind::Write, RuleKind::Create, RuleKind::Delete] {
        let rules = of_kind(preopen, kind);
        let mut dead = vec![false; rules.len()];
        for (rule, dead) in rules.iter().zip(&mut dead) {
            let Some(deny) = denied.first_over(&rule.pattern).map(|index| denies[index]) else {
                continue;
            };
            *dead = true;
            findings.error(
                rule.span.clone(),
                format!(
                    "this rule can never match: line {} denies everything that it could grant",
                    line(deny)
                ),
                Some(format!("remove it, or narrow `deny` \"{}\"", deny.pattern)),
            );
        }
        let alive: Vec<&DraftRule> =
            rules.iter().zip(dead).filter(|(_, dead)| !dead).map(|(rule, _)| *rule).collect();
        let granted = Shadows::of(Reach::Names, alive.iter().map(|rule| &rule.pattern));
        covered(&alive, &granted, |rule, wider| {
            findings.warn(
                rule.span.clone(),
                format!("line {} already grants everything that this rule grants", line(wider)),
                Some(format!("remove it, or narrow `{kind}` \"{}\"", wider.pattern)),
            );
        });
    }
}

fn of_kind(preopen: &DraftPreopen, kind: RuleKind) -> Vec<&DraftRule> {
    preopen.rules.iter().filter(|rule| rule.kind == kind).collect()
}

/// Reports each rule that another one of the same list covers. Repetitions are reported by
/// [`repetitions`].
fn covered(
    rules: &[&DraftRule],
    shadows: &Shadows<'_>,
    mut report: impl FnMut(&DraftRule, &DraftRule),
) {
    for (number, rule) in rules.iter().enumerate() {
        let other = shadows.first_over_own(number).map(|index| rules[index]);
        if let Some(other) = other.filter(|other| other.pattern != rule.pattern) {
            report(rule, other);
        }
    }
}

fn repetitions(preopen: &DraftPreopen, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    let mut seen: HashMap<(RuleKind, &str), u32> = HashMap::new();
    for rule in &preopen.rules {
        let line = lines.position(rule.span.start).0;
        if let Some(first) = seen.get(&(rule.kind, rule.pattern.text())) {
            findings.warn(
                rule.span.clone(),
                format!("the same rule as on line {first}"),
                Some("remove it".into()),
            );
        } else {
            seen.insert((rule.kind, rule.pattern.text()), line);
        }
    }
}

fn impossible(preopen: &DraftPreopen, findings: &mut Findings<'_>) {
    for rule in &preopen.rules {
        if rule.pattern.alternatives().iter().all(PathPattern::is_impossible) {
            findings.warn(
                rule.span.clone(),
                "this rule never matches: no file can have such a name",
                Some(format!("a name has at most {MAX_NAME_BYTES} bytes, and is not `.` or `..`")),
            );
        }
    }
}

/// Where preopens lie inside each other, the innermost one decides; of two that are one directory
/// the first.
fn nested_preopens(draft: &Draft, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    let line = |preopen: &DraftPreopen| lines.position(preopen.guest_span.start).0;
    for (at, outer) in draft.preopens.iter().enumerate() {
        for (other, inner) in draft.preopens.iter().enumerate() {
            let Some(names) = way(&outer.host, &inner.host) else { continue };
            if names.is_empty() {
                if at < other {
                    findings.warn(
                        inner.guest_span.clone(),
                        format!(
                            "the rules of this preopen never match: the preopen \"{}\" on line {} \
                             is the same directory and decides",
                            outer.guest,
                            line(outer)
                        ),
                        Some("move them there".into()),
                    );
                }
                continue;
            }
            let same = |earlier: &DraftPreopen| way(&earlier.host, &inner.host) == Some(Vec::new());
            if draft.preopens[..other].iter().any(same) {
                continue;
            }
            let inner_root = Pattern::literal(names.iter().map(|name| name.as_bytes()));
            let root = Shadows::of(Reach::Below, [&inner_root]);
            for rule in outer.rules.iter().filter(|rule| root.first_over(&rule.pattern).is_some()) {
                findings.warn(
                    rule.span.clone(),
                    format!(
                        "this rule never matches: \"{}\" and all below belong to the preopen \
                         \"{}\" on line {}",
                        inner_root.text(),
                        inner.guest,
                        line(inner)
                    ),
                    Some("move it to that preopen".into()),
                );
            }
        }
    }
}

/// The names from one directory down to another, if the text of their paths shows that the second
/// is the first or lies below it.
fn way<'p>(outer: &str, inner: &'p str) -> Option<Vec<&'p str>> {
    if outer.is_empty() || inner.is_empty() {
        return None;
    }
    let (outer, inner) = (plain(outer), plain(inner));
    if outer.components().chain(inner.components()).any(|it| it == Component::ParentDir) {
        return None;
    }
    let rest = inner.strip_prefix(outer).ok()?;
    rest.components()
        .map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect()
}

/// A path without a `.` at its beginning, which would be a component of its own.
fn plain(path: &str) -> &Path {
    let path = Path::new(path);
    path.strip_prefix(".").unwrap_or(path)
}

fn repeated_endpoints(draft: &Draft, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    for (at, rule) in draft.network.iter().enumerate() {
        let first = draft.network[..at]
            .iter()
            .find(|other| other.action == rule.action && other.endpoint == rule.endpoint);
        if let Some(first) = first {
            let line = lines.position(first.span.start).0;
            findings.warn(
                rule.span.clone(),
                format!("the same rule as on line {line}"),
                Some("remove it".into()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_directory_lies_below_which() {
        for (outer, inner, names) in [
            ("data", "./data/in/x", Some(&["in", "x"][..])),
            (".", "data", Some(&["data"])),
            ("./", "./data/", Some(&["data"])),
            ("/srv", "/srv//a/./b", Some(&["a", "b"])),
            ("/", "/srv", Some(&["srv"])),
            ("data", "./data/", Some(&[])),
            (".", "./.", Some(&[])),
            ("data", "database", None),
            ("/data", "data/x", None),
            (".", "/data", None),
            ("data", "data/../x", None),
            ("data/x", "data", None),
            ("", "", None),
        ] {
            assert_eq!(way(outer, inner).as_deref(), names, "{outer} {inner}");
        }
    }
}
