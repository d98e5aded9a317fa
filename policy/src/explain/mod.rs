//! What a policy says about one operation, for people.

mod question;
#[cfg(test)]
mod tests;
mod text;

use crate::evaluate::{Attempt, Verdict, evaluate_with};
use crate::model::{Addresses, Mode, Policy, Rule};

pub use question::{ExplainError, Question, operation_names};

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The question as an attempt.
    pub attempt: Attempt,
    /// What the policy says.
    pub verdict: Verdict,
    /// The rule that decided: the one that denies, or one that grants.
    pub rule: Option<Rule>,
    /// For a rename that is granted: the rule that grants the new name. `rule` is about the old.
    pub new_name_rule: Option<Rule>,
    /// What would hold if the policy did not have `rule`; `None` if no rule decided.
    pub runner_up: Option<RunnerUp>,
    /// Whether the policy only records denials.
    pub audit_mode: bool,
}

/// What would hold without the rule that decided.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerUp {
    /// What the policy would say.
    pub verdict: Verdict,
    /// The rule that would decide.
    pub rule: Option<Rule>,
}

/// Answers a question about a policy. `addresses` are those of the host names in its network
/// rules.
///
/// # Errors
/// The question is not one: [`ExplainError`].
pub fn explain(
    policy: &Policy,
    addresses: &Addresses,
    question: &Question,
) -> Result<Explanation, ExplainError> {
    let attempt = question.attempt(policy)?;
    let verdict = evaluate_with(policy, addresses, &attempt);
    let rule = deciding(policy, &verdict);
    let runner_up = rule.as_ref().map(|rule| {
        let policy = policy.without(rule.number);
        let verdict = evaluate_with(&policy, addresses, &attempt);
        RunnerUp { verdict, rule: deciding(&policy, &verdict) }
    });
    let new_name_rule = match &attempt {
        Attempt::Rename { to, .. } if verdict.allowed => {
            let create = Attempt::Create { path: to.clone() };
            deciding(policy, &evaluate_with(policy, addresses, &create))
        }
        _ => None,
    };
    let audit_mode = policy.mode == Mode::Audit;
    Ok(Explanation { attempt, verdict, rule, new_name_rule, runner_up, audit_mode })
}

/// The rule behind a verdict.
fn deciding(policy: &Policy, verdict: &Verdict) -> Option<Rule> {
    let number = if verdict.allowed { verdict.granted_by } else { verdict.rule };
    policy.rule(number).cloned()
}
