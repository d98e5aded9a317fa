//! Every point of `wasi-guard-enforce`, with the native supervisor: killed, or its call refused.

use std::{
    fs,
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context as _, Result, ensure};
use std::os::unix::process::ExitStatusExt as _;
use wasi_guard_enforce::{
    fault::{Fault, Point, Scene, VARIABLE},
    programs::{BPFFS, Build, Pins},
};

use crate::{
    Case, left,
    supervisor::{self, Until},
};

/// In the order of the points, those that load the programs last: each load takes half a minute.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for point in Point::ALL.iter().copied() {
        let name = point.name();
        match point.scene() {
            Scene::Start | Scene::End => {
                cases.push(Case::new(format!("killed_at_{name}"), move || {
                    killed(point, Until::End)
                }));
            }
            Scene::Reload => {
                cases.push(Case::new(format!("killed_at_{name}"), move || {
                    killed(point, Until::Reload)
                }));
            }
            Scene::Sweep => {
                cases.push(Case::new(format!("sweep_killed_at_{name}"), move || sweep(point)));
            }
            Scene::Gc => {
                cases.push(Case::new(format!("gc_killed_at_{name}"), move || gc(point)));
            }
            _ => {}
        }
        let until = match point.scene() {
            Scene::Start => Until::End,
            Scene::Reload => Until::Reload,
            _ => continue,
        };
        for errno in point.errors().iter().copied() {
            let name = format!("{name}_ends_with_{errno}");
            cases.push(Case::new(name, move || refused(point, errno, until)));
        }
    }
    // A second table in the same life.
    for point in [Point::FillTable, Point::EnterTable, Point::TablePinned] {
        let name = format!("reload_killed_at_{}", point.name());
        cases.push(Case::new(name, move || killed_at(kill(point, 2), Until::Reload)));
        for errno in point.errors().iter().copied() {
            let name = format!("reload_{}_ends_with_{errno}", point.name());
            let fault = Fault { point, count: 2, errno: Some(errno) };
            cases.push(Case::new(name, move || refused_at(fault, Until::Reload)));
        }
    }
    cases.push(Case::new("loading_and_unloading_killed_at_each_step", loading));
    cases
}

fn kill(point: Point, count: u32) -> Fault {
    Fault { point, count, errno: None }
}

fn killed(point: Point, until: Until) -> Result<()> {
    killed_at(kill(point, 1), until)
}

/// Once the next start cleans up, once gc.
fn killed_at(fault: Fault, until: Until) -> Result<()> {
    left::nothing()?;
    supervisor::run(Some(fault), until)?.was_killed()?;
    supervisor::works(&Build::this(false)).context("the next start")?;
    left::nothing().context("after the next start")?;
    supervisor::run(Some(fault), until)?.was_killed()?;
    let remains = !left::everything()?.is_empty();
    let collected = left::collect().context("gc")?;
    left::nothing().context("after gc")?;
    let found = collected != Default::default();
    ensure!(found == remains, "gc says {collected:?}, but something was left: {remains}");
    Ok(())
}

fn refused(point: Point, errno: i32, until: Until) -> Result<()> {
    refused_at(Fault { point, count: 1, errno: Some(errno) }, until)
}

/// A refusal that names its cause, and nothing left without anybody's help.
fn refused_at(fault: Fault, until: Until) -> Result<()> {
    left::nothing()?;
    let ended = supervisor::run(Some(fault), until)?;
    let cause = format!("(os error {})", fault.errno.unwrap_or(0));
    ensure!(ended.status.code() == Some(2), "not refused: {ended:?}");
    ensure!(ended.errors.contains(&cause), "another cause: {ended:?}");
    left::nothing()?;
    supervisor::works(&Build::this(false)).context("the next start")
}

