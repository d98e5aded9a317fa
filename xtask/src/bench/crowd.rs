//! Many guests at once, beside as many in wasmtime.

use anyhow::{Context, Result, ensure};

use super::{LIMIT, Measure, measure};
use crate::project::Project;
use crate::vm::{self, FileSet, Lab, Options, Series, Stream};
use crate::{guests, pypi};

/// A thousand guests, each two processes of which little is shared.
const MEMORY_MIB: u32 = 16 * 1024;

pub(super) fn run(
    project: &Project,
    lab: &Lab,
    part: &str,
    series: Series,
) -> Result<Vec<Measure>> {
    let wasmtime = pypi::fetch(project, &pypi::WASMTIME)?.join("wasmtime_cli/wasmtime");
    let mut files = FileSet::new();
    for program in ["wasi-guard", "crowd-bench"] {
        files.add(project.release_program(program), "/usr/local/bin/")?;
    }
    files.add(wasmtime, "/usr/local/bin/")?;
    files.add(guests::build(project)?, "/guests")?;
    let options = Options { memory: MEMORY_MIB, ..Options::new(series) };
    let mut machine = lab.boot(&lab.disk(&files)?, &options)?;
    let mut lines = Vec::new();
    // A wheel unpacked by zipfile has no executable files. Two pipes for each guest.
    let line = "chmod 755 /usr/local/bin/* && ulimit -n 8192 && crowd-bench";
    let status = machine.run(&[line], LIMIT, |stream, bytes| match stream {
        Stream::Stdout => {
            lines.extend_from_slice(bytes);
            Ok(())
        }
        Stream::Stderr => vm::print(stream, bytes),
    })?;
    ensure!(status == 0, "crowd-bench ended with status {status} on Linux {series}");
    let lines = String::from_utf8(lines).context("crowd-bench printed no text")?;
    measure::read(part, Some(&series.to_string()), &lines)
}
