//! `wasi-guard doctor`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use wasi_guard_enforce::host::{self, Layer, State};

use super::report::printable;
use super::{Result, exit, output};
use crate::program::WorkerProgram;
use crate::supervisor::Error;

const ABOUT: &str = "\
Show what this host offers, what is missing and how to get it.

Each layer is something that a guarded run rests on. If a required one is missing, `wasi-guard run` \
refuses to start; nothing is weakened silently.";

const EXAMPLES: &str = "\
Examples:
  wasi-guard doctor
  wasi-guard doctor --quiet || echo 'this host cannot guard'
  wasi-guard doctor --json | jq '.layers[] | select(.present | not)'

Exit status:
  0    all that is required is there
  1    something required is missing
  125  wrong usage, or the answer could not be printed";

/// `wasi-guard doctor`.
#[derive(Debug, clap::Args)]
#[command(about = "Show what this host offers, what is missing and how to get it", long_about = ABOUT, after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Print nothing, only set the exit status
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut layers = host::probe();
    layers.push(worker());
    let ready = ready(&layers);
    if args.json {
        output::print(&json(&layers)?)?;
    } else if !args.quiet {
        output::print(&table(&layers))?;
    }
    Ok(if ready { exit::ok() } else { exit::no() })
}

/// What no host lacks by itself: a part of the product.
fn worker() -> Layer {
    let state = match WorkerProgram::find() {
        Ok(program) => State::Present(program.path().display().to_string()),
        Err(Error { causes, hint, .. }) => {
            State::Missing { found: causes.join(": "), hint: hint.unwrap_or_default() }
        }
    };
    let purpose = "the program in which guests run, beside this one";
    Layer { name: "worker", purpose, required: true, state }
}

fn ready(layers: &[Layer]) -> bool {
    layers.iter().all(|layer| layer.is_present() || !layer.required)
}

fn table(layers: &[Layer]) -> String {
    let width = layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for layer in layers {
        let (state, found, hint) = match &layer.state {
            State::Present(found) => ("present", found, None),
            State::Missing { found, hint } if layer.required => ("MISSING", found, Some(hint)),
            State::Missing { found, hint } => ("missing", found, Some(hint)),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:width$}  {state}  {}\n{:width$}           {}",
            layer.name,
            printable(found),
            "",
            layer.purpose
        );
        if let Some(hint) = hint.filter(|hint| !hint.is_empty()) {
            let _ = writeln!(text, "{:width$}           hint: {}", "", printable(hint));
        }
    }
    let missing: Vec<&str> = layers
        .iter()
        .filter(|layer| layer.required && !layer.is_present())
        .map(|layer| layer.name)
        .collect();
    text.push_str(&if missing.is_empty() {
        "This host can guard.\n".to_owned()
    } else {
        format!("This host cannot guard: {} missing.\n", missing.join(", "))
    });
    text
}

#[derive(Serialize)]
struct Report<'a> {
    ready: bool,
    layers: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    purpose: &'a str,
    required: bool,
    present: bool,
    found: &'a str,
    hint: Option<&'a str>,
}

fn json(layers: &[Layer]) -> Result<String> {
    let rows = layers.iter().map(|layer| {
        let (found, hint) = match &layer.state {
            State::Present(found) => (found, None),
            State::Missing { found, hint } => (found, Some(hint.as_str())),
        };
        Row {
            name: layer.name,
            purpose: layer.purpose,
            required: layer.required,
            present: layer.is_present(),
            found,
            hint,
        }
    });
    let report = Report { ready: ready(layers), layers: rows.collect() };
    let mut text = serde_json::to_string_pretty(&report)
        .map_err(|error| Error::step("write the answer as JSON", error))?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(required: bool) -> Vec<Layer> {
        let missing = State::Missing { found: "none".into(), hint: "get it".into() };
        vec![
            Layer {
                name: "kernel",
                purpose: "hooks",
                required: true,
                state: State::Present("6.12".into()),
            },
            Layer { name: "lsm", purpose: "verdicts", required, state: missing },
        ]
    }

    #[test]
    fn a_required_layer_that_is_missing_makes_the_host_unready() {
        assert!(!ready(&layers(true)));
        assert!(ready(&layers(false)));
        assert_eq!(
            table(&layers(true)),
            "kernel  present  6.12\n                 hooks\nlsm     MISSING  none\n                 verdicts\n                 hint: get it\nThis host cannot guard: lsm missing.\n"
        );
        assert!(table(&layers(false)).ends_with("This host can guard.\n"));
    }

    #[test]
    fn the_json_says_the_same() {
        let value: serde_json::Value = serde_json::from_str(&json(&layers(true)).unwrap()).unwrap();
        assert_eq!(value["ready"], false);
        assert_eq!(value["layers"][1]["hint"], "get it");
        assert_eq!(value["layers"][0]["hint"], serde_json::Value::Null);
    }
}
