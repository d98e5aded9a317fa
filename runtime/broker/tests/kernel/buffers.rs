//! Ring buffers and perf buffers.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getppid;
use rustix::thread::{CpuSet, gettid, sched_setaffinity};
use wasi_guard_broker::kernel::{Buffer, Collected, Link, Map, attach, program_load};

use crate::asm::{self, Output};
use crate::{ARRAY, HASH, PERF_EVENT_ARRAY, RINGBUF, TRACEPOINT, make, need_root, spec};

const NO_LIMIT: usize = usize::MAX;

/// A buffer, and a program that sends samples to it whenever this thread calls getppid(2).
struct Sender {
    buffer: Buffer,
    counter: Map,
    _link: Link,
    _map: Map,
    _program: OwnedFd,
}

impl Sender {
    /// `times` samples of `size` bytes each time, to a ring of `bytes` or to perf buffers.
    fn new(to: Output, bytes: u32, times: i32, size: i32) -> Self {
        need_root();
        let map = match to {
            Output::Ring => make(RINGBUF, 0, 0, bytes),
            Output::Perf => make(PERF_EVENT_ARRAY, 4, 4, 0),
        };
        let counter = make(ARRAY, 4, 8, 1);
        let thread = gettid().as_raw_pid();
        let instructions = asm::sending(to, map.as_fd(), counter.as_fd(), thread, (times, size));
        let program = program_load(&spec(TRACEPOINT, &instructions))
            .unwrap_or_else(|error| panic!("{error}\n{}", error.log));
        let buffer = Buffer::open(&map).unwrap();
        let link = attach::tracepoint(program.as_fd(), "syscalls", "sys_enter_getppid").unwrap();
        Self { buffer, counter, _link: link, _map: map, _program: program }
    }

    fn send(&self) {
        let _ = getppid();
    }

    fn sent(&self) -> u64 {
        let mut value = [0; 8];
        self.counter.lookup(&[0; 4], &mut value, 0).unwrap();
        u64::from_ne_bytes(value)
    }

    fn collect(&mut self, max_size: u32, limit: usize) -> (Collected, Vec<Vec<u8>>) {
        let mut bytes = Vec::new();
        let collected = self.buffer.collect(max_size, limit, &mut bytes);
        assert!(bytes.len() <= limit);
        let samples = split(&bytes);
        assert_eq!(samples.len(), collected.count as usize);
        (collected, samples)
    }

    fn is_readable(&self, wait: Duration) -> bool {
        let fds = self.buffer.fds();
        let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        poll(&mut fds, Some(&Timespec::try_from(wait).unwrap())).unwrap() > 0
    }
}

fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut samples = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (sample, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        samples.push(sample.to_vec());
        bytes = rest;
    }
    samples
}

fn number(sample: &[u8]) -> u64 {
    u64::from_ne_bytes(*sample.first_chunk().unwrap())
}

/// The calling thread runs on one processor, so that samples are in one perf buffer, in order.
fn stay_on_one_processor() {
    let mut set = CpuSet::new();
    set.set(rustix::thread::sched_getcpu());
    sched_setaffinity(None, &set).unwrap();
}

const BOTH: [Output; 2] = [Output::Ring, Output::Perf];

#[test]
fn samples_come_in_order_whatever_fits_at_once() {
    stay_on_one_processor();
    for to in BOTH {
        // 40 samples of 44 bytes, which a perf buffer has as 44, and a ring as well.
        let mut sender = Sender::new(to, 1 << 16, 40, 44);
        for limit in [4, 11, 48, 49, 95, 96, 97, 500, 1 << 20] {
            let mut numbers = Vec::new();
            let first = sender.sent() + 1;
            sender.send();
            loop {
                let (collected, samples) = sender.collect(u32::MAX, limit);
                assert!(collected.count > 0);
                for sample in &samples {
                    assert_eq!(sample.len(), 44.min(limit - 4), "{to:?} {limit}");
                }
                if limit >= 12 {
                    numbers.extend(samples.iter().map(|sample| number(sample)));
                } else {
                    numbers
                        .extend((numbers.len()..).map(|it| first + it as u64).take(samples.len()));
                }
                if !collected.more {
                    break;
                }
            }
            assert_eq!(numbers, (first..first + 40).collect::<Vec<_>>(), "{to:?} {limit}");
            assert_eq!(sender.collect(u32::MAX, NO_LIMIT).0, Collected::default());
        }
        assert_eq!(sender.buffer.lost(), 0);
    }
}

#[test]
fn samples_are_cut_to_what_is_wanted() {
    stay_on_one_processor();
    for to in BOTH {
        let mut sender = Sender::new(to, 1 << 16, 3, 60);
        for (max_size, length) in [(0, 0), (1, 1), (8, 8), (59, 59), (60, 60), (61, 60)] {
            sender.send();
            let (collected, samples) = sender.collect(max_size, NO_LIMIT);
            assert_eq!(collected, Collected { count: 3, more: false });
            assert!(samples.iter().all(|sample| sample.len() == length), "{to:?} {max_size}");
        }
    }
}

#[test]
fn a_sample_that_waits_is_whole() {
    stay_on_one_processor();
    for to in BOTH {
        let mut sender = Sender::new(to, 1 << 16, 2, 100);
        sender.send();
        // The first is cut; the second does not fit, and is asked for with another size.
        let (collected, samples) = sender.collect(16, 20);
        assert_eq!(collected, Collected { count: 1, more: true });
        assert_eq!((samples[0].len(), number(&samples[0])), (16, 1));
        // Nothing fits, and nothing is lost.
        assert_eq!(sender.collect(16, 3).0, Collected { count: 0, more: true });
        let (collected, samples) = sender.collect(1000, NO_LIMIT);
        assert_eq!(collected, Collected { count: 1, more: false });
        assert_eq!((samples[0].len(), number(&samples[0])), (100, 2));
    }
}

