//! Every point of `wasi-guard-enforce`, with the native supervisor: killed, or its call refused.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
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
                // The way of a process that goes on, which removes entries by itself.
                if point.scene() == Scene::End && point != Point::RemovalBegun {
                    cases.push(Case::new(format!("killed_at_{name}_of_a_drop"), move || {
                        killed(point, Until::Dropped)
                    }));
                }
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
    cases.push(Case::new("no_process_to_be_had_for_the_end", no_process));
    cases.push(Case::new("unfinished_pins_are_removed_whichever_there_are", every_pin));
    cases.push(Case::new("loading_and_unloading_killed_at_each_step", loading));
    cases.push(Case::new("loads_killed_at_pins_from_the_first_to_the_last", killed_loads));
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

/// Then the process that ends waits itself.
fn no_process() -> Result<()> {
    left::nothing()?;
    for errno in Point::RemovalBegun.errors() {
        let fault = Fault { point: Point::RemovalBegun, count: 1, errno: Some(*errno) };
        let ended = supervisor::run(Some(fault), Until::End)?;
        ensure!(ended.status.success(), "{ended:?}");
        left::nothing()?;
    }
    Ok(())
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

/// Where a load of this build has its pins until all are there.
fn unfinished() -> PathBuf {
    Path::new(BPFFS).join(format!("wasi-guard-new-{}", Build::this(false).short()))
}

/// A load that is killed after any of its pins leaves those that it has made so far. The pins of a
/// whole load, under a second name, stand for them: a load takes half a minute.
fn every_pin() -> Result<()> {
    left::nothing()?;
    let pins = Build::this(false).pin_dir();
    let mut names = Vec::new();
    for entry in fs::read_dir(&pins)? {
        let entry = entry?;
        let pin = entry.metadata()?;
        // Numbers of inodes tell the order on one processor only.
        names.push(((pin.mtime(), pin.mtime_nsec(), pin.ino()), entry.file_name()));
    }
    names.sort();
    ensure!(names.first().is_some_and(|(_, name)| name == "TABLES"), "{names:?}");
    for count in 0..=names.len() {
        fs::create_dir(unfinished())?;
        for (_, name) in &names[..count] {
            fs::hard_link(pins.join(name), unfinished().join(name))?;
        }
        let collected = left::collect()?;
        ensure!(collected.pins == 1, "{count} pins: {collected:?}");
        left::nothing().with_context(|| format!("{count} pins"))?;
    }
    supervisor::works(&Build::this(false))
}

fn gc(point: Point) -> Result<()> {
    for by_start in [false, true] {
        left::nothing()?;
        supervisor::run(Some(kill(Point::Armed, 1)), Until::End)?.was_killed()?;
        fs::create_dir(unfinished())?;
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
    // One pin after the other, each removed by an unload that is killed there.
    let unfinished = unfinished();
    let count = || Ok::<_, anyhow::Error>(fs::read_dir(&unfinished)?.count());
    let all = count()?;
    ensure!(all > 2 * links as usize, "{all} pins of {links} programs");
    for left in (0..all).rev() {
        command_killed("unload", Point::PinRemoved, 1)?;
        ensure!(count()? == left, "{} pins instead of {left}", count()?);
        ensure!(pins()?.is_none(), "pins that are not all are in use");
    }
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
    // Each call of the kernel refused at once, and some where nearly all is done.
    let refused = |point, count, errno| -> Result<()> {
        let fault = Fault { point, count, errno: Some(errno) };
        let ended = supervisor::run(Some(fault), Until::End)?;
        let cause = format!("(os error {errno})");
        ensure!(ended.status.code() == Some(2) && ended.errors.contains(&cause), "{ended:?}");
        ensure!(pins()?.is_none(), "{fault}: pins of a load that failed are in use");
        left::nothing().with_context(|| format!("after a load that failed, {fault}"))
    };
    for point in Point::ALL.iter().copied().filter(|it| it.scene() == Scene::Load) {
        for errno in point.errors() {
            refused(point, 1, *errno)?;
        }
    }
    refused(Point::LoadProgram, links, libc::EPERM)?;
    refused(Point::PinLink, links, libc::ENOMEM)?;
    // Without gc in between; with it: `killed_loads`.
    killed(Point::TablesPinned, 1)?;
    killed(Point::LinkPinned, 3)?;
    killed(Point::PinsPublished, 1)?;
    supervisor::works(&this)?;
    left::nothing()
}

/// The programs, by number, at which a load is killed. A killed load takes as long as it came, and
/// the removal of its pins as long again, so not at each: up to half a minute on Linux 6.12, where
/// the verifier takes five times as long as on 6.1. That any number of pins is removed is shown by
/// [`every_pin`].
fn counts(programs: u32) -> Vec<u32> {
    let old = rustix::system::uname().release().to_bytes().starts_with(b"6.1.");
    let wanted: &[u32] = if old { &[2, 3, 5, 8, 13, 21, 34] } else { &[2, 8] };
    let mut counts: Vec<u32> = wanted.iter().copied().filter(|count| *count < programs).collect();
    if !old {
        counts.push(programs / 2);
    }
    counts
}

/// Each pin of a map, and pins of programs and links from the first to the last; after each of them
/// gc finds what was left, and the pins are in nobody's use.
fn killed_loads() -> Result<()> {
    let this = Build::this(false);
    left::nothing()?;
    let programs = Pins::take(&this)?.context("nothing is loaded")?.attached() as u32;
    let mut others = 0;
    for entry in fs::read_dir(this.pin_dir())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        others += u32::from(!name.starts_with("prog_") && !name.starts_with("link_"));
    }
    // The map of tables and that of their numbers have points of their own.
    let maps = others.checked_sub(2).context("no maps are pinned")?;
    ensure!(maps >= 5 && programs >= 50, "{maps} maps and {programs} programs");

    const STEPS: [Point; 3] = [Point::ProgramPinned, Point::ProgramAttached, Point::LinkPinned];
    let mut faults = vec![kill(Point::PinsBegun, 1), kill(Point::TablesPinned, 1)];
    faults.push(kill(Point::TableIdsPinned, 1));
    faults.extend((1..=maps).map(|count| kill(Point::MapPinned, count)));
    faults.extend(STEPS.iter().map(|step| kill(*step, 1)));
    let between = counts(programs).into_iter().zip(STEPS.iter().cycle());
    faults.extend(between.map(|(count, step)| kill(*step, count)));
    faults.push(kill(Point::LinkPinned, programs));

    ensure!(command("unload", None)?.success(), "unload");
    for fault in faults {
        supervisor::run(Some(fault), Until::End)?.was_killed()?;
        ensure!(Pins::take(&this)?.is_none(), "{fault}: pins that are not all are in use");
        let collected = left::collect().with_context(|| format!("gc after {fault}"))?;
        ensure!(collected.pins == 1, "{fault}: gc says {collected:?}");
        left::nothing().with_context(|| format!("after gc, {fault}"))?;
    }
    // The next start; and there is no pin behind the last one.
    supervisor::run(Some(kill(Point::LinkPinned, programs + 1)), Until::End)?.lived()?;
    left::nothing()
}