/// A start that cleans up after a killed one is itself killed.
fn sweep(point: Point) -> Result<()> {
    for by_gc in [false, true] {
        left::nothing()?;
        supervisor::run(Some(kill(Point::Armed, 1)), Until::End)?.was_killed()?;
        supervisor::run(Some(kill(point, 1)), Until::End)?.was_killed()?;
        if by_gc {
            left::collect().context("gc")?;
        } else {
            supervisor::works(&Build::this(false)).context("the next start")?;
        }
        left::nothing().with_context(|| format!("by gc: {by_gc}"))?;
    }
    Ok(())
}

/// `wasi-guard` of the build with faults.
fn command(word: &str, fault: Option<Fault>) -> Result<ExitStatus> {
    let mut command = Command::new("wasi-guard-faults");
    command.arg(word).env_remove(VARIABLE);
    if let Some(fault) = fault {
        command.env(VARIABLE, fault.to_string());
    }
    Ok(command.output().with_context(|| format!("start {word}"))?.status)
}

fn command_killed(word: &str, point: Point, count: u32) -> Result<()> {
    let status = command(word, Some(kill(point, count)))?;
    ensure!(status.signal() == Some(libc::SIGKILL), "{word}: {point:?} not reached: {status}");
    Ok(())
}

fn gc(point: Point) -> Result<()> {
    for by_start in [false, true] {
        left::nothing()?;
        supervisor::run(Some(kill(Point::Armed, 1)), Until::End)?.was_killed()?;
        let unfinished = format!("wasi-guard-new-{}", Build::this(true).short());
        fs::create_dir(Path::new(BPFFS).join(unfinished))?;
        command_killed("gc", point, 1)?;
        if by_start {
            supervisor::works(&Build::this(false)).context("the next start")?;
        }
        let status = command("gc", None)?;
        ensure!(status.success(), "the next gc: {status}");
        left::nothing()?;
    }
    Ok(())
}

/// One after the other, so that each start meets what the one before left.
fn loading() -> Result<()> {
    let this = Build::this(false);
    let pins = || Ok::<_, anyhow::Error>(Pins::take(&this)?.map(|pins| pins.attached()));
    let links = pins()?.context("nothing is loaded")? as u32;

    // The end: a part of the pins is never taken for all of them.
    command_killed("unload", Point::UnloadedCgroup, 1)?;
    supervisor::works(&this).context("after unload was killed before the pins")?;
    command_killed("unload", Point::PinsWithdrawn, 1)?;
    ensure!(pins()?.is_none(), "pins without their cgroup are in use");
    command_killed("unload", Point::PinRemoved, links / 2)?;
    ensure!(command("unload", None)?.success(), "the next unload");
    left::nothing()?;

    // The beginning.
    let killed = |point, count| -> Result<()> {
        supervisor::run(Some(kill(point, count)), Until::End)?.was_killed()?;
        let published = point == Point::PinsPublished;
        ensure!(pins()?.is_some() == published, "{point:?}: pins that are not all are in use");
        Ok(())
    };
    killed(Point::PinsBegun, 1)?;
    let refused = Fault { point: Point::CreateMaps, count: 1, errno: Some(libc::ENOMEM) };
    let ended = supervisor::run(Some(refused), Until::End)?;
    ensure!(ended.status.code() == Some(2) && ended.errors.contains("(os error 12)"), "{ended:?}");
    left::nothing().context("after a load that failed")?;
    for (point, count) in [
        (Point::TablesPinned, 1),
        (Point::MapPinned, 1),
        (Point::MapPinned, 6),
        (Point::ProgramPinned, 1),
        (Point::ProgramAttached, 1),
        (Point::LinkPinned, 1),
    ] {
        killed(point, count)?;
        left::collect().context("gc")?;
        left::nothing().with_context(|| format!("after gc, {point:?} {count}"))?;
    }
    // And without gc in between. Later links differ from the third in nothing but time.
    killed(Point::TablesPinned, 1)?;
    killed(Point::LinkPinned, 3)?;
    killed(Point::PinsPublished, 1)?;
    supervisor::works(&this)?;
    left::nothing()
}