/// The kernel rounds so that size and sample together end at a multiple of eight.
#[test]
fn a_perf_sample_is_rounded_up() {
    let mut sender = Sender::new(Output::Perf, 0, 1, 45);
    sender.send();
    let (_, samples) = sender.collect(u32::MAX, NO_LIMIT);
    assert_eq!(samples[0].len(), 52);
    assert_eq!(samples[0][8..45], [0; 37]);
}

#[test]
fn what_finds_no_room_in_a_perf_buffer_is_counted() {
    stay_on_one_processor();
    let mut sender = Sender::new(Output::Perf, 0, 1000, 60);
    // 64 pages have room for some 3200.
    for _ in 0..10 {
        sender.send();
    }
    let (collected, samples) = sender.collect(8, NO_LIMIT);
    let room = u64::from(collected.count);
    assert!((2000..5000).contains(&room), "{room}");
    assert_eq!(samples.last().map(|sample| number(sample)), Some(room));
    // The kernel says so with the next sample that finds room.
    sender.send();
    let (collected, samples) = sender.collect(8, NO_LIMIT);
    assert_eq!(collected, Collected { count: 1000, more: false });
    assert_eq!(number(&samples[0]), 10_001);
    assert_eq!(sender.buffer.lost(), 10_000 - room);
}

#[test]
fn a_full_ring_gives_what_it_has() {
    let mut sender = Sender::new(Output::Ring, 4096, 1000, 56);
    sender.send();
    // Of 64 bytes each with its header; a ring is never full to its last byte.
    let (collected, samples) = sender.collect(8, NO_LIMIT);
    assert_eq!(collected, Collected { count: 63, more: false });
    assert_eq!(samples.iter().map(|it| number(it)).collect::<Vec<_>>(), Vec::from_iter(1..=63));
    assert_eq!(sender.buffer.lost(), 0);
}

#[test]
fn descriptors_say_that_samples_came() {
    for to in BOTH {
        let mut sender = Sender::new(to, 1 << 16, 1, 32);
        assert!(!sender.is_readable(Duration::ZERO), "{to:?}");
        sender.send();
        assert!(sender.is_readable(Duration::from_secs(10)), "{to:?}");
        assert_eq!(sender.collect(u32::MAX, NO_LIMIT).0.count, 1);
        assert!(!sender.is_readable(Duration::from_millis(20)), "{to:?}");
    }
}

#[test]
fn every_processor_has_a_perf_buffer() {
    let sender = Sender::new(Output::Perf, 0, 1, 32);
    let online = aya::util::online_cpus().unwrap();
    assert_eq!(sender.buffer.fds().len(), online.len());
    let mut sender = sender;
    for cpu in online {
        let mut set = CpuSet::new();
        set.set(cpu as usize);
        sched_setaffinity(None, &set).unwrap();
        sender.send();
    }
    let sent = sender.sent() as u32;
    assert_eq!(sender.collect(u32::MAX, NO_LIMIT).0, Collected { count: sent, more: false });
}

/// One that is never empty does not keep the others waiting.
#[test]
fn perf_buffers_take_turns() {
    let mut sender = Sender::new(Output::Perf, 0, 10, 36);
    let online = aya::util::online_cpus().unwrap();
    for cpu in &online {
        let mut set = CpuSet::new();
        set.set(*cpu as usize);
        sched_setaffinity(None, &set).unwrap();
        sender.send();
    }
    // Room for one each time: of every processor one comes before the second of any.
    let numbers: Vec<_> = std::iter::from_fn(|| {
        let (collected, samples) = sender.collect(u32::MAX, 40);
        (collected.count == 1).then(|| number(&samples[0]))
    })
    .collect();
    assert_eq!(numbers.len(), online.len() * 10);
    let mut sorted = numbers.clone();
    sorted.sort();
    assert_eq!(sorted, Vec::from_iter(1..=online.len() as u64 * 10));
    for ours in 0..online.len() as u64 {
        // Of each processor in order.
        let own: Vec<_> = numbers.iter().filter(|it| (**it - 1) / 10 == ours).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
    let early = &numbers[..online.len() + 1];
    let seen = |ours: u64| early.iter().any(|it| (*it - 1) / 10 == ours);
    assert!((0..online.len() as u64).all(seen), "{early:?}");
}

#[test]
fn other_maps_are_no_buffers() {
    let map = make(HASH, 4, 4, 1);
    let refused = Buffer::open(&map).err().unwrap();
    assert_eq!(refused.errno, rustix::io::Errno::INVAL);
}

#[test]
fn a_million_samples_a_second_are_read() {
    stay_on_one_processor();
    for (to, rounds, sends) in [(Output::Ring, 3, 200), (Output::Perf, 40, 3)] {
        let mut sender = Sender::new(to, 16 << 20, 1000, 64);
        let (mut count, mut took, mut bytes) =
            (0_u64, Duration::ZERO, Vec::with_capacity(32 << 20));
        for _ in 0..rounds {
            for _ in 0..sends {
                sender.send();
            }
            let start = Instant::now();
            let collected = loop {
                bytes.clear();
                let collected = sender.buffer.collect(4096, 1 << 20, &mut bytes);
                count += u64::from(collected.count);
                if !collected.more {
                    break collected;
                }
            };
            took += start.elapsed();
            assert!(!collected.more);
        }
        let rate = count as f64 / took.as_secs_f64();
        println!("{to:?}: {count} samples in {took:?}, {rate:.0} a second");
        assert_eq!(count, sender.sent());
        // What is not optimized is not measured.
        assert!(cfg!(debug_assertions) || rate > 1e6, "{to:?}: {rate}");
    }
}
