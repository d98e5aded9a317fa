//! Many guests at once, beside as many in wasmtime.

use anyhow::Result;

use super::{Measure, told, tools, with_tools};
use crate::guests;
use crate::project::Project;
use crate::vm::{Lab, Options, Series};

/// A thousand guests, each two processes of which little is shared.
const MEMORY_MIB: u32 = 16 * 1024;

pub(super) fn run(
    project: &Project,
    lab: &Lab,
    part: &str,
    series: Series,
) -> Result<Vec<Measure>> {
    let mut files = tools(project)?;
    files.add(project.release_program("crowd-bench"), "/usr/local/bin/")?;
    files.add(guests::build(project)?, "/guests")?;
    let options = Options { memory: MEMORY_MIB, ..Options::new(series) };
    // Two pipes for each guest.
    let line = "ulimit -n 8192 && crowd-bench";
    told(&mut with_tools(lab, &files, &options)?, part, series, line)
}
