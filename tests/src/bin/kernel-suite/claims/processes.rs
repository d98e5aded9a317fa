//! Programs, processes and threads.

use anyhow::{Context as _, Result};
use wasi_guard_tests::operation::{Do, NOWHERE, at};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    exec_of_a_readable_file_is_denied,
    exec_outside_preopens_is_denied_when_it_opens_the_file,
    fork_is_denied,
    vfork_is_denied,
    threads_work,
];

const POLICY: &str = r#"
[[preopen]]
guest = "/data"
host = "data"
read = ["**"]
"#;

/// With this program as `data/program` and `outside/program`.
fn stage(lab: &Lab) -> Result<Stage> {
    let base = lab.directory()?;
    for directory in ["data", "outside"] {
        std::fs::create_dir(base.join(directory))?;
        let copy = base.join(directory).join("program");
        std::fs::copy("/proc/self/exe", copy).context("copy this program")?;
    }
    let mut setup = Setup::new(base, POLICY, &[]);
    setup.fresh = false;
    setup.start(lab)
}

fn program(stage: &Stage, path: &str) -> wasi_guard_tests::operation::At {
    at(NOWHERE, stage.base.join(path).as_os_str().as_encoded_bytes())
}

fn exec_of_a_readable_file_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let exec = Do::Exec(program(&stage, "data/program"));
    stage.denied(&exec, Why::Never)
}

fn exec_outside_preopens_is_denied_when_it_opens_the_file(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let exec = Do::Exec(program(&stage, "outside/program"));
    stage.denied(&exec, Why::Outside)
}

fn fork_is_denied(lab: &Lab) -> Result<()> {
    stage(lab)?.denied(&Do::Fork, Why::Never)
}

fn vfork_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let spawn = Do::Spawn(program(&stage, "data/program"));
    // Rust starts programs with clone3(CLONE_VFORK) or posix_spawn, which calls clone3.
    stage.denied(&spawn, Why::Never)
}

fn threads_work(lab: &Lab) -> Result<()> {
    stage(lab)?.allowed(&Do::Thread).map(drop)
}
