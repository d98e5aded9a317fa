//! eBPF tools as guests, beside the same with aya: on this host, because no guest is guarded.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Measure, measure};
use crate::guests;
use crate::process;
use crate::project::Project;

/// Programs are attached to tracepoints through tracefs, which aya expects to be mounted. What is
/// mounted here nobody else sees.
const WITH_TRACEFS: &str = "mountpoint -q /sys/kernel/tracing || \
    mount -t tracefs tracefs /sys/kernel/tracing || exit; exec \"$0\" \"$@\"";

pub(super) fn run(project: &Project, part: &str) -> Result<Vec<Measure>> {
    let objects = tempfile::tempdir().context("cannot create a temporary folder")?;
    for name in ["exec", "samples"] {
        compile(&project.root.join("tests/objects"), name, objects.path())?;
    }
    let guests = guests::build(project)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", WITH_TRACEFS])
        .arg(project.release_program("bpf-bench"))
        .arg(objects.path())
        .arg(guests);
    measure::read(part, None, &process::capture(&mut command)?)
}

fn compile(sources: &Path, name: &str, to: &Path) -> Result<()> {
    let source = sources.join(format!("{name}.bpf.c"));
    fs::metadata(&source).with_context(|| format!("cannot find {}", source.display()))?;
    process::capture(
        Command::new("clang-22")
            .args(["--target=bpf", "-mcpu=v3", "-O2", "-g", "-c", "-o"])
            .arg(to.join(format!("{name}.bpf.o")))
            .arg(source),
    )?;
    Ok(())
}
