//! A policy whose rules have places instead of numbers.

use std::path::Path;

use super::bpf::DraftBpf;
use crate::model::{
    Audit, Limits, Mode, Origin, PathRule, Policy, Preopen, PreopenKind, Rule, RuleKind, RuleNumber,
};
use crate::network::{Action, Endpoint, NetworkRule};
use crate::pattern::Pattern;
use crate::source::{LineIndex, Span};

#[derive(Default)]
pub(super) struct Draft {
    pub(super) mode: Mode,
    pub(super) preopens: Vec<DraftPreopen>,
    pub(super) network: Vec<DraftNetworkRule>,
    pub(super) limits: Limits,
    pub(super) audit: Audit,
    pub(super) bpf: Option<DraftBpf>,
}

pub(super) struct DraftPreopen {
    pub(super) guest: String,
    pub(super) guest_span: Span,
    pub(super) host: String,
    /// Where the preopen starts.
    pub(super) place: Span,
    pub(super) rules: Vec<DraftRule>,
    /// Some list could not be read: what it would have granted is not known.
    pub(super) incomplete: bool,
}

pub(super) struct DraftRule {
    pub(super) kind: RuleKind,
    pub(super) pattern: Pattern,
    pub(super) span: Span,
}

pub(super) struct DraftNetworkRule {
    pub(super) action: Action,
    pub(super) endpoint: Endpoint,
    pub(super) text: String,
    pub(super) span: Span,
}

impl Draft {
    /// Numbers the rules in the order of the text.
    pub(super) fn into_policy(self, lines: &LineIndex<'_>) -> Policy {
        let mut rules: Vec<(usize, Rule)> = Vec::new();
        let mut add = |span: &Span, kind, preopen, text: &str| {
            let (line, column) = lines.position(span.start);
            let origin = Origin::Policy { line, column };
            rules.push((span.start, Rule { number: 0, kind, preopen, text: text.into(), origin }));
        };
        for (index, preopen) in self.preopens.iter().enumerate() {
            for rule in &preopen.rules {
                add(&rule.span, rule.kind, Some(index), rule.pattern.text());
            }
        }
        for rule in &self.network {
            let kind = match rule.action {
                Action::Connect => RuleKind::Connect,
                Action::Bind => RuleKind::Bind,
            };
            add(&rule.span, kind, None, &rule.text);
        }
        rules.sort_by_key(|(start, _)| *start);
        for (index, (_, rule)) in rules.iter_mut().enumerate() {
            rule.number = RuleNumber::try_from(index + 1).unwrap_or(RuleNumber::MAX);
        }
        // A rule's place is its own: no two values of a text start at the same byte.
        let number = |span: &Span| {
            let at = rules.binary_search_by_key(&span.start, |(start, _)| *start);
            at.ok().and_then(|at| rules.get(at)).map_or(0, |(_, rule)| rule.number)
        };

        let preopens = self
            .preopens
            .into_iter()
            .map(|draft| {
                let mut preopen = Preopen {
                    guest: draft.guest,
                    // Without a slash or `.` at the end, behind which the kernel would follow a
                    // symbolic link that must not be one.
                    host: Path::new(&draft.host).components().collect(),
                    kind: PreopenKind::Directory,
                    read: Vec::new(),
                    write: Vec::new(),
                    create: Vec::new(),
                    delete: Vec::new(),
                    deny: Vec::new(),
                    line: Some(lines.position(draft.place.start).0),
                };
                for rule in draft.rules {
                    let path_rule = PathRule { number: number(&rule.span), pattern: rule.pattern };
                    match rule.kind {
                        RuleKind::Read => preopen.read.push(path_rule),
                        RuleKind::Write => preopen.write.push(path_rule),
                        RuleKind::Create => preopen.create.push(path_rule),
                        RuleKind::Delete => preopen.delete.push(path_rule),
                        RuleKind::Deny => preopen.deny.push(path_rule),
                        RuleKind::Connect | RuleKind::Bind => {}
                    }
                }
                for list in [
                    &mut preopen.read,
                    &mut preopen.write,
                    &mut preopen.create,
                    &mut preopen.delete,
                    &mut preopen.deny,
                ] {
                    list.sort_by_key(|rule| rule.number);
                }
                preopen
            })
            .collect();
        let mut network: Vec<NetworkRule> = self
            .network
            .into_iter()
            .map(|draft| NetworkRule {
                number: number(&draft.span),
                action: draft.action,
                protocol: draft.endpoint.protocol,
                host: draft.endpoint.host,
                port_low: draft.endpoint.port_low,
                port_high: draft.endpoint.port_high,
            })
            .collect();
        network.sort_by_key(|rule| rule.number);
        Policy {
            mode: self.mode,
            preopens,
            network,
            limits: self.limits,
            audit: self.audit,
            bpf: self.bpf.map(|draft| draft.bpf),
            rules: rules.into_iter().map(|(_, rule)| rule).collect(),
        }
    }
}
