//! What `wasi_guard_broker::kernel` makes the kernel do, on the kernel that runs the tests: root is
//! needed, and they fail without. Programs are written as instructions, so that no compiler and no
//! parser stands between test and kernel.
//!
//! What a kernel may be built without, or refuse, is tested in virtual machines: kprobes, and programs
//! that are attached by types (`fentry`, `fexit`, `tp_btf`, `lsm`).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod alone;
mod asm;
mod attach;
mod buffers;
mod ends;
mod maps;
mod net;
mod programs;
mod types;
mod uprobes;

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use wasi_guard_broker::image;
use wasi_guard_broker::kernel::{LoadSpec, Map, map_create, program_load};

/// Kinds of maps (`enum bpf_map_type`).
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERF_EVENT_ARRAY: u32 = 4;
const PERCPU_ARRAY: u32 = 6;
const RINGBUF: u32 = 27;

/// Types of programs (`enum bpf_prog_type`).
const SOCKET_FILTER: u32 = 1;
const KPROBE: u32 = 2;
const SCHED_CLS: u32 = 3;
const TRACEPOINT: u32 = 5;
const XDP: u32 = 6;
const PERF_EVENT: u32 = 7;
const SOCK_OPS: u32 = 13;
const RAW_TRACEPOINT: u32 = 17;
const CGROUP_SOCK_ADDR: u32 = 18;

fn make(kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> Map {
    make_from(&image::Map {
        name: "test".to_owned(),
        kind,
        key_size,
        value_size,
        max_entries,
        ..image::Map::default()
    })
}

fn make_from(map: &image::Map) -> Map {
    need_root();
    map_create(map, None, None).unwrap()
}

fn need_root() {
    let root = rustix::process::geteuid().is_root();
    assert!(root, "this test makes BPF maps and loads BPF programs: run it as root");
}

fn spec(prog_type: u32, instructions: &[u64]) -> LoadSpec<'_> {
    LoadSpec {
        name: "test",
        prog_type,
        expected_attach_type: 0,
        flags: 0,
        license: "GPL",
        instructions,
        btf: None,
        func_info: &[],
        func_info_size: 0,
        line_info: &[],
        line_info_size: 0,
        attach_btf_id: 0,
        kernel_version: 0,
    }
}

/// A program that counts how often it ran.
struct Counter {
    map: Map,
    program: OwnedFd,
}

impl Counter {
    /// One that answers with `answer` and counts what the calling thread does.
    fn of_this_thread(prog_type: u32, answer: i32) -> Self {
        Self::new(&spec(prog_type, &[]), Some(rustix::thread::gettid().as_raw_pid()), answer)
    }

    /// One that answers with `answer` and counts all.
    fn of_all(prog_type: u32, answer: i32) -> Self {
        Self::new(&spec(prog_type, &[]), None, answer)
    }

    fn new(spec: &LoadSpec<'_>, thread: Option<i32>, answer: i32) -> Self {
        let map = make(ARRAY, 4, 8, 1);
        let instructions = asm::counting(map.as_fd(), thread, answer);
        let program = program_load(&LoadSpec { instructions: &instructions, ..*spec })
            .unwrap_or_else(|error| panic!("{error}\n{}", error.log));
        Self { map, program }
    }

    fn count(&self) -> u64 {
        let mut value = [0; 8];
        self.map.lookup(&[0; 4], &mut value, 0).unwrap();
        u64::from_ne_bytes(value)
    }
}

/// Waits until `done`, for at most ten seconds.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come about in ten seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}
