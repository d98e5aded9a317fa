//! Role Compile and the cache around it.

use std::os::unix::fs::FileExt as _;

use wasi_guard::cache::Cache;
use wasi_guard::compile::{self, Origin, Request, Source};
use wasi_guard::protocol::{FromWorker, Kind, Seccomp, check_options};

use super::guests;
use super::harness::{Run, file_with, worker};

#[test]
fn a_module_that_is_none_is_told_why() {
    let binary = wat::parse_str(guests::hello()).unwrap();
    let half = &binary[..binary.len() / 2];
    let component = guests::component(&guests::hello());
    let half_component = &component[..component.len() / 2];
    for (module, word) in [
        (&b""[..], "empty"),
        (b"\0as", "ends within"),
        (b"#!/bin/sh\n", "not WebAssembly"),
        (b"(module", "expected `)`"),
        (half, "unexpected end"),
        (half_component, "out of bounds"),
        (b"(module (func (result i32)))", "type mismatch"),
    ] {
        let error = Run::new(module).compile(None).unwrap_err();
        assert!(error.is_the_modules_fault(), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn an_unknown_import_is_named_before_the_guest_runs() {
    let error = Run::new(guests::unknown_import()).compile(None).unwrap_err();
    assert!(error.is_the_modules_fault(), "{error}");
    assert!(error.to_string().contains("unknown import: `env::mystery`"), "{error}");
    let component = r#"(component (import "other:thing/x@1.0.0" (instance (export "f" (func)))))"#;
    let error = Run::new(component).compile(None).unwrap_err();
    assert!(error.to_string().contains("other:thing/x@1.0.0"), "{error}");
}

#[test]
fn a_library_is_not_a_command() {
    let error = Run::new("(module)").compile(None).unwrap_err();
    assert!(error.to_string().contains("_start"), "{error}");
    let error = Run::new("(component)").compile(None).unwrap_err();
    assert!(error.to_string().contains("wasi:cli/run"), "{error}");
}

#[test]
fn the_compiler_is_confined() {
    let artifact = Run::new(guests::hello()).compile(None).unwrap();
    let Origin::Compiled { layers, imports_checked } = artifact.origin else { panic!() };
    assert!(imports_checked && layers.no_new_privs && layers.capabilities, "{layers:?}");
    assert_eq!(layers.seccomp, Seccomp::Enforce);
}

#[test]
fn an_artifact_for_all_cpus_runs_here_and_one_for_others_is_made_unlinked() {
    let options = check_options(&[]).unwrap();
    let compile = |target| {
        let request = Request {
            name: "app.wasm",
            options: &options,
            fuel: false,
            epochs: false,
            target: Some(target),
            isolated: None,
            worker: &worker(),
        };
        let mut source = Source::read(file_with(guests::hello().as_bytes())).unwrap();
        compile::obtain(&mut source, &request, None)
    };
    let artifact = compile("x86_64-unknown-linux-gnu").unwrap();
    let outcome = Run::new(guests::hello()).go_with(&artifact.file, artifact.kind);
    assert_eq!(outcome.stdout, "hello\n", "{outcome:?}");
    let error = compile("no-such-target").unwrap_err();
    assert!(error.to_string().contains("set up the compiler"), "{error}");
}

#[test]
fn the_second_start_takes_the_first_ones_artifact() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("cache")).unwrap();
    for module in [guests::hello().into_bytes(), guests::component(&guests::hello())] {
        let run = Run::new(module);
        let first = run.compile(Some(&cache)).unwrap();
        assert!(matches!(first.origin, Origin::Compiled { .. }));
        assert!(first.warnings.is_empty(), "{:?}", first.warnings);
        let second = run.compile(Some(&cache)).unwrap();
        assert_eq!(second.origin, Origin::Cache);
        assert_eq!(run.go_with(&second.file, second.kind).stdout, "hello\n");
    }
    let limited = Run { fuel: Some(1_000_000), ..Run::new(guests::hello()) };
    let other = limited.compile(Some(&cache)).unwrap();
    assert!(matches!(other.origin, Origin::Compiled { .. }), "fuel changes the code");
}

#[test]
fn a_corrupt_entry_is_compiled_anew_and_never_run() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("cache")).unwrap();
    let run = Run::new(guests::hello());
    run.compile(Some(&cache)).unwrap();
    let entry = std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::File::options().write(true).open(&entry).unwrap();
    file.write_all_at(b"????", 1000).unwrap();
    let artifact = run.compile(Some(&cache)).unwrap();
    assert!(matches!(artifact.origin, Origin::Compiled { .. }));
    assert!(artifact.warnings[0].contains("checksum"), "{:?}", artifact.warnings);
    assert_eq!(run.go_with(&artifact.file, artifact.kind).stdout, "hello\n");
    assert_eq!(run.compile(Some(&cache)).unwrap().origin, Origin::Cache);
}

#[test]
fn a_cache_that_cannot_be_written_costs_a_warning_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    let cache = Cache::open(&path).unwrap();
    // The directory is gone: nothing can be made in it any more, for root neither.
    std::fs::remove_dir(&path).unwrap();
    let run = Run::new(guests::hello());
    let artifact = run.compile(Some(&cache)).unwrap();
    assert!(artifact.warnings[0].contains("not kept"), "{:?}", artifact.warnings);
    assert_eq!(run.go_with(&artifact.file, artifact.kind).stdout, "hello\n");
}

#[test]
fn an_incompatible_entry_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("cache")).unwrap();
    let run = Run::new(guests::hello());
    let artifact = run.compile(Some(&cache)).unwrap();
    let wrong = Run { wrong_kind: true, ..Run::new(guests::hello()) };
    let outcome = wrong.go_with(&artifact.file, Kind::Module);
    assert!(matches!(outcome.messages.last(), Some(FromWorker::Incompatible { .. })));
    let options = check_options(&[]).unwrap();
    let request = Request {
        name: "app.wasm",
        options: &options,
        fuel: false,
        epochs: false,
        target: None,
        isolated: None,
        worker: &worker(),
    };
    let mut source = Source::read(file_with(guests::hello().as_bytes())).unwrap();
    let artifact = compile::obtain_anew(&mut source, &request, Some(&cache)).unwrap();
    assert!(matches!(artifact.origin, Origin::Compiled { .. }));
    assert_eq!(run.go_with(&artifact.file, artifact.kind).stdout, "hello\n");
}
