//! The kernel's own machinery: BPF, performance counters, keys, page faults, io_uring.
//!
//! Stopped by: seccomp, which ends the worker, or answers ENOSYS for io_uring. Behind it BPF.

use libc::{O_CLOEXEC, O_NONBLOCK};
use wasi_guard_captive::{Value, call};

use super::struct_of;
use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Answered, Killed, Unlisted};
use crate::idea::{Draft, Idea, attempt};
use crate::scene::Scene;

/// Commands of bpf(2).
const MAP_CREATE: i32 = 0;
const PROG_LOAD: i32 = 5;
const OBJ_GET: i32 = 7;
const MAP_GET_NEXT_ID: i32 = 12;
const MAP_GET_FD_BY_ID: i32 = 14;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        attempt("bpf_make_a_map", Works, Killed, |d| {
            // An array of one entry, keys and values of four bytes.
            let attributes = words(d, &[2, 4, 4, 1]);
            call!(d, SYS_bpf, MAP_CREATE, attributes, 128)
        }),
        attempt("bpf_load_a_program", Works, Killed, |d| {
            let code = [0xb7_u64, 0x95].map(u64::to_ne_bytes).concat();
            let (code, license) = (d.bytes(code), d.text("GPL"));
            // A socket filter: r0 = 0; exit.
            let two: Value = (1_u64 | (2 << 32)).into();
            let fields = [(0, two), (8, code.into()), (16, license.into())];
            let attributes = struct_of(d, 128, &fields);
            call!(d, SYS_bpf, PROG_LOAD, attributes, 128)
        }),
        attempt("bpf_open_a_pinned_map", Works, Killed, |d| {
            let path = d.text(format!("{}/GUESTS", pins()));
            let attributes = struct_of(d, 128, &[(0, path.into())]);
            call!(d, SYS_bpf, OBJ_GET, attributes, 128)
        }),
        attempt("bpf_open_a_map_by_its_id", Works, Killed, |d| {
            let first = words(d, &[0]);
            if d.free {
                call!(d, SYS_bpf, MAP_GET_NEXT_ID, first, 128);
            }
            let id = match first {
                // next_id stands behind start_id.
                Value::Address(buffer) if d.free => Value::Word(buffer, 4),
                _ => 1.into(),
            };
            let attributes = struct_of(d, 128, &[(0, id)]);
            call!(d, SYS_bpf, MAP_GET_FD_BY_ID, attributes, 128)
        }),
        attempt("count_events_of_the_host", Works, Killed, |d| {
            // PERF_TYPE_SOFTWARE, of 112 bytes, PERF_COUNT_SW_CPU_CLOCK; all processes on one processor.
            let attributes = struct_of(d, 128, &[(0, (1_u64 | (112 << 32)).into())]);
            call!(d, SYS_perf_event_open, attributes, -1, 0, -1, 0)
        }),
        attempt("stop_the_kernel_at_a_page", Works, Killed, |d| {
            call!(d, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)
        }),
        attempt("add_a_key", Works, Killed, |d| {
            let (kind, name) = (d.text("user"), d.text("escape-suite"));
            // KEY_SPEC_PROCESS_KEYRING
            call!(d, SYS_add_key, kind, name, name, 4, -2)
        }),
        attempt("ask_for_a_key", Fails(libc::ENOKEY), Killed, |d| {
            let (kind, name) = (d.text("user"), d.text("no such key"));
            call!(d, SYS_request_key, kind, name, 0, 0)
        }),
        attempt("use_keys", Works, Killed, |d| {
            // KEYCTL_GET_KEYRING_ID of KEY_SPEC_PROCESS_KEYRING, made if it is missing.
            call!(d, SYS_keyctl, 0, -2, 1)
        }),
        attempt("make_a_ring", Works, Answered, |d| {
            let parameters = d.zeros(120);
            call!(d, SYS_io_uring_setup, 2, parameters)
        }),
        attempt("enter_a_ring", Works, Answered, |d| {
            let ring = ring(d);
            call!(d, SYS_io_uring_enter, ring, 0, 0, 0, 0, 0)
        }),
        attempt("register_with_a_ring", Works, Answered, |d| {
            let ring = ring(d);
            // IORING_REGISTER_PERSONALITY
            call!(d, SYS_io_uring_register, ring, 9, 0, 0)
        }),
        attempt("queue_a_request_without_ring", Works, Unlisted, |d| {
            let context = d.zeros(8);
            call!(d, SYS_io_setup, 1, context)
        }),
    ]
}

fn ring(d: &mut Draft) -> Value {
    let parameters = d.zeros(120);
    if d.free { call!(d, SYS_io_uring_setup, 2, parameters) } else { 0.into() }
}

fn words(d: &mut Draft, words: &[u32]) -> Value {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.resize(128, 0);
    d.bytes(bytes).into()
}

/// The directory of wasi-guard's pins: there, since a worker has been started.
fn pins() -> String {
    let entries = std::fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten();
    let found = entries.map(|entry| entry.path()).find(|path| path.join("GUESTS").exists());
    found.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}
