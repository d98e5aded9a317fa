//! A guest made of WAT, and what it is answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::{Engine, Extern, FuncType, Instance, Memory, Module, Store, Val, ValType};

use super::super::super::module::{self, Host};
use super::super::{Broker, imports};
use super::fake::Fake;
use crate::protocol::check_options;

/// All calls under short names, one page of memory, and for each an export of the same name that
/// calls it.
pub(super) const CALLS: &[(&str, &str, &str, &str, &str)] = &[
    ("load", "wasm_bpf", "wasm_load_bpf_object", "i32 i32", "i64"),
    ("close", "wasm_bpf", "wasm_close_bpf_object", "i64", "i32"),
    ("attach", "wasm_bpf", "wasm_attach_bpf_program", "i64 i32 i32", "i32"),
    ("attach_fd", "wasm_bpf", "wasm_attach_bpf_program_fd", "i64 i32 i32", "i32"),
    ("map", "wasm_bpf", "wasm_bpf_map_fd_by_name", "i64 i32", "i32"),
    ("operate", "wasm_bpf", "wasm_bpf_map_operate", "i32 i32 i32 i32 i32 i64", "i32"),
    ("operate64", "wasm_bpf", "wasm_bpf_map_operate", "i32 i32 i64 i64 i64 i64", "i32"),
    ("operate65", "wasm_bpf", "wasm_bpf_map_operate", "i64 i32 i64 i64 i64 i64", "i32"),
    ("poll", "wasm_bpf", "wasm_bpf_buffer_poll", "i64 i32 i32 i32 i32 i32 i32", "i32"),
    ("poll_go", "callback-wrapper", "wasm_bpf_buffer_poll", "i64 i32 i32 i32 i32 i32", "i32"),
    ("lost", "wasm_bpf", "wasm_bpf_buffer_lost", "i64 i32", "i64"),
    ("last_error", "wasm_bpf", "wasm_bpf_last_error", "i32 i32", "i32"),
];

/// The text of a module with all calls and `rest`.
pub(super) fn text(rest: &str) -> String {
    let mut text = String::from("(module\n");
    for (short, from, name, parameters, result) in CALLS {
        text += &format!(
            "(import \"{from}\" \"{name}\" (func ${short} (param {parameters}) (result {result})))\n"
        );
    }
    for (short, _, _, parameters, result) in CALLS {
        let count = parameters.split(' ').count();
        let get: String = (0..count).map(|it| format!("(local.get {it})")).collect();
        text += &format!(
            "(func (export \"{short}\") (param {parameters}) (result {result}) (call ${short} {get}))\n"
        );
    }
    text + rest + ")"
}

/// A guest, and what its broker was asked.
pub(super) struct Guest {
    store: Store<Host>,
    module: Module,
    imports: Vec<Extern>,
    instance: Instance,
    event_loop: tokio::runtime::Runtime,
    pub(super) fake: Arc<Mutex<Fake>>,
}

impl Guest {
    /// A module with all calls, a memory of one page and what `rest` adds.
    pub(super) fn new(rest: &str) -> Self {
        Self::of(&text(&format!("(memory (export \"memory\") 1)\n{rest}")), false)
    }

    pub(super) fn of(text: &str, timed: bool) -> Self {
        let fake = Arc::new(Mutex::new(Fake::default()));
        let (channel, window, end) = Fake::connect();
        let served = Arc::clone(&fake);
        thread::spawn(move || end.serve(&served));
        Self::with(text, Broker::connected(channel, window, timed), fake)
    }

