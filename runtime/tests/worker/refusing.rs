//! Whatever is wrong ends in a clear refusal with exit code 125, before the guest runs.

use std::io::Write as _;

use wasi_guard::protocol::{CONFIG_FD, CompileConfig, FIRST_FD, FromWorker, Role, WorkerConfig};
use wasi_guard_enforce::isolation::Identity;

use super::guests;
use super::harness::{EXECUTABLE, Outcome, PATIENCE, Run, Said, file_with, start, supervise};

#[track_caller]
fn assert_refused(outcome: &Outcome, word: &str) {
    assert_eq!(outcome.code(), 125, "{outcome:?}");
    assert!(!outcome.messages.iter().any(|it| matches!(it, FromWorker::Loaded { .. })));
    match outcome.messages.last() {
        Some(FromWorker::Failed { step, message, .. }) => {
            assert!(format!("{step}: {message}").contains(word), "{outcome:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_canary_that_opens_stops_the_start() {
    let outcome = Run { dead_canary: true, ..Run::new(guests::hello()) }.go();
    assert_refused(&outcome, "see a denied file being denied");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn an_artifact_that_wasmtime_refuses_is_told_as_incompatible() {
    let run = Run::new(guests::hello());
    let artifact = run.compile(None).unwrap();
    let other_options = Run { fuel: Some(1), ..Run::new(guests::hello()) };
    let wrong_kind = Run { wrong_kind: true, ..Run::new(guests::hello()) };
    let damaged = file_with(b"\x7fELF and then nothing");
    for outcome in [
        other_options.go_with(&artifact.file, artifact.kind),
        wrong_kind.go_with(&artifact.file, artifact.kind),
        run.go_with(&damaged, artifact.kind),
    ] {
        assert_eq!(outcome.code(), 125, "{outcome:?}");
        let last = outcome.messages.last();
        assert!(matches!(last, Some(FromWorker::Incompatible { .. })), "{outcome:?}");
    }
}

#[test]
fn options_that_the_command_line_should_have_refused_are_refused() {
    let run = Run::new(guests::hello());
    let artifact = run.compile(None).unwrap();
    for option in ["-Shttp", "-Wfuell=1", "-Whelp", "x"] {
        let run = Run { options: vec![option], ..Run::new(guests::hello()) };
        assert_refused(&run.go_with(&artifact.file, artifact.kind), "options");
    }
}

#[test]
fn a_config_that_is_garbage_is_refused() {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    for bytes in [&b""[..], &[0xff; 64], &[1, 0, 0]] {
        let memfd = memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        let mut file = std::fs::File::from(memfd);
        file.write_all(bytes).unwrap();
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals).unwrap();
        let outcome = start(vec![(file.into(), CONFIG_FD)], "", supervise);
        assert_refused(&outcome, "read the worker's config");
    }
    let outcome = start(vec![(file_with(b"x").into(), CONFIG_FD)], "", supervise);
    assert_refused(&outcome, "not sealed");
    let outcome = start(Vec::new(), "", supervise);
    assert_refused(&outcome, "take over the worker's config");
}

#[test]
fn a_descriptor_that_is_not_there_is_refused() {
    let config = WorkerConfig::new(Role::Compile(CompileConfig {
        identity: Identity::of_compiler().into(),
        name: "x".to_owned(),
        module: FIRST_FD,
        output: FIRST_FD + 1,
        options: Vec::new(),
        fuel: false,
        epochs: false,
        target: None,
    }));
    let outcome = start(vec![(config.to_memfd().unwrap(), CONFIG_FD)], "", supervise);
    assert_refused(&outcome, "take over the descriptors");
}

#[test]
fn a_supervisor_that_says_the_wrong_thing_or_nothing_ends_the_worker() {
    use wasi_guard::protocol::{Channel, ToWorker};
    let run = Run::new(guests::hello());
    let artifact = run.compile(None).unwrap();
    let wrong = |channel: &Channel| {
        started(channel);
        let _ = channel.receive::<FromWorker>(None);
        channel.send(&ToWorker::Start).unwrap();
        supervise(channel)
    };
    let outcome = run.go_talking(&artifact.file, artifact.kind, wrong);
    assert_refused(&outcome, "Start instead of Armed");
    let silent = |channel: &Channel| {
        started(channel);
        // The descriptor that comes with it goes: nobody answers for the filter.
        Said { messages: vec![channel.receive(None).unwrap()], ..Said::default() }
    };
    let outcome = run.go_talking(&artifact.file, artifact.kind, silent);
    assert_eq!(outcome.code(), 125, "{outcome:?}");
    assert!(outcome.stderr.contains("closed the control socket"), "{outcome:?}");
}

/// The first word of a worker.
fn started(channel: &wasi_guard::protocol::Channel) {
    assert_eq!(channel.receive::<FromWorker>(PATIENCE).unwrap(), FromWorker::Started);
}

/// Only the supervisor can answer for the filter: once its descriptor is closed, the kernel says
/// ENOSYS. If the worker had kept a copy, whoever took it over could answer itself.
#[test]
fn the_worker_keeps_no_descriptor_of_its_filter() {
    use wasi_guard::protocol::{Channel, ToWorker};
    let run = Run::new(guests::hello());
    let artifact = run.compile(None).unwrap();
    let deaf = |channel: &Channel| {
        started(channel);
        let (hardened, listener) = channel.receive_with::<FromWorker>(PATIENCE).unwrap();
        drop(listener.unwrap());
        channel.send(&ToWorker::Armed).unwrap();
        let canary = channel.receive(PATIENCE).unwrap();
        channel.send(&ToWorker::Load).unwrap();
        let failed = channel.receive(PATIENCE).unwrap();
        Said { messages: vec![hardened, canary, failed], ..Said::default() }
    };
    let outcome = run.go_talking(&artifact.file, artifact.kind, deaf);
    assert_eq!(outcome.code(), 125, "{outcome:?}");
    // Its first question is about the memory of compiled code.
    let Some(FromWorker::Incompatible { message }) = outcome.messages.last() else {
        panic!("{outcome:?}");
    };
    assert!(message.contains("os error 38"), "{outcome:?}");
}

#[test]
fn a_worker_started_by_hand_says_so() {
    let output = std::process::Command::new(EXECUTABLE).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("not by hand"), "{text}");
}
