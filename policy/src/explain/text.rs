//! Answers as people read them.

use std::fmt;

use wasi_guard_abi::operation::Reason;

use super::{Explanation, RunnerUp};
use crate::evaluate::Verdict;
use crate::model::{Rule, rights_text};

impl Explanation {
    /// The verdict and what decided, in one line: `denied by deny "**/*.pem" (line 24)`.
    pub fn summary(&self) -> String {
        summary(&self.verdict, self.rule.as_ref())
    }
}

/// One or more lines without a line feed at the end: the verdict, then why.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { allowed, wanted, rights, second, .. } = self.verdict;
        f.write_str(match (allowed, self.audit_mode) {
            (true, _) => "allowed",
            (false, false) => "denied",
            (false, true) => "denied, but let through: mode = \"audit\"",
        })?;
        match (&self.rule, self.verdict.reason) {
            (Some(rule), None) => write!(f, "\n  granted by {rule}")?,
            (None, None) => {
                f.write_str("\n  granted because it is on the way to a name that a rule grants")?;
            }
            (Some(rule), Some(_)) => write!(f, "\n  denied by {rule}")?,
            (None, Some(reason)) => write!(f, "\n  {}", because(reason))?,
        }
        if let Some(RunnerUp { verdict, rule }) = &self.runner_up {
            let still = if verdict.allowed == allowed { "still " } else { "" };
            write!(f, "\n  without it: {still}{}", summary(verdict, rule.as_ref()))?;
        }
        if wanted != 0 {
            let which = if second { " at the new name" } else { "" };
            if self.verdict.reason == Some(Reason::Widens) {
                write!(
                    f,
                    "\n  rights at the old name: {}; carried rights at the new name: {}",
                    rights_text(rights),
                    rights_text(wanted)
                )?;
            } else {
                write!(
                    f,
                    "\n  needed{which}: {}; has: {}",
                    rights_text(wanted),
                    rights_text(rights)
                )?;
            }
        }
        if let Some(rule) = &self.new_name_rule {
            write!(f, "\n  the new name granted by {rule}")?;
        }
        Ok(())
    }
}

fn summary(verdict: &Verdict, rule: Option<&Rule>) -> String {
    match (rule, verdict.reason) {
        (Some(rule), None) => format!("allowed by {rule}"),
        (None, None) => "allowed: it is on the way to a name that a rule grants".into(),
        (Some(rule), Some(_)) => format!("denied by {rule}"),
        (None, Some(reason)) => format!("denied: {}", because(reason)),
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::Deny => "a deny rule matches",
        Reason::NotGranted => "no rule grants it",
        Reason::Outside => "it lies below none of the policy's preopens",
        Reason::NoPolicy => "there is no policy",
        Reason::Widens => "the new name would give rights that the old one does not",
        Reason::Never => "no policy can grant it",
        Reason::Error => "an error or a limit was met",
        Reason::Linked => "another name of the same file does not have the right",
        Reason::Moving => "names kept changing while they were read",
    }
}
