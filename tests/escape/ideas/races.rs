//! Two threads: one changes what a system call is about while the other makes the call.
//!
//! Stopped by: BPF, which judges what the kernel has found in the end, not what was said; and by the
//! supervisor's following no pointer where seccomp asks it.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use libc::{AT_FDCWD, F_DUPFD_CLOEXEC, O_DIRECTORY, O_PATH, O_RDONLY};
use wasi_guard_captive::{Answer, Buffer, Race, Script, Step, Value, call};

use super::HIGH;
use crate::idea::Free::Works;
use crate::idea::Guarded::Unlisted;
use crate::idea::{Idea, attempt};
use crate::outside;
use crate::scene::Scene;
use crate::stops;
use crate::trial::Lab;

/// Rounds of one script: not more than have room in the buffer for records if nobody reads them.
const ROUNDS: u32 = 300;
/// Scripts for a worker.
const SCRIPTS: usize = 4;
const GRANTED: &[u8; 8] = b"granted!";
const SECRET: &[u8; 8] = b"a secret";

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("rewrite_a_path_while_it_is_opened", |lab| race(lab, "open", &path_to_open)),
        Idea::Case("rewrite_a_path_while_it_is_renamed", |lab| {
            race(lab, "rename", &path_to_rename)
        }),
        Idea::Case("swap_a_directory_while_a_name_below_is_opened", |lab| {
            race(lab, "open", &directory)
        }),
        Idea::Case("swap_a_descriptor_while_it_is_opened_again", |lab| {
            race(lab, "open", &descriptor)
        }),
        // The swap in one step.
        attempt("put_a_descriptor_in_the_place_of_another", Works, Unlisted, |d| {
            call!(d, SYS_dup2, 0, HIGH)
        }),
        attempt("put_a_descriptor_in_the_place_of_another_by_dup3", Works, Unlisted, |d| {
            call!(d, SYS_dup3, 0, HIGH, 0)
        }),
    ]
}

