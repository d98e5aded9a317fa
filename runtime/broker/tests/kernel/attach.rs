//! What is attached to the kernel's own events.

use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::getppid;
use wasi_guard_broker::kernel::attach;

use crate::{Counter, PERF_EVENT, RAW_TRACEPOINT, TRACEPOINT, eventually};

#[test]
fn tracepoint() {
    let counter = Counter::of_this_thread(TRACEPOINT, 0);
    let program = counter.program.as_fd();
    let link = attach::tracepoint(program, "syscalls", "sys_enter_getppid").unwrap();
    for _ in 0..3 {
        let _ = getppid();
    }
    assert_eq!(counter.count(), 3);
    let again = attach::tracepoint(program, "syscalls", "sys_enter_getppid").unwrap_err();
    assert_eq!(again.errno, Errno::EXIST);
    drop(link);
    let _ = getppid();
    assert_eq!(counter.count(), 3);
    // The next one finds the place free.
    drop(attach::tracepoint(program, "syscalls", "sys_enter_getppid").unwrap());

    let error = attach::tracepoint(program, "syscalls", "sys_enter_none").unwrap_err();
    assert_eq!(error.errno, Errno::NOENT);
    assert!(error.to_string().contains("the tracepoint syscalls/sys_enter_none"), "{error}");
    let error = attach::tracepoint(program, "../events/syscalls", "sys_enter_getppid");
    assert_eq!(error.unwrap_err().errno, Errno::INVAL);
}

#[test]
fn a_link_keeps_its_program() {
    let Counter { map, program } = Counter::of_this_thread(TRACEPOINT, 0);
    let link = attach::tracepoint(program.as_fd(), "syscalls", "sys_enter_getppid").unwrap();
    drop(program);
    let _ = getppid();
    let mut value = [0; 8];
    map.lookup(&[0; 4], &mut value, 0).unwrap();
    assert_eq!(value, 1_u64.to_ne_bytes());
    drop(link);
}

#[test]
fn raw_tracepoint() {
    let counter = Counter::of_this_thread(RAW_TRACEPOINT, 0);
    let link = attach::raw_tracepoint(counter.program.as_fd(), "sys_enter").unwrap();
    for _ in 0..3 {
        let _ = getppid();
    }
    assert!(counter.count() >= 3);
    drop(link);
    let count = counter.count();
    let _ = getppid();
    assert_eq!(counter.count(), count);
    for (name, errno) in [("no_such", Errno::NOENT), ("sys\0enter", Errno::INVAL)] {
        let error = attach::raw_tracepoint(counter.program.as_fd(), name).unwrap_err();
        assert_eq!(error.errno, errno);
    }
}

#[test]
fn a_program_of_another_type_is_refused() {
    let counter = Counter::of_all(crate::XDP, 2);
    let program = counter.program.as_fd();
    let refused = [
        attach::tracepoint(program, "syscalls", "sys_enter_getppid"),
        attach::raw_tracepoint(program, "sys_enter"),
        attach::perf_event(program, "cpu-clock"),
        attach::tracing(program),
        attach::cgroup(program, crate::net::Cgroup::new("wrong-type").fd(), 10),
        attach::socket_filter(program, 1),
        attach::tc(program, 1, true),
    ];
    for answer in refused {
        assert_eq!(answer.unwrap_err().errno, Errno::INVAL);
    }
}

#[test]
fn a_clock_ticks_on_every_processor() {
    let counter = Counter::of_all(PERF_EVENT, 0);
    for clock in ["cpu-clock", "task-clock"] {
        let link = attach::perf_event(counter.program.as_fd(), clock).unwrap();
        let before = counter.count();
        let end = Instant::now() + Duration::from_millis(300);
        // A processor that sleeps has no time to count.
        while Instant::now() < end {}
        let ticks = counter.count() - before;
        assert!(ticks >= 10, "{clock}: {ticks}");
        drop(link);
        let count = counter.count();
        sleep(Duration::from_millis(50));
        assert_eq!(counter.count(), count, "{clock}");
    }
}

#[test]
fn each_page_fault_is_an_event() {
    let counter = Counter::of_this_thread(PERF_EVENT, 0);
    for name in ["page-faults", "minor-faults"] {
        let before = counter.count();
        let link = attach::perf_event(counter.program.as_fd(), name).unwrap();
        eventually("a page fault", || {
            let pages = vec![1_u8; 4 << 20];
            std::hint::black_box(&pages);
            counter.count() > before
        });
        drop(link);
    }
    for name in ["context-switches", "cpu-migrations", "major-faults"] {
        attach::perf_event(counter.program.as_fd(), name).unwrap();
    }
    for name in ["", "no-such", "cpu-clock ", "cpu-clock:u"] {
        let error = attach::perf_event(counter.program.as_fd(), name).unwrap_err();
        assert_eq!(error.errno, Errno::INVAL);
    }
}
