//! Does a record say what the oracle says?

use std::{os::unix::ffi::OsStrExt as _, path::Path};

use anyhow::{Result, anyhow, ensure};
use wasi_guard_enforce::records::{Denial, Name};
use wasi_guard_policy::{Place, evaluate::Verdict};

use crate::{
    expect::{Judgement, Why},
    lab::within_file_system,
    stage::Stage,
};

impl Stage {
    /// Compares everything that a record says.
    pub(crate) fn check(
        &self,
        record: &Denial,
        judgement: &Judgement,
        verdict: &Verdict,
        why: Why,
    ) -> Result<()> {
        ensure!(record.process == self.inside.pid(), "the process is {}", self.inside.pid());
        ensure!(record.operation == judgement.attempt.operation(), "operation");
        ensure!(record.reason == why.reason(), "reason, not {:?}", why.reason());
        ensure!(record.wanted == verdict.wanted, "wanted rights, not {}", verdict.wanted);
        ensure!(record.rights == verdict.rights, "rights, not {}", verdict.rights);
        ensure!(record.rule == verdict.rule, "rule, not {}", verdict.rule);
        ensure!(record.second == verdict.second, "which name");
        ensure!(!record.cut, "the path is not too long");
        if let Why::Deny(text) = why {
            self.names_line(record.rule, text)?;
        } else {
            ensure!(record.rule == 0, "a rule where none decides");
        }
        if why != Why::OutsideSomewhere {
            ensure!(record.names.len() == judgement.names.len(), "number of names");
            for (name, path) in record.names.iter().zip(&judgement.names) {
                self.check_name(name, path)?;
            }
        }
        let address = record.socket.and_then(|socket| socket.address);
        ensure!(address == judgement.address, "address, not {:?}", judgement.address);
        Ok(())
    }

    /// The rule with this number stands in a line of the policy that has `text`.
    fn names_line(&self, rule: u32, text: &str) -> Result<()> {
        let rule = self.policy.rule(rule).ok_or_else(|| anyhow!("no rule {rule}"))?;
        let line = rule.line().ok_or_else(|| anyhow!("rule without a line"))?;
        let line = self.text.lines().nth(line as usize - 1).unwrap_or_default();
        ensure!(
            rule.text == text && line.starts_with("deny") && line.contains(text),
            "the rule {rule} at {line:?} is not {text:?}"
        );
        Ok(())
    }

    fn check_name(&self, name: &Name, path: &Path) -> Result<()> {
        let wanted = match self.ground(None).place(path) {
            Place::Under(name) => (Some(name.preopen as u16), name.components.join(&b'/')),
            Place::Outside => {
                let path = within_file_system(path)
                    .ok_or_else(|| anyhow!("{} is not the suite's", path.display()))?;
                (None, path.as_os_str().as_bytes().to_vec())
            }
        };
        ensure!(
            (name.preopen, &name.path) == (wanted.0, &wanted.1),
            "the name {name:?} is not {:?} {}",
            wanted.0,
            wanted.1.escape_ascii()
        );
        Ok(())
    }
}

/// Records as a failed case shows them.
pub(crate) fn told(records: &[Denial]) -> String {
    let one = |record: &Denial| {
        let names: Vec<String> = record
            .names
            .iter()
            .map(|name| {
                let from = name.path.len().saturating_sub(80);
                format!("{:?} \"{}\"", name.preopen, name.path[from..].escape_ascii())
            })
            .collect();
        format!(
            "[{} {} wanted {} of {} rule {} second {} names {} {:?}]",
            record.operation.name(),
            record.reason.name(),
            record.wanted,
            record.rights,
            record.rule,
            record.second,
            names.join(" and "),
            record.socket,
        )
    };
    records.iter().map(one).collect::<Vec<_>>().join(" ")
}
