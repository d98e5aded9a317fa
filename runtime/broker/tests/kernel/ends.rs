//! Nothing is left behind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use wasi_guard_broker::kernel::elf::symbol_offset;
use wasi_guard_broker::kernel::{Buffer, Link, LoadSpec, attach, program_load};

use crate::net::{Cgroup, loopback};
use crate::{
    ARRAY, CGROUP_SOCK_ADDR, KPROBE, PERF_EVENT, PERF_EVENT_ARRAY, RAW_TRACEPOINT, RINGBUF,
    SCHED_CLS, SOCKET_FILTER, TRACEPOINT, XDP, alone, asm, eventually, make, need_root, spec,
};

const CGROUP_INET4_CONNECT: u32 = 10;

const ALL: [u32; 8] = [
    TRACEPOINT,
    RAW_TRACEPOINT,
    PERF_EVENT,
    KPROBE,
    XDP,
    SCHED_CLS,
    SOCKET_FILTER,
    CGROUP_SOCK_ADDR,
];
/// Those of which the kernel waits for nobody at their end.
const QUICK: [u32; 3] = [RAW_TRACEPOINT, PERF_EVENT, CGROUP_SOCK_ADDR];

/// Attaches a program of each of these types.
fn attach_each(kinds: &[u32], name: &str, cgroup: &Cgroup) -> Vec<(OwnedFd, Link)> {
    let counter = make(ARRAY, 4, 8, 1);
    let lo = attach::if_index("lo").unwrap();
    let file = fs::File::open(c_library()).unwrap();
    let attached = kinds.iter().map(|kind| {
        let (answer, expected_attach_type) = match *kind {
            XDP => (2, 0),
            CGROUP_SOCK_ADDR => (1, CGROUP_INET4_CONNECT),
            _ => (0, 0),
        };
        let instructions = asm::counting(counter.as_fd(), None, answer);
        let spec = spec(*kind, &instructions);
        let program = program_load(&LoadSpec { name, expected_attach_type, ..spec }).unwrap();
        let fd = program.as_fd();
        let link = match *kind {
            TRACEPOINT => attach::tracepoint(fd, "syscalls", "sys_enter_getppid"),
            RAW_TRACEPOINT => attach::raw_tracepoint(fd, "sched_process_exec"),
            PERF_EVENT => attach::perf_event(fd, "major-faults"),
            KPROBE => {
                attach::uprobe(fd, file.as_fd(), symbol_offset(&file, "chmod").unwrap(), false)
            }
            XDP => attach::xdp(fd, lo),
            SCHED_CLS => attach::tc(fd, lo, true),
            SOCKET_FILTER => attach::socket_filter(fd, lo),
            _ => attach::cgroup(fd, cgroup.fd(), CGROUP_INET4_CONNECT),
        };
        (program, link.unwrap())
    });
    attached.collect()
}

fn programs_named(name: &str) -> usize {
    let programs = aya::programs::loaded_programs().filter_map(Result::ok);
    programs.filter(|program| program.name_as_str() == Some(name)).count()
}

#[test]
fn what_a_killed_process_attached_is_gone() {
    need_root();
    if alone::is_alone() {
        let name = format!("killed{}", std::process::id());
        let cgroup = Cgroup::new("killed");
        let _attached = attach_each(&ALL, &name, &cgroup);
        println!("ready {name}");
        sleep(Duration::from_secs(60));
        return;
    }
    let (_, _turn) = loopback();
    let mut command = alone::command("ends::what_a_killed_process_attached_is_gone");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let name = lines.find_map(|line| line.unwrap().split_once("ready ").map(|it| it.1.to_owned()));
    let name = name.expect("the other process did not attach its programs");
    assert_eq!(programs_named(&name), ALL.len());
    child.kill().unwrap();
    child.wait().unwrap();
    // What waits for others to be done with it takes a moment.
    eventually("the end of all programs", || programs_named(&name) == 0);
    let path = crate::net::cgroup_root().join(format!("wasi-guard-test-{}-killed", child.id()));
    fs::remove_dir(path).unwrap();
}

#[test]
fn a_thousand_times_leave_no_descriptor() {
    need_root();
    if !alone::is_alone() {
        let (_, _turn) = loopback();
        let mut command = alone::command("ends::a_thousand_times_leave_no_descriptor");
        assert!(command.status().unwrap().success());
        return;
    }
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let cgroup = Cgroup::new("thousand");
    // Whatever is opened once and kept is opened now.
    drop(attach_each(&ALL, "leak", &cgroup));
    let before = open();
    for time in 0..1000 {
        let ring = make(RINGBUF, 0, 0, 4096);
        let perf = make(PERF_EVENT_ARRAY, 4, 4, 0);
        drop(Buffer::open(&ring).unwrap());
        drop(Buffer::open(&perf).unwrap());
        drop(attach_each(&QUICK, "leak", &cgroup));
        // What fails leaves nothing either.
        assert!(program_load(&spec(TRACEPOINT, &[asm::exit()])).is_err());
        if time % 100 == 0 {
            drop(attach_each(&ALL, "leak", &cgroup));
            assert!(attach::socket_filter(ring.as_fd(), 1).is_err());
            assert!(attach::tracepoint(ring.as_fd(), "syscalls", "sys_enter_getppid").is_err());
        }
    }
    assert_eq!(open(), before);
    eventually("the end of all programs", || programs_named("leak") == 0);
}

/// The C library that this process has. Unlike its own functions, a library's have names in every
/// build.
fn c_library() -> std::path::PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let found = paths
        .map(std::path::Path::new)
        .find(|it| it.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libc.")));
    found.unwrap().to_owned()
}
