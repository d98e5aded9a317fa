//! A guest runs as under `wasmtime run`, without rights.

use wasi_guard::protocol::{End, FromWorker, Mode, Seccomp};

use super::guests;
use super::harness::{Run, read};

#[test]
fn a_module_prints_and_ends_with_0() {
    let outcome = Run::new(guests::hello()).go();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(outcome.stdout, "hello\n");
    assert_eq!(outcome.stderr, "");
    assert_eq!(outcome.messages.last(), Some(&FromWorker::Ended(End::Exit { code: 0 })));
}

#[test]
fn a_module_of_preview_0_prints_too() {
    let outcome = Run::new(guests::hello_preview0()).go();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(outcome.stdout, "hello\n");
}

#[test]
fn every_layer_is_in_force_before_the_guest_runs() {
    let outcome = Run::new(guests::hello()).go();
    let layers = outcome.messages.iter().find_map(|message| match message {
        FromWorker::Loaded { layers } => Some(layers),
        _ => None,
    });
    let layers = layers.unwrap_or_else(|| panic!("{outcome:?}"));
    assert!(layers.no_new_privs && layers.capabilities, "{layers:?}");
    assert!(layers.landlock.is_some_and(|abi| abi >= 2), "{layers:?}");
    assert_eq!(layers.seccomp, Seccomp::Enforce);
    assert!(outcome.messages.contains(&FromWorker::Canary { errno: Some(libc::EACCES) }));
}

#[test]
fn a_component_prints_and_ends_with_0() {
    let outcome = Run::new(guests::component(&guests::hello())).go();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(outcome.stdout, "hello\n");
}

#[test]
fn the_guests_exit_code_is_the_workers() {
    for code in [0, 1, 7, 125] {
        assert_eq!(Run::new(guests::exit(code)).go().code(), i32::from(code));
    }
    let outcome = Run::new(guests::component(&guests::exit(1))).go();
    assert_eq!(outcome.code(), 1, "{outcome:?}");
}

#[test]
fn a_trap_ends_with_134_and_a_backtrace() {
    for module in [guests::trap().into_bytes(), guests::component(&guests::trap())] {
        let outcome = Run::new(module).go();
        assert_eq!(outcome.code(), 134, "{outcome:?}");
        let text = &outcome.stderr;
        assert!(
            text.starts_with("Error: failed to run main module `app.wasm`\n\nCaused by:"),
            "{text}"
        );
        assert!(text.contains("inner") && text.contains("outer"), "{text}");
        assert!(text.contains("wasm trap: wasm `unreachable` instruction executed"), "{text}");
        assert!(matches!(outcome.messages.last(), Some(FromWorker::Ended(End::Trap { .. }))));
    }
}

#[test]
fn fuel_ends_a_guest() {
    let limited = Run { fuel: Some(10_000), ..Run::new(guests::spin()) };
    let outcome = limited.go();
    assert_eq!(outcome.code(), 134, "{outcome:?}");
    assert!(outcome.stderr.contains("all fuel consumed"), "{outcome:?}");
    let outcome = Run { options: vec!["-Wfuel=10000"], ..Run::new(guests::spin()) }.go();
    assert_eq!(outcome.code(), 134, "{outcome:?}");
}

#[test]
fn time_ends_a_guest_that_computes_and_one_that_waits() {
    for module in [guests::spin(), guests::wait()] {
        for module in [module.clone().into_bytes(), guests::component(&module)] {
            let outcome = Run { time: Some(300), ..Run::new(module) }.go();
            assert_eq!(outcome.code(), 134, "{outcome:?}");
            assert!(outcome.stderr.contains("wasm trap: interrupt"), "{outcome:?}");
        }
    }
    let outcome = Run { options: vec!["-Wtimeout=300ms"], ..Run::new(guests::spin()) }.go();
    assert_eq!(outcome.code(), 134, "{outcome:?}");
}