/// The files between which a race is, as a race finds them.
fn files() -> Result<()> {
    for (name, text) in
        [("data/out/race", GRANTED), ("data/secret/race", SECRET), ("outside/race", SECRET)]
    {
        fs::write(Scene::path(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn no_files() {
    for name in ["data/out/race", "data/out/moved", "data/secret/race", "outside/race"] {
        // Some are gone already, or were never there.
        let _ = fs::remove_file(Scene::path(name));
    }
}

/// Where nothing guards, the race is won at least once; in a worker never, and each attempt that
/// was denied has its record.
fn race(lab: &mut Lab<'_>, operation: &str, writer: &dyn Fn(&mut Script) -> Race) -> Result<()> {
    let mut script = Script::default();
    let race = writer(&mut script);
    script.race = Some(race);
    let result = outside(&script)
        .context("where nothing guards")
        .and_then(|()| inside(lab, operation, &script).context("in the worker"))
        .and_then(|()| outside(&script).context("where nothing guards, the second time"));
    no_files();
    result
}

fn count(answer: &Answer, result: i64, shown: &[u8; 8]) -> u32 {
    let alike = answer.rounds.iter().filter(|it| it.result == result && it.shown == shown);
    alike.map(|it| it.count).sum()
}

fn outside(script: &Script) -> Result<()> {
    files()?;
    let (answer, status) = outside::run(script)?;
    let answer = answer.with_context(|| format!("no answer: {status}"))?;
    ensure!(count(&answer, 0, SECRET) > 0, "the race is never won: {answer:?}");
    Ok(())
}

fn inside(lab: &mut Lab<'_>, operation: &str, script: &Script) -> Result<()> {
    let refused = -i64::from(stops::DENIED);
    // Both happen while the other thread has taken the one away and not put the other there.
    let between = [libc::ENOENT, libc::EBADF].map(|errno| -i64::from(errno));
    let mut captive = lab.captive("")?;
    let (mut denied, mut granted) = (0, 0);
    files()?;
    for _ in 0..SCRIPTS {
        let (answer, records) = captive.ask(script)?.context("the worker is gone")?;
        let rounds: u32 = answer.rounds.iter().map(|it| it.count).sum();
        ensure!(rounds == ROUNDS, "{rounds} rounds: {answer:?}");
        for it in &answer.rounds {
            let good = match it.result {
                0 => it.shown == GRANTED,
                errno => it.shown == [0; 8] && (errno == refused || between.contains(&errno)),
            };
            ensure!(good, "{it:?}");
        }
        let of_bpf: Vec<_> = records.iter().filter(|it| !stops::is_of_seccomp(it)).collect();
        let expected = |it: &&&serde_json::Value| {
            it["record"] == "denial" && it["verdict"] == "denied" && it["operation"] == operation
        };
        let recorded = of_bpf.iter().filter(expected).count();
        let attempts = count(&answer, refused, &[0; 8]);
        ensure!(
            recorded == of_bpf.len() && recorded == attempts as usize,
            "{attempts} attempts were denied; {recorded} of {} records: {:?}",
            of_bpf.len(),
            of_bpf.first()
        );
        denied += attempts;
        granted += count(&answer, 0, GRANTED);
    }
    ensure!(denied > 0 && granted > 0, "no race: {denied} denied, {granted} granted");
    captive.end()?.in_order()
}

/// Where the two paths differ; they have the same length.
const DIFFERENCE: [&[u8; 8]; 2] = [b"out////r", b"secret/r"];

fn path(script: &mut Script) -> (Buffer, usize) {
    let before = Scene::text("data/");
    (script.text(format!("{before}out////race")), before.len())
}

/// Both sleep, the rival between its changes, the other after each round. Where processors take
/// turns, as in an emulated machine, neither would let the other in for hundreds of rounds; so it is
/// a timer that does, at any instruction of the other's call.
fn sleep(script: &mut Script) {
    let time = script.bytes([0_u64, 20_000].map(u64::to_ne_bytes).concat());
    call!(script, SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, time, 0);
}

/// The rival writes the one path, then the other.
fn rewrites(script: &mut Script, path: Buffer, place: usize) -> Vec<Step> {
    for text in DIFFERENCE {
        script.put(path, place, u64::from_ne_bytes(*text));
        sleep(script);
    }
    script.side(0)
}

/// Reads what was opened, closes it, and waits a little.
fn show(script: &mut Script, file: Value) -> Buffer {
    let shows = script.zeros(8);
    call!(script, SYS_pread64, file, shows, 8, 0);
    call!(script, SYS_close, file);
    sleep(script);
    shows
}

fn path_to_open(script: &mut Script) -> Race {
    let (path, place) = path(script);
    let file = call!(script, SYS_openat, AT_FDCWD, path, O_RDONLY);
    let shows = show(script, file);
    let steps = script.side(0);
    Race { rival: rewrites(script, path, place), steps, rounds: ROUNDS, decides: 0, shows }
}

/// A file that was renamed goes back, to the granted name: won once, the secret is there.
fn path_to_rename(script: &mut Script) -> Race {
    let (path, place) = path(script);
    let moved = script.text(Scene::text("data/out/moved"));
    let back = script.text(Scene::text("data/out/race"));
    call!(script, SYS_renameat, AT_FDCWD, path, AT_FDCWD, moved);
    let file = call!(script, SYS_openat, AT_FDCWD, moved, O_RDONLY);
    let shows = show(script, file);
    call!(script, SYS_renameat, AT_FDCWD, moved, AT_FDCWD, back);
    let steps = script.side(0);
    Race { rival: rewrites(script, path, place), steps, rounds: ROUNDS, decides: 0, shows }
}

/// Opens two paths without any right, and has a rival put the one and the other at [`HIGH`].
fn swapped(script: &mut Script, names: [&str; 2], flags: i32) -> usize {
    for name in names {
        let path = script.text(Scene::text(name));
        call!(script, SYS_openat, AT_FDCWD, path, O_PATH | flags);
    }
    script.steps.len()
}

fn swaps(script: &mut Script, since: usize) -> Vec<Step> {
    for opened in [0, 1] {
        call!(script, SYS_close, HIGH);
        call!(script, SYS_fcntl, Value::Result(opened), F_DUPFD_CLOEXEC, HIGH);
        sleep(script);
    }
    script.side(since)
}

fn directory(script: &mut Script) -> Race {
    let since = swapped(script, ["data/out", "outside"], O_DIRECTORY);
    let name = script.text("race");
    let file = call!(script, SYS_openat, HIGH, name, O_RDONLY);
    let shows = show(script, file);
    let steps = script.side(since);
    Race { rival: swaps(script, since), steps, rounds: ROUNDS, decides: 0, shows }
}

fn descriptor(script: &mut Script) -> Race {
    let since = swapped(script, ["data/out/race", "outside/race"], 0);
    let name = script.text(format!("/proc/self/fd/{HIGH}"));
    let file = call!(script, SYS_openat, AT_FDCWD, name, O_RDONLY);
    let shows = show(script, file);
    let steps = script.side(since);
    Race { rival: swaps(script, since), steps, rounds: ROUNDS, decides: 0, shows }
}
