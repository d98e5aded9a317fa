//! Every point of a whole run: supervisor, worker, compiler.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use wasi_guard_enforce::fault::{Fault, Point, Scene, VARIABLE};

use crate::{Case, left};

const PROGRAM: &str = "wasi-guard-faults";
pub(crate) const FOLDER: &str = "/tmp/fault-suite/whole";
const POLICY: &str = "version = 1\n\
    [[preopen]]\nguest = \"/d\"\nhost = \"data\"\nread = [\"yes\"]\n\
    [[preopen]]\nguest = \"/single/file\"\nhost = \"file\"\nread = [\".\"]\n\
    [limits]\nmemory = \"256MiB\"\n";

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Supervisor,
    Worker,
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new("a_whole_guest_runs", || prepare().and_then(|()| works()))];
    for point in Point::ALL.iter().copied() {
        let (victim, compiles) = match point.scene() {
            Scene::Run => (Victim::Supervisor, false),
            Scene::Worker => (Victim::Worker, false),
            Scene::Compile => (Victim::Supervisor, true),
            Scene::Compiler => (Victim::Worker, true),
            _ => continue,
        };
        let name = format!("whole_guest_killed_at_{}", point.name());
        cases.push(Case::new(name, move || killed(point, victim, compiles)));
    }
    cases
}

/// What the guests of the suite need.
pub(crate) fn prepare() -> Result<()> {
    fs::create_dir_all(format!("{FOLDER}/data"))?;
    for (name, text) in
        [("data/yes", "granted"), ("data/no", "SECRET"), ("file", "one"), ("p.toml", POLICY)]
    {
        fs::write(format!("{FOLDER}/{name}"), text)?;
    }
    Ok(())
}

fn run(fault: Option<Fault>, cache: &str) -> Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--policy", &format!("{FOLDER}/p.toml"), "--cache", cache]);
    command.args(["/guests/files.wasm", "read", "/d/yes", "read", "/d/no"]);
    command.env_remove(VARIABLE);
    if let Some(fault) = fault {
        command.env(VARIABLE, fault.to_string());
    }
    // Supervisor and worker hold the pipes: this waits for both.
    let output = command.output().context("start wasi-guard-faults")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(!said.contains("SECRET"), "the guest read what is denied: {output:?}");
    Ok(output)
}

fn works() -> Result<()> {
    let output = run(None, &format!("{FOLDER}/cache"))?;
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said == "read /d/yes: granted\nread /d/no: EACCES\n", "{output:?}");
    left::nothing()
}

/// Once the next start cleans up, once gc.
fn killed(point: Point, victim: Victim, compiles: bool) -> Result<()> {
    prepare()?;
    for by_gc in [false, true] {
        left::nothing()?;
        let cold = format!("{FOLDER}/cold");
        if compiles && fs::exists(&cold)? {
            fs::remove_dir_all(&cold)?;
        }
        let cache = if compiles { cold } else { format!("{FOLDER}/cache") };
        let output = run(Some(Fault { point, count: 1, errno: None }), &cache)?;
        match victim {
            Victim::Supervisor => {
                let killed = output.status.signal() == Some(libc::SIGKILL);
                ensure!(killed, "the point was not reached: {output:?}");
                left::wait_for_the_end_of(PROGRAM)?;
            }
            Victim::Worker => {
                told(point, &output)?;
                left::nothing().context("the supervisor lives and cleans up itself")?;
            }
        }
        let cut_short = matches!(point, Point::CacheBegun | Point::CacheWritten);
        if compiles {
            let left = unfinished(&cache)?;
            ensure!(left == usize::from(cut_short), "{left} unfinished files are in the cache");
            // The next start with this cache.
            let output = run(None, &cache)?;
            ensure!(output.status.success(), "{output:?}");
            let left = unfinished(&cache)?;
            ensure!(left == 0, "{left} unfinished files are still in the cache");
        }
        if by_gc {
            let gc = Command::new(PROGRAM).arg("gc").output()?;
            ensure!(gc.status.success(), "gc: {gc:?}");
            left::nothing().context("after gc")?;
        } else {
            works().context("the next start")?;
        }
    }
    Ok(())
}

/// How many files in a cache are no entries.
fn unfinished(cache: &str) -> Result<usize> {
    let names = fs::read_dir(cache).context("list the cache")?.flatten();
    Ok(names.filter(|it| !it.file_name().to_string_lossy().ends_with(".cwasm")).count())
}

/// The supervisor says how its worker ended.
fn told(point: Point, output: &Output) -> Result<()> {
    let errors = String::from_utf8_lossy(&output.stderr);
    let (code, text) = match point {
        // The artifact was there.
        Point::CompilerTold => (0, "\"record\":\"end\""),
        // The first process of a pid namespace cannot send SIGKILL to itself: it crashes.
        Point::CompilerHardened | Point::CompilerDone => {
            (125, "the compiler ended early (signal: 11")
        }
        Point::WorkerMayStart | Point::WorkerDone | Point::WorkerEndSaid => (139, "\"signal\":11"),
        _ => (125, "it ended: Killed(11)"),
    };
    ensure!(output.status.code() == Some(code) && errors.contains(text), "{output:?}");
    Ok(())
}
