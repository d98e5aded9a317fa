//! How it ends, and that nothing is left then.

use std::fs;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use rustix::net::{SendFlags, send};
use wasi_guard_broker::broker::Served;
use wasi_guard_broker::protocol::{Reply, Request};

use crate::worker::{Worker, policy};
use crate::{alone, compile, eventually};

/// An object with a program and a map of this name.
fn small(name: &str) -> Vec<u8> {
    compile::of(&format!(
        "MAP({name}_map, ARRAY, u32, u64, 1);
         SEC(\"raw_tracepoint/sched_process_exec\") int {name}(void *context) {{
             u32 key = 0; return map_lookup(&{name}_map, &key) != 0;
         }}"
    ))
}

/// How many programs and maps of this name the kernel has.
fn in_kernel(name: &str) -> (usize, usize) {
    let programs = aya::programs::loaded_programs().filter_map(Result::ok);
    let programs = programs.filter(|program| program.name_as_str() == Some(name)).count();
    let map = format!("{name}_map");
    let maps = aya::maps::loaded_maps().filter_map(Result::ok);
    (programs, maps.filter(|it| it.name_as_str() == Some(&map)).count())
}

#[test]
fn nonsense_ends_it() {
    for bytes in [&[0xff; 40][..], &[0, 0, 0, 0][..], &[1][..], &[0; 70_000][..]] {
        let worker = Worker::new(policy());
        worker.loaded(&small("nonsense"));
        send(worker.channel.as_fd(), bytes, SendFlags::empty()).unwrap();
        let served = worker.wait();
        assert!(matches!(served, Served::Nonsense(_)), "{bytes:?}: {served:?}");
    }
    eventually("the end of all programs and maps", || in_kernel("nonsense") == (0, 0));
}

#[test]
fn a_worker_that_goes_while_it_polls_leaves_nothing() {
    for wait in [-1, 1_000_000] {
        let worker = Worker::new(policy());
        let object = worker.loaded(&small("polled"));
        worker.attach(object, "polled").unwrap();
        let polling = worker.loaded(&small_ring("polled"));
        let map = worker.map(polling, "polled_map");
        assert_eq!(in_kernel("polled"), (2, 2));
        worker.channel.send(&Request::Poll { object: polling, map, max_size: 1, wait }).unwrap();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(worker.end(), (Served::Gone, Vec::new()));
        eventually("the end of all programs and maps", || in_kernel("polled") == (0, 0));
    }
}

/// One that talks on is heard after its answer.
#[test]
fn a_worker_that_does_not_wait_for_answers_gets_them() {
    let worker = Worker::new(policy());
    let object = worker.loaded(&small_ring("hasty"));
    let map = worker.map(object, "hasty_map");
    for _ in 0..20 {
        let poll = Request::Poll { object, map, max_size: 1, wait: 10 };
        worker.channel.send(&poll).unwrap();
        worker.channel.send(&Request::LastError).unwrap();
    }
    for _ in 0..20 {
        let reply: Reply = worker.channel.receive(None).unwrap();
        assert!(matches!(reply, Reply::Samples(Ok(_))), "{reply:?}");
        let reply: Reply = worker.channel.receive(None).unwrap();
        assert!(matches!(reply, Reply::Value(Ok(_))), "{reply:?}");
    }
    assert_eq!(worker.end(), (Served::Gone, Vec::new()));
}

/// An object with a ring that nobody writes to.
fn small_ring(name: &str) -> Vec<u8> {
    compile::of(&format!(
        "struct {{ NUMBER(type, RINGBUF); NUMBER(max_entries, 4096); }} {name}_map SEC(\".maps\");
         SEC(\"raw_tracepoint/sched_process_exec\") int {name}(void *context) {{
             void *place = pid_tgid() ? 0 : ringbuf_reserve(&{name}_map, 8, 0);
             if (place)
                 ringbuf_submit(place, 0);
             return 0;
         }}"
    ))
}

#[test]
fn ten_thousand_objects_leave_nothing() {
    if !alone::is_alone() {
        let mut command = alone::command("ends::ten_thousand_objects_leave_nothing");
        assert!(command.status().unwrap().success());
        return;
    }
    let worker = Worker::new(policy());
    let (object, ring) = (small("often"), small_ring("often"));
    let bad = compile::of(
        "MAP(often_map, ARRAY, u32, u64, 1);
         SEC(\"raw_tracepoint/sys_enter\") int often(u64 *context) {
             u32 key = 0; return *(u32 *)context[0] + (map_lookup(&often_map, &key) != 0);
         }",
    );
    let round = |at: u32| {
        let bytes = if at.is_multiple_of(10) { &ring } else { &object };
        let handle = worker.loaded(bytes);
        if at.is_multiple_of(10) {
            worker.attach(handle, "often").unwrap();
            worker.poll(handle, worker.map(handle, "often_map"), 0).unwrap();
        }
        worker.close(handle).unwrap();
        if at.is_multiple_of(100) {
            assert_eq!(worker.load(&bad), Err(libc::EACCES));
        }
    };
    // Whatever is taken once and kept is taken now.
    (0..500).for_each(round);
    let before = (descriptors(), memory());
    (0..10_000).for_each(round);
    assert_eq!(descriptors(), before.0);
    let more = memory().saturating_sub(before.1);
    assert!(more < 4 << 20, "{more} bytes more than before");
    eventually("the end of all programs and maps", || in_kernel("often") == (0, 0));
    assert_eq!(worker.end(), (Served::Gone, Vec::new()));
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Bytes that this process has in memory.
fn memory() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
