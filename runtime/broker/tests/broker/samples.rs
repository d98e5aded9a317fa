//! Samples on their way.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::getppid;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use wasi_guard_broker::broker::{Event, Served};
use wasi_guard_broker::protocol::{MapHandle, ObjectHandle};
use wasi_guard_policy::bpf::Bpf;

use crate::compile;
use crate::worker::{Worker, policy};

/// A worker whose object sends a sample whenever this thread calls getppid(2).
struct Sampling {
    worker: Worker,
    object: ObjectHandle,
    buffer: MapHandle,
    counts: MapHandle,
}

impl Sampling {
    fn to(name: &str) -> Self {
        let worker = Worker::new(Bpf { map_bytes: 1 << 30, ..policy() });
        let object = worker.loaded(&compile::named("samples"));
        let buffer = worker.map(object, name);
        let counts = worker.map(object, "counts");
        // Opened.
        assert_eq!(worker.poll(object, buffer, 0).unwrap(), (Vec::new(), false));
        worker.attach(object, &format!("to_{name}")).unwrap();
        let process = u64::from(std::process::id());
        let thread = process << 32 | u64::from(gettid().as_raw_pid().cast_unsigned());
        let wanted = [thread.to_ne_bytes(), [0; 8]].concat();
        worker.update(worker.map(object, "wanted"), &[0; 4], &wanted).unwrap();
        Self { worker, object, buffer, counts }
    }

    /// How many were sent, and how many found no room.
    fn counts(&self) -> (u64, u64) {
        let value = self.worker.lookup(self.counts, &[0; 4]).unwrap();
        (number(&value), number(&value[8..]))
    }

    fn numbers(&self, wait: i32) -> (Vec<u64>, bool) {
        let (samples, more) = self.worker.poll(self.object, self.buffer, wait).unwrap();
        (samples.iter().map(|sample| number(sample)).collect(), more)
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(*bytes.first_chunk().unwrap())
}

fn send(count: u64) {
    for _ in 0..count {
        let _ = getppid();
    }
}

/// So that samples are in one perf buffer, in order.
fn stay_on_one_processor() {
    let mut set = CpuSet::new();
    set.set(rustix::thread::sched_getcpu());
    sched_setaffinity(None, &set).unwrap();
}

#[test]
fn a_burst_comes_whole_and_in_order() {
    // As many as a ring of 8 MiB has room for, with their headers, and less than the window.
    for (name, count) in [("ring", 100_000), ("perf", 2_000)] {
        stay_on_one_processor();
        let sampling = Sampling::to(name);
        for round in 0..3 {
            send(count);
            let mut all = Vec::new();
            loop {
                let (numbers, more) = sampling.numbers(0);
                all.extend(numbers);
                if !more {
                    break;
                }
            }
            assert!(all.iter().copied().eq(round * count + 1..=(round + 1) * count), "{name}");
            assert_eq!(sampling.counts(), ((round + 1) * count, 0), "{name}");
        }
        assert_eq!(sampling.worker.lost(sampling.object, sampling.buffer), Ok(0));
        assert_eq!(sampling.worker.events(), []);
    }
}

/// While it is read.
#[test]
fn a_stream_comes_whole_and_in_order() {
    let (sender, prepared) = std::sync::mpsc::channel();
    let (say_go, go) = std::sync::mpsc::channel::<()>();
    const COUNT: u64 = 300_000;
    let producer = thread::spawn(move || {
        sender.send(Sampling::to("ring")).unwrap();
        go.recv().unwrap();
        for _ in 0..COUNT / 1000 {
            send(1000);
            thread::sleep(Duration::from_millis(1));
        }
    });
    let sampling = prepared.recv().unwrap();
    say_go.send(()).unwrap();
    let mut last = 0;
    while last < COUNT {
        let (numbers, _) = sampling.numbers(10_000);
        assert!(!numbers.is_empty(), "nothing came after {last}: {:?}", sampling.counts());
        assert!(numbers.iter().copied().eq(last + 1..=last + numbers.len() as u64), "{last}");
        last += numbers.len() as u64;
    }
    assert_eq!(sampling.counts(), (COUNT, 0));
    producer.join().unwrap();
}

/// A guest that is slow: what it loses is told, to it and to the audit.
#[test]
fn losses_are_counted() {
    stay_on_one_processor();
    let sampling = Sampling::to("perf");
    let Sampling { worker, object, buffer, .. } = &sampling;
    send(10_000);
    let (numbers, more) = sampling.numbers(0);
    let room = numbers.len() as u64;
    assert!(!more && (1000..9000).contains(&room) && numbers.iter().copied().eq(1..=room));
    // The kernel says so with the next sample that finds room.
    send(1);
    assert_eq!(sampling.numbers(0), (vec![10_001], false));
    let lost = 10_000 - room;
    assert_eq!(sampling.counts(), (10_001, lost));
    assert_eq!(worker.lost(*object, *buffer), Ok(lost));
    let event = |count| Event::Lost { map: "perf".to_owned(), count };
    assert_eq!(worker.events(), [event(lost)]);
    // Each loss is told to the audit once.
    send(10_000);
    let room = sampling.numbers(0).0.len() as u64;
    send(1);
    sampling.numbers(0);
    let more = 10_000 - room;
    assert_eq!(worker.lost(*object, *buffer), Ok(lost + more));
    assert_eq!(worker.events(), [event(more)]);
    assert_eq!(sampling.worker.end(), (Served::Gone, Vec::new()));
}

#[test]
fn a_poll_waits_as_long_as_it_is_told() {
    let sampling = Sampling::to("ring");
    let Sampling { worker, object, buffer, counts } = &sampling;
    let start = Instant::now();
    assert_eq!(sampling.numbers(100), (Vec::new(), false));
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    send(1);
    let start = Instant::now();
    assert_eq!(sampling.numbers(-1), (vec![1], false));
    assert!(start.elapsed() < Duration::from_secs(10));
    // What is no buffer has none to wait for.
    assert_eq!(worker.poll(*object, *counts, -1), Err(libc::EINVAL));
    assert_eq!(worker.lost(*object, *counts), Ok(0));
    assert_eq!(worker.poll(*object, 0, -1), Err(libc::EBADF));
    assert_eq!(worker.poll(object + 1, *buffer, -1), Err(libc::EBADF));
}