    pub(super) fn with(text: &str, broker: Broker, fake: Arc<Mutex<Fake>>) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, text).unwrap();
        module.initialize_copy_on_write_image().unwrap();
        let linker = module::linker(&engine, &check_options(&[]).unwrap()).unwrap();
        let mut store = Store::new(&engine, Host::test(broker));
        let imports = imports(&mut store, &linker, &module).unwrap();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let event_loop = builder.enable_all().build().unwrap();
        let instance = instantiate(&event_loop, &mut store, &module, &imports);
        Self { store, module, imports, instance, event_loop, fake }
    }

    /// Starts it once more.
    pub(super) fn again(&mut self) {
        self.instance = instantiate(&self.event_loop, &mut self.store, &self.module, &self.imports);
    }

    /// Calls an export, with its arguments cut to its types.
    pub(super) fn try_call(&mut self, name: &str, words: &[i64]) -> wasmtime::Result<i64> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let parameters = parameters(&function.ty(&self.store), words);
        let mut results = [Val::I32(0)];
        let call = function.call_async(&mut self.store, &parameters, &mut results);
        self.event_loop.block_on(call)?;
        Ok(match results {
            [Val::I32(word)] => i64::from(word),
            [Val::I64(word)] => word,
            other => panic!("{other:?}"),
        })
    }

    pub(super) fn call<const N: usize>(&mut self, name: &str, words: [i64; N]) -> i64 {
        self.try_call(name, &words).unwrap()
    }

    /// As [`Guest::try_call`], but given up after `limit`: then there is no answer.
    pub(super) fn within(
        &mut self,
        limit: Duration,
        name: &str,
        words: &[i64],
    ) -> Option<wasmtime::Result<()>> {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let parameters = parameters(&function.ty(&self.store), words);
        let mut results = [Val::I32(0)];
        let call = function.call_async(&mut self.store, &parameters, &mut results);
        self.event_loop.block_on(async { tokio::time::timeout(limit, call).await.ok() })
    }

    fn memory_handle(&mut self) -> Memory {
        self.instance.get_memory(&mut self.store, "memory").unwrap()
    }

    pub(super) fn memory(&mut self) -> &mut [u8] {
        self.memory_handle().data_mut(&mut self.store)
    }

    /// Puts bytes into its memory and answers where.
    pub(super) fn put(&mut self, place: usize, bytes: &[u8]) -> i64 {
        self.memory()[place..place + bytes.len()].copy_from_slice(bytes);
        place as i64
    }

    /// The numbers that the callbacks of [`LOG`] were called with.
    pub(super) fn log(&mut self) -> Vec<[i32; 3]> {
        let memory = self.memory();
        let word = |at: usize| i32::from_le_bytes(memory[at..at + 4].try_into().unwrap());
        (0..word(LOG_AT) as usize)
            .map(|it| [0, 4, 8].map(|part| word(LOG_AT + 4 + it * 12 + part)))
            .collect()
    }

    /// The calls that the broker got.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.fake.lock().unwrap_or_else(PoisonError::into_inner).asked)
    }
}

fn instantiate(
    event_loop: &tokio::runtime::Runtime,
    store: &mut Store<Host>,
    module: &Module,
    imports: &[Extern],
) -> Instance {
    event_loop.block_on(Instance::new_async(store, module, imports)).unwrap()
}

fn parameters(ty: &FuncType, words: &[i64]) -> Vec<Val> {
    assert_eq!(ty.params().len(), words.len());
    let word = |(ty, word): (ValType, &i64)| {
        if ty.is_i32() { Val::I32(*word as i32) } else { Val::I64(*word) }
    };
    ty.params().zip(words).map(word).collect()
}

/// Where [`LOG`] writes: how many, and three words for each.
pub(super) const LOG_AT: usize = 0x8000;

/// A function `$log` that writes down context, size and first byte of a sample.
pub(super) const LOG: &str = r#"
(func $log (param $context i32) (param $data i32) (param $size i32)
  (local $at i32)
  (local.set $at (i32.add (i32.const 0x8004) (i32.mul (i32.load (i32.const 0x8000)) (i32.const 12))))
  (i32.store (local.get $at) (local.get $context))
  (i32.store offset=4 (local.get $at) (local.get $size))
  (i32.store offset=8 (local.get $at) (i32.load8_u (local.get $data)))
  (i32.store (i32.const 0x8000) (i32.add (i32.load (i32.const 0x8000)) (i32.const 1))))
"#;
