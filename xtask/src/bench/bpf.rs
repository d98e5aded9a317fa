//! eBPF tools as guests, beside the same with aya: on this host, because no guest is guarded.

use std::process::Command;

use anyhow::Result;

use super::{Measure, measure};
use crate::guests;
use crate::process;
use crate::project::Project;

/// Programs are attached to tracepoints through tracefs, which aya expects to be mounted. What is
/// mounted here nobody else sees.
const WITH_TRACEFS: &str = "mountpoint -q /sys/kernel/tracing || \
    mount -t tracefs tracefs /sys/kernel/tracing || exit; exec \"$0\" \"$@\"";

pub(super) fn run(project: &Project, part: &str) -> Result<Vec<Measure>> {
    let guests = guests::build(project)?;
    let objects = guests::objects(project)?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", WITH_TRACEFS])
        .arg(project.release_program("bpf-bench"))
        .arg(objects)
        .arg(guests);
    measure::read(part, None, &process::capture(&mut command)?)
}
