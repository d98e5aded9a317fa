//! The system calls behind the imports are on the lists of the workers.

use wasmtime::{Config, Engine};

use super::super::super::super::seccomp::{List, tests::confined};
use super::super::super::module;
use super::machine::{Guest, LOG, text};
use crate::protocol::check_options;

#[test]
fn a_compiler_may_do_all_that_linking_needs() {
    let check = |text: String| {
        let mut config = Config::new();
        // The threads of a shared pool would inherit the filter.
        config.parallel_compilation(false);
        let engine = Engine::new(&config).unwrap();
        let artifact = engine.precompile_module(text.as_bytes()).unwrap();
        let options = check_options(&[]).unwrap();
        confined(List::Compile, move || {
            let checked = module::check_imports(&engine, &options, &artifact);
            checked.map_err(|failure| failure.to_string())
        })
    };
    assert_eq!(check(text(r#"(func (export "_start"))"#)), Ok(()));
    let bent = r#"(import "wasm_bpf" "wasm_close_bpf_object" (func (param i32)))"#;
    let bent = text("").replacen("(module", &format!("(module {bent}"), 1);
    let error = check(bent).unwrap_err();
    assert!(error.contains("`wasm_bpf::wasm_close_bpf_object`"), "{error}");
    assert!(check(text("")).unwrap_err().contains("_start"));
}

#[test]
fn a_worker_may_do_all_that_the_calls_need() {
    let rest = r#"(memory (export "memory") 64) (table (export "t") 2 funcref)
        (elem (i32.const 1) $on)
        (func $on (param i32 i32 i32) (result i32)
          (call $log (local.get 0) (local.get 1) (local.get 2))
          (drop (memory.grow (i32.const 1)))
          (call $poll (i64.const 1) (i32.const 12) (i32.const 1) (i32.const 5) (i32.const 0)
            (i32.const 64) (i32.const 60)))"#;
    let mut guest = Guest::of(&text(&format!("{LOG}{rest}")), true);
    guest.fake.lock().unwrap().samples.extend([vec![1], vec![2], vec![3; 100_000]]);
    confined(List::Run, move || {
        guest.again();
        // Inline and through the window, both ways.
        guest.put(0, b"object");
        assert_eq!(guest.call("load", [0, 1 << 20]), 1);
        guest.put(0, b"large\0ring\0");
        let large = guest.call("map", [1, 0]);
        assert_eq!(guest.call("map", [1, 6]), 12);
        assert_eq!(guest.call("attach", [1, 0, 6]), 0);
        assert_eq!(guest.call("attach_fd", [1, 0, 3]), 0);
        assert_eq!(guest.call("operate", [large, 2, 0, 1 << 20, 0, 0]), 0);
        assert_eq!(guest.call("operate64", [large, 1, 0, 1 << 20, 0, 0]), 0);
        assert_eq!(guest.call("operate65", [large, 4, 0, 0, 0, 0]), 0);
        assert_eq!(guest.call("operate", [large, 3, 0, 0, 0, 0]), 0);
        // Stacks for callbacks, waits in slices, memory that grows.
        assert_eq!(guest.call("poll", [1, 12, 1, 5, 0, 100_000, 1000]), 0);
        assert_eq!(guest.log(), [[5, 1, 1], [5, 1, 2], [5, 64, 3]]);
        assert_eq!(guest.call("lost", [1, 12]), 7);
        assert!(guest.call("last_error", [0, 100]) > 0);
        assert_eq!(guest.call("close", [1]), 0);
    });
}
