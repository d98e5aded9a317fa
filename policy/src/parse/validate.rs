//! What is wrong between rules that are each well formed.

use std::collections::HashMap;

use wasi_guard_abi::table::{MAX_NET_RULES, MAX_PREOPENS};

use super::draft::{Draft, DraftPreopen, DraftRule};
use crate::diagnostic::Findings;
use crate::guest_path;
use crate::model::RuleKind;
use crate::pattern::cover::Shadows;
use crate::source::LineIndex;

pub(super) fn validate(draft: &Draft, lines: &LineIndex<'_>, findings: &mut Findings<'_>) {
    counts(draft, findings);
    duplicate_preopens(draft, lines, findings);
    for preopen in &draft.preopens {
        roots(preopen, findings);
        shadows(preopen, lines, findings);
        repetitions(preopen, lines, findings);
        if !preopen.incomplete && preopen.rules.iter().all(|rule| rule.kind == RuleKind::Deny) {
            findings.warn(
                preopen.guest_span.clone(),
                format!("the preopen \"{}\" grants nothing", preopen.guest),
                Some("add a list, as in `read = [\"**\"]`, or remove the preopen".into()),
            );
        }
    }
    repeated_endpoints(draft, lines, findings);
}

fn counts(draft: &Draft, findings: &mut Findings<'_>) {
    if let Some(preopen) = draft.preopens.get(MAX_PREOPENS) {
        findings.error(
            preopen.place.clone(),
            format!("more than {MAX_PREOPENS} preopens"),
            Some("use a directory above several of them, with patterns".into()),
        );
    }
    if let Some(rule) = draft.network.get(MAX_NET_RULES) {
        findings.error(
            rule.span.clone(),
            format!("more than {MAX_NET_RULES} network rules"),
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
    let (denies, grants): (Vec<&DraftRule>, Vec<&DraftRule>) =
        preopen.rules.iter().partition(|rule| rule.kind == RuleKind::Deny);
    let mut shadows = Shadows::default();
    for rule in &denies {
        let earlier = shadows.first_over(&rule.pattern).map(|index| denies[index]);
        if let Some(deny) = earlier.filter(|deny| deny.pattern != rule.pattern) {
            findings.warn(
                rule.span.clone(),
                format!("line {} already denies everything that this rule denies", line(deny)),
                Some("remove it".into()),
            );
        }
        shadows.add(&rule.pattern);
    }
    for rule in grants {
        if let Some(deny) = shadows.first_over(&rule.pattern).map(|index| denies[index]) {
            findings.error(
                rule.span.clone(),
                format!(
                    "this rule can never match: line {} denies everything that it could grant",
                    line(deny)
                ),
                Some(format!("remove it, or narrow `deny` \"{}\"", deny.pattern)),
            );
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
