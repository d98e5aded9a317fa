//! The cost table: what wasi-guard costs, measured the same way on every host.
//!
//! Programs of the crate wasi-guard-tests measure and print one JSON object a line with `name`,
//! `value` and `unit`: `kernel-bench` in VMs whose clock counts instructions, `policy-bench` on
//! this host. Wall times of a hello-world guest are taken here, beside `wasmtime run` in the same
//! machine; only their ratio means something on another host.

mod hello;

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::process;
use crate::project::Project;
use crate::vm::{self, FileSet, Lab, Options, Series, Stream};

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// What was measured.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its unit: instructions, bytes, ms, us.
    pub unit: String,
}

/// Where a group of measures was taken.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// `kernel`, `hello` or `policy`.
    pub group: &'static str,
    /// The kernel's release; none where the kernel has no part in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The rows.
    pub measures: Vec<Measure>,
}

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Takes all measures. Progress goes to standard error.
pub fn run(project: &Project) -> Result<Vec<Group>> {
    project.build_release(&["wasi-guard", "wasi-guard-tests"], &[])?;
    let lab = Lab::open(project)?;
    let mut groups = Vec::new();
    for series in Series::ALL {
        eprintln!("Counting instructions on Linux {series}");
        groups.push(kernel(project, &lab, series)?);
    }
    for series in Series::ALL {
        eprintln!("Timing a hello-world guest on Linux {series}");
        groups.push(hello::run(project, &lab, series)?);
    }
    eprintln!("Compiling policies");
    let lines = process::capture(&mut Command::new(project.release_program("policy-bench")))?;
    groups.push(Group { group: "policy", kernel: None, measures: measures(&lines)? });
    Ok(groups)
}

/// The table as text.
pub fn text(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let kernel = group.kernel.as_deref().unwrap_or("this host");
        text.push_str(&format!("{} ({kernel})\n", group.group));
        for measure in &group.measures {
            let digits = if measure.value.fract() == 0.0 { 0 } else { 2 };
            text.push_str(&format!(
                "  {:<48}{:>14.digits$} {}\n",
                measure.name, measure.value, measure.unit
            ));
        }
    }
    text
}

fn kernel(project: &Project, lab: &Lab, series: Series) -> Result<Group> {
    let mut files = FileSet::new();
    for program in ["wasi-guard", "kernel-bench"] {
        files.add(project.release_program(program), "/usr/local/bin/")?;
    }
    let options = Options { icount: true, ..Options::new(series) };
    let mut machine = lab.boot(&lab.disk(&files)?, &options)?;
    let mut lines = Vec::new();
    let status = machine.run(&["kernel-bench"], LIMIT, |stream, bytes| match stream {
        Stream::Stdout => {
            lines.extend_from_slice(bytes);
            Ok(())
        }
        Stream::Stderr => vm::print(stream, bytes),
    })?;
    ensure!(status == 0, "kernel-bench ended with status {status} on Linux {series}");
    let lines = String::from_utf8(lines).context("kernel-bench printed no text")?;
    Ok(Group {
        group: "kernel",
        kernel: Some(machine.release().to_owned()),
        measures: measures(&lines)?,
    })
}

fn measures(lines: &str) -> Result<Vec<Measure>> {
    let measures: Vec<Measure> = lines
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{line:?} is no measure")))
        .collect::<Result<_>>()?;
    ensure!(!measures.is_empty(), "nothing was measured");
    Ok(measures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_read_strictly() {
        let line = r#"{"name":"open","value":8206,"unit":"instructions"}"#;
        assert_eq!(measures(line).unwrap()[0].value, 8206.0);
        assert!(measures("").is_err());
        assert!(measures("open 8206").is_err());
    }
}
