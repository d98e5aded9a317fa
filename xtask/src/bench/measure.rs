//! What was measured: numbers with labels that say what they are of.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measure {
    /// The part that measured it.
    pub part: String,
    /// The kernel's series; none where the kernel has no part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What it is of: labels and their values.
    pub of: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
    /// Its unit: instructions, bytes, ms, times.
    pub unit: String,
}

/// A line of a program that measures.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    of: BTreeMap<String, String>,
    value: f64,
    unit: String,
}

impl Measure {
    /// A number of `part`, by label and value.
    #[cfg(test)]
    pub(super) fn new(
        part: &str,
        kernel: Option<&str>,
        of: &[(&str, &str)],
        value: f64,
        unit: &str,
    ) -> Self {
        Self {
            part: part.into(),
            kernel: kernel.map(str::to_owned),
            of: of.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect(),
            value,
            unit: unit.into(),
        }
    }

    /// The value of a label, the kernel among them; empty if it has none.
    pub(super) fn label(&self, label: &str) -> &str {
        match label {
            "kernel" => self.kernel.as_deref().unwrap_or_default(),
            label => self.of.get(label).map_or("", String::as_str),
        }
    }

    /// Whether it has all these labels.
    pub(super) fn is(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(label, value)| self.label(label) == *value)
    }
}

/// The lines that a program printed.
pub(super) fn read(part: &str, kernel: Option<&str>, lines: &str) -> Result<Vec<Measure>> {
    let mut measures = Vec::new();
    for line in lines.lines() {
        let Line { of, value, unit } = serde_json::from_str(line)
            .with_context(|| format!("{part}: {line:?} is no measure"))?;
        measures.push(Measure {
            part: part.into(),
            kernel: kernel.map(str::to_owned),
            of,
            value,
            unit,
        });
    }
    ensure!(!measures.is_empty(), "{part}: nothing was measured");
    Ok(measures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_read_strictly() {
        let line = r#"{"of":{"operation":"stat"},"value":8206.0,"unit":"instructions"}"#;
        let measures = read("kernel", Some("6.1"), line).unwrap();
        assert_eq!(
            measures,
            [Measure::new("kernel", Some("6.1"), &[("operation", "stat")], 8206.0, "instructions")]
        );
        assert!(measures[0].is(&[("kernel", "6.1"), ("operation", "stat")]));
        assert!(!measures[0].is(&[("depth", "6")]));
        assert!(read("kernel", None, "").is_err());
        assert!(read("kernel", None, "open 8206").is_err());
        let more = line.replace("\"unit\"", "\"more\":1,\"unit\"");
        assert!(read("kernel", None, &more).is_err());
    }
}
