//! What audit records have to say.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// These records, in this order; each has at least the fields that are given.
pub(crate) fn records(found: &[&Value], expected: &[Value]) -> Result<()> {
    ensure!(
        found.len() == expected.len(),
        "{} records instead of {}: {found:?}",
        found.len(),
        expected.len()
    );
    for (found, expected) in found.iter().zip(expected) {
        has(found, expected).with_context(|| format!("in the record {found}"))?;
    }
    Ok(())
}

/// The record has at least these fields.
fn has(found: &Value, expected: &Value) -> Result<()> {
    let Value::Object(fields) = expected else {
        ensure!(found == expected, "{found} instead of {expected}");
        return Ok(());
    };
    for (name, value) in fields {
        let field = found.get(name).with_context(|| format!("there is no {name:?}"))?;
        has(field, value).with_context(|| format!("of {name:?}"))?;
    }
    Ok(())
}

/// A whole audit: one start, one end, one guest, and counts that are those of the lines.
pub(crate) fn audit(records: &[Value], first: &Value, last: &Value) -> Result<()> {
    let count = |kind: &str| records.iter().filter(|record| record["record"] == kind).count();
    ensure!(first["record"] == "start" && count("start") == 1, "it begins with its only start");
    ensure!(last["record"] == "end" && count("end") == 1, "it ends with its only end");
    let guest = &first["guest"];
    ensure!(records.iter().all(|record| record["guest"] == *guest), "it is about one guest");
    let number = |name: &str| last[name].as_u64().with_context(|| format!("end has no {name}"));
    let losses = records.iter().filter(|record| record["record"] == "loss");
    let lost: u64 = losses.filter_map(|record| record["count"].as_u64()).sum();
    ensure!(number("lost")? == lost, "its loss records count {lost}");
    let denials = count("denial") as u64;
    ensure!(number("denied")? == denials + lost, "it has {denials} denials and {lost} losses");
    ensure!(number("errors")? == 0, "it has errors of the kernel side");
    ensure!(number("unwritten")? == 0, "it has unwritten lines");
    Ok(())
}
