//! A policy from the options of the command line, for runs without a policy file.

use std::path::PathBuf;

use crate::model::{
    Audit, Limits, Mode, Origin, PathRule, Policy, Preopen, PreopenKind, Rule, RuleKind, RuleNumber,
};
use crate::network::{Action, Host, NetworkRule, Protocol};
use crate::pattern::Pattern;

/// What `wasmtime run`'s options grant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// `--dir HOST::GUEST`: host directory and name for the guest. Everything below is granted.
    pub dirs: Vec<(PathBuf, String)>,
    /// `-S inherit-network` with TCP: every address, connect and bind.
    pub tcp: bool,
    /// `-S inherit-network` with UDP: every address, connect and bind.
    pub udp: bool,
    /// Bounds from `-W` and others.
    pub limits: Limits,
}

impl Policy {
    /// The policy that grants what the options grant and nothing else. Its rules name the option
    /// instead of a line.
    pub fn from_grants(grants: &Grants) -> Self {
        let mut rules = Vec::new();
        let mut number = |kind, preopen, text: &str, option: &str| -> RuleNumber {
            let number = RuleNumber::try_from(rules.len() + 1).unwrap_or(RuleNumber::MAX);
            let origin = Origin::CommandLine(option.into());
            rules.push(Rule { number, kind, preopen, text: text.into(), origin });
            number
        };
        let everything = Pattern::everything();
        let preopens = grants
            .dirs
            .iter()
            .enumerate()
            .map(|(index, (host, guest))| {
                let option = format!("--dir {}::{guest}", host.display());
                let mut list = |kind| {
                    let number = number(kind, Some(index), everything.text(), &option);
                    vec![PathRule { number, pattern: everything.clone() }]
                };
                Preopen {
                    guest: guest.clone(),
                    host: host.clone(),
                    kind: PreopenKind::Directory,
                    read: list(RuleKind::Read),
                    write: list(RuleKind::Write),
                    create: list(RuleKind::Create),
                    delete: list(RuleKind::Delete),
                    deny: Vec::new(),
                    line: None,
                }
            })
            .collect();
        let mut network = Vec::new();
        for (granted, protocol) in [(grants.tcp, Protocol::Tcp), (grants.udp, Protocol::Udp)] {
            for (action, kind) in
                [(Action::Connect, RuleKind::Connect), (Action::Bind, RuleKind::Bind)]
            {
                if granted {
                    let text = format!("{protocol}://*:*");
                    network.push(NetworkRule {
                        number: number(kind, None, &text, "-S inherit-network"),
                        action,
                        protocol,
                        host: Host::Any,
                        port_low: 0,
                        port_high: u16::MAX,
                    });
                }
            }
        }
        Self {
            mode: Mode::Enforce,
            preopens,
            network,
            limits: grants.limits,
            audit: Audit::default(),
            bpf: None,
            rules,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_name_the_option_that_they_came_from() {
        let grants = Grants {
            dirs: vec![("./data".into(), "/data".into())],
            tcp: true,
            ..Grants::default()
        };
        let policy = Policy::from_grants(&grants);
        assert_eq!(policy.rules.len(), 6);
        assert_eq!(policy.rule(1).unwrap().to_string(), "read \"**\" (--dir ./data::/data)");
        assert_eq!(policy.rule(6).unwrap().to_string(), "bind \"tcp://*:*\" (-S inherit-network)");
        assert!(policy.rule(0).is_none() && policy.rule(7).is_none());
        assert_eq!(policy.preopens[0].delete[0].number, 4);
    }
}