#[test]
fn the_lesser_memory_limit_counts() {
    let pages = |count: u64| Some(count * 65536);
    assert_eq!(Run::new(guests::grow()).go().code(), 0);
    assert_eq!(Run { memory: pages(200), ..Run::new(guests::grow()) }.go().code(), 0);
    assert_eq!(Run { memory: pages(199), ..Run::new(guests::grow()) }.go().code(), 3);
    let options = vec!["-Wmax-memory-size=65536"];
    assert_eq!(Run { memory: pages(200), options, ..Run::new(guests::grow()) }.go().code(), 3);
}

#[test]
fn arguments_and_environment_are_those_of_the_config() {
    let run = Run {
        args: vec!["app.wasm", "--flag", "ä b"],
        env: vec![("NAME", "value=1")],
        ..Run::new(guests::echo())
    };
    assert_eq!(run.go().stdout, "app.wasm\0--flag\0ä b\0NAME=value=1\0");
    let run = Run { module: guests::component(&guests::echo()), ..run };
    assert_eq!(run.go().stdout, "app.wasm\0--flag\0ä b\0NAME=value=1\0");
}

#[test]
fn stdin_reaches_the_guest() {
    let run = Run { stdin: "some text", ..Run::new(guests::cat()) };
    assert_eq!(run.go().stdout, "some text");
    // With a time limit stdin is read by another thread.
    let run = Run { time: Some(60_000), ..run };
    assert_eq!(run.go().stdout, "some text");
    let run = Run { module: guests::component(&guests::cat()), ..run };
    assert_eq!(run.go().stdout, "some text");
}

#[test]
fn a_preopen_can_be_worked_in() {
    for time in [None, Some(60_000)] {
        for module in [guests::files().into_bytes(), guests::component(&guests::files())] {
            let directory = tempfile::tempdir().unwrap();
            let preopens = vec![(directory.path().to_owned(), "/")];
            let outcome = Run { preopens, time, ..Run::new(module) }.go();
            assert_eq!(outcome.code(), 0, "step of `files`: {outcome:?}");
            assert_eq!(read(directory.path().join("link")), "cont");
            assert!(!directory.path().join("sub").exists());
        }
    }
}

#[test]
fn files_are_read_and_written_at_places_and_in_pieces() {
    for time in [None, Some(60_000)] {
        let more = guests::more_files();
        for module in [more.clone().into_bytes(), guests::component(&more)] {
            let directory = tempfile::tempdir().unwrap();
            let preopens = vec![(directory.path().to_owned(), "/")];
            let outcome = Run { preopens, time, stdin: "x", ..Run::new(module) }.go();
            assert_eq!(outcome.code(), 0, "step of `more_files`: {outcome:?}");
            // Of several pieces WASI takes the first: `con`, over it from the third byte on, then
            // what was read from the second byte on at the end.
            assert_eq!(read(directory.path().join("more")), "coconoco");
        }
    }
}

#[test]
fn a_guest_without_a_descriptor_is_told_of_once() {
    for module in [guests::open_many().into_bytes(), guests::component(&guests::open_many())] {
        for time in [None, Some(60_000)] {
            for (open_files, code, told) in [(None, 0, 0), (Some(61), 0, 0), (Some(20), 1, 1)] {
                let preopens = vec![("/tmp".into(), "/")];
                let run = Run { preopens, time, open_files, ..Run::new(&module) };
                let outcome = run.go();
                assert_eq!(outcome.code(), code, "{open_files:?}: {outcome:?}");
                let of_it = |message: &&FromWorker| **message == FromWorker::NoDescriptor;
                assert_eq!(outcome.messages.iter().filter(of_it).count(), told, "{outcome:?}");
            }
        }
    }
}

#[test]
fn audit_mode_runs_without_landlock_and_with_a_filter_that_lets_all_through() {
    let outcome = Run { mode: Mode::Audit, ..Run::new(guests::hello()) }.go();
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.messages.contains(&FromWorker::Canary { errno: None }));
    let Some(FromWorker::Loaded { layers }) = outcome.messages.get(3) else {
        panic!("{outcome:?}")
    };
    assert_eq!((layers.landlock, layers.seccomp), (None, Seccomp::Log));
}
