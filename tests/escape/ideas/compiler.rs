//! Take over the compiler, which is no worker with a guest: it has a list of its own, and neither a
//! cgroup nor records.
//!
//! Stopped by: seccomp. A `[[kill]]` row ends the compiler, whichever thread makes the call; what
//! tries a row is an idea about workers, and a new row without one fails the suite.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use syscalls::Sysno;
use wasi_guard_captive::{Answer, Script, Step, Value, call, module, receive};

use super::ends::{self, COMPILE_LIST};
use crate::idea::{Draft, Idea};
use crate::scene::Scene;
use crate::stops;
use crate::trial::Lab;

pub(super) fn ideas<'a>() -> Vec<Idea<'a>> {
    vec![
        Idea::Case("a_compiler_that_is_taken_over_opens_nothing", opens_nothing),
        Idea::Case("each_row_that_kills_ends_a_compiler", |lab| ended(lab, false)),
        Idea::Case("each_row_that_kills_ends_a_compiler_from_a_second_thread", |lab| {
            ended(lab, true)
        }),
    ]
}

/// Compiles a module that takes over its compiler.
fn compile(script: &Script) -> Result<(ExitStatus, File)> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let path = folder.path().join("app.wasm");
    fs::write(&path, module(script)?).context("write a module")?;
    let mut says = tempfile::tempfile().context("make a file for what it says")?;
    let status = Command::new("wasi-guard-unchecked")
        .args(["compile", "--cache"])
        .arg(folder.path().join("cache"))
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(says.try_clone()?)
        .status()
        .context("start wasi-guard-unchecked")?;
    says.rewind()?;
    Ok((status, says))
}

/// What shows that scripts are obeyed, in both threads, and that its list is in force.
fn opens_nothing(_: &mut Lab<'_>) -> Result<()> {
    for thread in [false, true] {
        let mut script = Script { thread, ..Script::default() };
        let path = script.text(Scene::text("data/open"));
        call!(script, SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY);
        call!(script, SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0);
        call!(script, SYS_gettid);
        call!(script, SYS_getpid);
        // The module has no `_start`, so that it is refused after its script.
        let (_, says) = compile(&script)?;
        let answer: Answer = receive(says)?.context("it does not answer")?;
        let [opened, made, own, process] = answer.results[..] else {
            anyhow::bail!("results {:?}", answer.results)
        };
        let unlisted = -i64::from(stops::UNLISTED);
        ensure!((opened, made) == (unlisted, unlisted), "results {:?}", answer.results);
        ensure!((own != process) == thread, "a second thread: {thread}; {:?}", answer.results);
    }
    Ok(())
}

/// Whether a script works as it is in a process that was given no descriptors.
fn needs_nothing(script: &Script) -> bool {
    let given = |value: &Value| matches!(value, Value::Given(_));
    !script.steps.iter().any(|step| match step {
        Step::Call(call) => call.arguments.iter().any(given),
        Step::Put(_, _, _, value) => given(value),
    })
}

fn ended(lab: &mut Lab<'_>, thread: bool) -> Result<()> {
    let ideas = super::before_the_end(lab.scene);
    let mut scripts: BTreeMap<Sysno, Script> = BTreeMap::new();
    for idea in &ideas {
        let Idea::Attempt(attempt) = idea else { continue };
        let (script, decides) = Draft::write(false, &*attempt.writer);
        if let Some(call) = ends::call(&script, decides)
            && needs_nothing(&script)
        {
            scripts.entry(call).or_insert(script);
        }
    }
    let rows = ends::rows(COMPILE_LIST)?;
    ensure!(!rows.is_empty(), "no row kills");
    for row in rows {
        let script = scripts.get(&row).with_context(|| format!("no idea tries {row}"))?;
        let (status, mut says) = compile(&Script { thread, ..script.clone() })?;
        let mut bytes = Vec::new();
        says.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let ended = text.contains(&format!("the compiler ended early (signal: {}", stops::KILLS))
            && text.contains("hint: it made a call that policies/seccomp/compile.toml forbids");
        ensure!(status.code() == Some(125) && ended, "{row}: {status}, {text}");
    }
    Ok(())
}
