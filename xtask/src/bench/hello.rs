//! Time and instructions of `wasi-guard run` for a hello-world guest, beside `wasmtime run`.

use std::fs;

use anyhow::{Context, Result};

use super::{Measure, told, tools, with_tools};
use crate::project::Project;
use crate::vm::{Lab, Options, Series};

const WAT: &str = include_str!("hello.wat");
const POLICY: &str = include_str!("hello.toml");

pub(super) fn run(
    project: &Project,
    lab: &Lab,
    part: &str,
    series: Series,
) -> Result<Vec<Measure>> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    for (name, text) in [("hello.wat", WAT), ("hello.toml", POLICY)] {
        fs::write(folder.path().join(name), text).context("cannot write the guest")?;
    }
    let mut files = tools(project)?;
    files.add(folder.path(), "/hello")?;
    files.add(project.release_program("start-bench"), "/usr/local/bin/")?;
    // Supervisor and worker run beside each other, as on any host.
    let options = Options { at_once: true, ..Options::new(series) };
    let mut measures = told(&mut with_tools(lab, &files, &options)?, part, series, "start-bench")?;
    let options = Options { icount: true, ..Options::new(series) };
    let mut machine = with_tools(lab, &files, &options)?;
    measures.extend(told(&mut machine, part, series, "start-bench counted")?);
    Ok(measures)
}
