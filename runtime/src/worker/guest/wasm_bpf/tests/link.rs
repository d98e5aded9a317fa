//! Which modules get their imports.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::{Engine, Module, Store};

use super::super::super::module::{self, Host};
use super::super::{Broker, imports, wanted};
use super::fake::Fake;
use super::machine::{Guest, text};
use crate::protocol::{Channel, FromWorker, check_options};

fn linked(text: &str) -> Result<usize, String> {
    let engine = Engine::default();
    let module = Module::new(&engine, text).unwrap();
    let linker = module::linker(&engine, &check_options(&[]).unwrap()).unwrap();
    let mut store = Store::new(&engine, Host::test(Broker::refusing(None)));
    imports(&mut store, &linker, &module).map(|it| it.len()).map_err(|it| it.to_string())
}

#[test]
fn one_module_may_have_a_call_with_several_types() {
    assert_eq!(linked(&text("")), Ok(12));
    let wasi = r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#;
    let twice = r#"(import "wasm_bpf" "wasm_close_bpf_object" (func (param i64) (result i32)))"#;
    let other = r#"(import "wasm_bpf" "wasm_bpf_map_operate"
        (func (param i32 i32 i64 i64 i64 i64) (result i32)))"#;
    let narrow = r#"(import "wasm_bpf" "wasm_bpf_map_operate"
        (func (param i32 i32 i32 i32 i32 i64) (result i32)))"#;
    let all = format!("(module {twice} {other} {wasi} {narrow} {wasi} {twice})");
    assert_eq!(linked(&all), Ok(6));
}

#[test]
fn what_nobody_provides_is_named() {
    let good = r#"(import "wasm_bpf" "wasm_close_bpf_object" (func (param i64) (result i32)))"#;
    for (bad, words) in [
        (
            r#"(import "wasm_bpf" "wasm_close_bpf_object" (func (param i32) (result i32)))"#,
            "unknown import: `wasm_bpf::wasm_close_bpf_object` has not been defined",
        ),
        (
            r#"(import "wasm_bpf" "wasm_load_bpf_object" (memory 1))"#,
            "unknown import: `wasm_bpf::wasm_load_bpf_object` has not been defined",
        ),
        (r#"(import "env" "f" (func))"#, "unknown import: `env::f` has not been defined"),
        (
            r#"(import "wasi_snapshot_preview1" "sched_yield" (func))"#,
            "incompatible import type for `wasi_snapshot_preview1::sched_yield`",
        ),
        (
            r#"(import "wasi_snapshot_preview1" "sched_yield" (global i32))"#,
            "incompatible import type for `wasi_snapshot_preview1::sched_yield`",
        ),
    ] {
        let error = linked(&format!("(module {good} {bad})")).unwrap_err();
        assert!(error.starts_with(words), "{error}");
    }
}

#[test]
fn other_modules_are_linked_as_ever() {
    let is_wanted = |text: &str| wanted(&Module::new(&Engine::default(), text).unwrap());
    assert!(is_wanted(&text("")));
    assert!(!is_wanted("(module)"));
    assert!(!is_wanted(r#"(module (import "env" "f" (func)))"#));
    assert!(!is_wanted(r#"(module (import "wasm_bpf" "wasm_close_bpf_object" (func)))"#));
}

#[test]
fn without_a_broker_every_call_is_refused_and_loads_are_told() {
    let (ours, theirs) = Channel::pair().unwrap();
    let broker = Broker::refusing(Some(Arc::new(ours)));
    let text = text(r#"(memory (export "memory") 1) (table (export "t") 1 funcref)"#);
    let mut guest = Guest::with(&text, broker, Arc::new(Mutex::new(Fake::default())));
    let before = guest.memory().to_vec();
    assert_eq!(guest.call("load", [16, 1000]), 0);
    assert_eq!(guest.call("load", [-1, -1]), 0);
    assert_eq!(guest.call("close", [1]), -1);
    assert_eq!(guest.call("attach", [1, 0, 0]), -1);
    assert_eq!(guest.call("attach_fd", [1, 0, 3]), -1);
    assert_eq!(guest.call("map", [1, 0]), -1);
    assert_eq!(guest.call("operate", [3, 1, 0, 8, 16, 0]), -1);
    assert_eq!(guest.call("operate64", [3, 1, 0, 8, 16, 0]), -1);
    assert_eq!(guest.call("operate65", [3, 1, 0, 8, 16, 0]), -1);
    assert_eq!(guest.call("poll", [1, 3, 0, 0, 0, 64, -1]), -1);
    assert_eq!(guest.call("poll_go", [1, 3, 0, 0, 64, -1]), -1);
    assert_eq!(guest.call("lost", [1, 3]), -1);
    assert_eq!(guest.call("last_error", [0, 64]), -1);
    assert!(*guest.memory() == *before);
    let theirs = Channel::from_fd(theirs);
    for bytes in [1000, u32::MAX] {
        let told: FromWorker = theirs.receive(Some(Duration::ZERO)).unwrap();
        assert_eq!(told, FromWorker::BpfLoad { bytes });
    }
    assert!(theirs.receive::<FromWorker>(Some(Duration::ZERO)).is_err());
}
