//! Holds what happened against what the policy says, and shows it.

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;
use wasi_guard_abi::operation::Reason;
use wasi_guard_policy::{
    Addresses, Policy, Rule,
    explain::{Explanation, explain},
};

use crate::attempts::Attempt;

/// What a guest is told when an attempt succeeds.
pub(crate) const OK: &str = "ok";
/// What a guest is told when the kernel denies an attempt.
pub(crate) const DENIED: &str = "EACCES";

/// One line of the table.
pub(crate) struct Row {
    attempt: String,
    /// `allowed` or `DENIED`, or what the guest was told if it was neither.
    kernel: String,
    rule: String,
    /// What is not as the policy says.
    wrong: Vec<String>,
}

/// Judges each attempt. `told` is what the guest was told, in the order of the attempts.
pub(crate) fn rows(
    policy: &Policy,
    attempts: &[Attempt],
    told: &[String],
    denials: &[Value],
) -> Result<Vec<Row>> {
    let mut unexplained: Vec<&Value> = denials.iter().collect();
    let mut rows = Vec::new();
    for (attempt, told) in attempts.iter().zip(told) {
        let answer = explain(policy, &Addresses::new(), &attempt.question())
            .map_err(|error| anyhow!(error))
            .with_context(|| format!("cannot ask the policy about `{attempt}`"))?;
        let (records, rest) =
            unexplained.into_iter().partition(|record| is_about(record, attempt, &answer));
        unexplained = rest;
        rows.push(row(attempt, told, &records, &answer));
    }
    rows.extend(unexplained.into_iter().map(|record| Row {
        attempt: format!("{} {}", text(&record["operation"]), text(&record["path"])),
        kernel: "DENIED".into(),
        rule: text(&record["reason"]),
        wrong: vec![format!("the kernel denied what no guest was to try: {record}")],
    }));
    Ok(rows)
}

fn row(attempt: &Attempt, told: &str, records: &[&Value], answer: &Explanation) -> Row {
    let mut wrong = Vec::new();
    let mut note = |what: String| wrong.push(format!("{attempt}: {what}"));
    let policy_says = if answer.verdict.allowed { OK } else { DENIED };
    if told != policy_says {
        note(format!("the policy says `{policy_says}`, the guest was told `{told}`"));
    }
    if answer.verdict.allowed != records.is_empty() {
        note(format!("{} audit records say that the kernel denied it", records.len()));
    }
    for record in records {
        let reason = answer.verdict.reason.map(Reason::name);
        let number = answer.rule.as_ref().map(|rule| rule.number);
        let line = answer.rule.as_ref().and_then(Rule::line);
        let agrees = record["reason"].as_str() == reason
            && record["rule"]["number"].as_u64() == number.map(u64::from)
            && record["rule"]["line"].as_u64() == line.map(u64::from);
        if !agrees {
            note(format!("the kernel's reason is not the policy's: {record}"));
        }
    }
    let kernel = match told {
        OK => "allowed",
        DENIED => "DENIED",
        other => other,
    };
    Row { attempt: shown(attempt), kernel: kernel.into(), rule: deciding(answer, records), wrong }
}

/// The rule behind a verdict: of a denial what the kernel's record names, of a grant, about which
/// the kernel writes no record, what the policy says.
fn deciding(answer: &Explanation, records: &[&Value]) -> String {
    if let Some(record) = records.first() {
        let rule = &record["rule"];
        return match rule["line"].as_u64() {
            Some(line) => format!("line {line}: {} {}", text(&rule["kind"]), rule["text"]),
            None => match record["reason"].as_str().and_then(Reason::from_name) {
                Some(Reason::NotGranted) => "no line grants it".into(),
                Some(Reason::Widens) => "the new name would grant more than the old one".into(),
                _ => text(&record["reason"]),
            },
        };
    }
    match &answer.rule {
        Some(rule) => match rule.line() {
            Some(line) => format!("line {line}: {} \"{}\"", rule.kind, rule.text),
            None => rule.to_string(),
        },
        None => "-".into(),
    }
}

fn is_about(record: &Value, attempt: &Attempt, answer: &Explanation) -> bool {
    if record["operation"] != answer.attempt.operation().name() {
        return false;
    }
    if let Some(address) = record["address"].as_str() {
        let port = record["port"].as_u64().unwrap_or_default();
        return attempt.object == format!("tcp://{address}:{port}");
    }
    let wants = |right: &str| {
        record["wanted"].as_array().is_some_and(|rights| rights.iter().any(|r| r == right))
    };
    // Reading and writing are one operation to the kernel.
    let same_access = !matches!(attempt.operation, "read" | "write") || wants(attempt.operation);
    same_access && record["path"] == attempt.object && record["path2"].as_str() == attempt.second
}

fn shown(attempt: &Attempt) -> String {
    let operation = if attempt.operation == "open" { "list" } else { attempt.operation };
    let second = attempt.second.map(|second| format!(" -> {second}")).unwrap_or_default();
    format!("{operation:<8}{}{second}", attempt.object)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

/// The table.
pub(crate) fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.attempt.chars().count()).max().unwrap_or(0);
    println!("\n{:width$}  KERNEL   DECIDED BY", "ATTEMPT");
    for row in rows {
        let mark = if row.wrong.is_empty() { "" } else { "   <-- WRONG" };
        println!("{:width$}  {:<7}  {}{mark}", row.attempt, row.kernel, row.rule);
    }
}

/// Everything in which the kernel did not do what the policy says.
pub(crate) fn disagreements(rows: &[Row]) -> Vec<String> {
    rows.iter().flat_map(|row| row.wrong.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wasi_guard_policy::{Source, load};

    use super::*;
    use crate::attempts::FILES;

    const POLICY: &str = "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \".\"\n\
                          read = [\"**\"]\ndeny = [\"secret/**\"]\n";
    const SECRET: &str = "/data/secret/plan.txt";

    fn wrong(object: &str, told: &str, denials: &[Value]) -> Vec<String> {
        let policy = load(&Source::new("test", POLICY)).unwrap().0;
        let attempt = FILES.iter().position(|a| a.operation == "read" && a.object == object);
        let attempt = std::slice::from_ref(&FILES[attempt.unwrap()]);
        disagreements(&rows(&policy, attempt, &[told.to_owned()], denials).unwrap())
    }

    fn denial(line: u32) -> Value {
        json!({ "operation": "open", "path": SECRET, "wanted": ["read"], "reason": "deny_rule",
                "rule": { "number": 2, "kind": "deny", "text": "secret/**", "line": line } })
    }

    #[test]
    fn what_the_policy_says_is_no_disagreement() {
        assert_eq!(wrong("/data/in.csv", OK, &[]), [""; 0]);
        assert_eq!(wrong(SECRET, DENIED, &[denial(6)]), [""; 0]);
    }

    #[test]
    fn everything_else_is_one() {
        // Let through what is denied; denied what is granted.
        assert_eq!(wrong(SECRET, OK, &[]).len(), 2);
        assert_eq!(wrong("/data/in.csv", DENIED, &[]).len(), 1);
        // Denied by WASI and not by the kernel; by another line; with a record too many.
        assert_eq!(wrong(SECRET, DENIED, &[]).len(), 1);
        assert_eq!(wrong(SECRET, DENIED, &[denial(5)]).len(), 1);
        assert_eq!(wrong("/data/in.csv", OK, &[denial(6)]).len(), 1);
    }
}
