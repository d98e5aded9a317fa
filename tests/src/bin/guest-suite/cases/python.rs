//! A guest that nobody here wrote: CPython 3.12 for wasm32-wasip1, from PyPI. Its compiled form
//! is in the cache from outside: an emulated machine needs longer to compile it than to run it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::Case;
use crate::lab::{Folder, Lab};
use crate::program::{Outcome, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "cpython_reads_one_file_and_writes_one", run: least_privilege },
    Case { name: "cpython_neighbour_is_denied_by_a_line", run: denied_by_a_line },
];

/// The example policy of this project.
const EXAMPLE: &str = "/policies/csv-report.toml";
const PYTHON: &str = "/python/python-3.12.0.wasm";

/// Reads one CSV, writes one report, then tries the neighbour of what it may read.
const SCRIPT: &str = r#"
import csv
with open("/input/sales.csv", newline="") as file:
    total = sum(int(row["price"]) * int(row["count"]) for row in csv.DictReader(file))
with open("/output/report.txt", "w") as file:
    file.write(f"total {total}\n")
print("report written")
for path in ["/input/staff.csv", "/output/other.txt"]:
    try:
        with open(path, "w" if "output" in path else "r") as file:
            print(path, file.read())
    except PermissionError as error:
        print(path, "PermissionError")
"#;

fn data(lab: &Lab) -> Result<Folder> {
    let folder = lab.folder()?;
    folder.file("input/sales.csv", "item,price,count\ntea,3,10\nrice,4,3\n")?;
    folder.file("input/staff.csv", "name,salary\nann,SECRET\n")?;
    folder.directory("output")?;
    Ok(folder)
}

fn run(folder: &Folder, policy: &str) -> Result<Outcome> {
    let before = entries()?;
    let outcome = guarded(&["run", "--policy", policy, PYTHON, "-c", SCRIPT]).finish()?;
    ensure!(entries()? == before, "the compiled form from outside was not used");
    outcome.exits(0)?.is_quiet()?.prints(
        "report written\n\
         /input/staff.csv PermissionError\n\
         /output/other.txt PermissionError\n",
    )?;
    folder.holds("output/report.txt", "total 42\n")?;
    ensure!(!folder.path("output/other.txt").exists(), "another file was made");
    Ok(outcome)
}

/// Names in the cache: a module that is not found there is compiled into it.
fn entries() -> Result<Vec<String>> {
    let list = fs::read_dir("/var/cache/wasi-guard").context("list the cache")?;
    let mut names: Vec<String> =
        list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn other_file() -> Value {
    json!({ "operation": "create", "path": "/output/other.txt", "reason": "not_granted" })
}

/// Under the example policy nothing grants the neighbour, so no rule decides.
fn least_privilege(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let policy = folder.file("csv-report.toml", fs::read(EXAMPLE).context("read the example")?)?;
    run(&folder, &policy)?.denials(&[
        json!({
            "operation": "open", "path": "/input/staff.csv", "preopen": "/input",
            "wanted": ["read"], "rights": [], "verdict": "denied", "reason": "not_granted",
            "rule": null, "errno": "EACCES",
        }),
        other_file(),
    ])?;
    Ok(())
}

/// A policy that names the neighbour: the record names that line.
fn denied_by_a_line(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let example = fs::read_to_string(EXAMPLE).context("read the example")?;
    let grant = "read = [\"sales.csv\"]\n";
    ensure!(example.contains(grant), "the example grants its input");
    let denying = "read = [\"*.csv\"]\ndeny = [\"staff.*\"]\n";
    let text = example.replace(grant, denying);
    let line = 1 + text.lines().position(|line| line.starts_with("deny")).context("its line")?;
    let policy = folder.file("csv-report.toml", text)?;
    run(&folder, &policy)?.denials(&[
        json!({
            "operation": "open", "path": "/input/staff.csv", "preopen": "/input",
            "verdict": "denied", "reason": "deny_rule", "policy": policy,
            "rule": { "kind": "deny", "text": "staff.*", "line": line, "column": 9 },
            "errno": "EACCES",
        }),
        other_file(),
    ])?;
    Ok(())
}
