//! What benches print: one JSON object a line, which `cargo xtask bench` reads.

use std::collections::BTreeMap;

/// Prints a number: what it is of, as pairs of a label and its value, and its unit.
pub fn print(of: &[(&str, &str)], value: f64, unit: &str) {
    let of: BTreeMap<_, _> = of.iter().copied().collect();
    println!("{}", serde_json::json!({ "of": of, "value": value, "unit": unit }));
}
