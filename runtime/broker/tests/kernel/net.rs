//! Interfaces and cgroups.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use wasi_guard_broker::kernel::{LoadSpec, attach};

use crate::{
    CGROUP_SOCK_ADDR, Counter, SCHED_CLS, SOCK_OPS, SOCKET_FILTER, XDP, eventually, need_root, spec,
};

/// `enum bpf_attach_type`.
const CGROUP_SOCK_OPS: u32 = 3;
const CGROUP_INET4_CONNECT: u32 = 10;

const XDP_PASS: i32 = 2;
const TCX_NEXT: i32 = -1;

/// An interface takes one XDP program: tests take turns.
static LOOPBACK: Mutex<()> = Mutex::new(());

pub(crate) fn loopback() -> (u32, MutexGuard<'static, ()>) {
    let guard = LOOPBACK.lock().unwrap_or_else(PoisonError::into_inner);
    (attach::if_index("lo").unwrap(), guard)
}

fn send_datagram() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
    let mut bytes = [0; 16];
    assert_eq!(socket.recv(&mut bytes).unwrap(), 5);
}

/// Attached, it counts what is sent; detached, nothing.
fn counts_datagrams(counter: &Counter, link: attach::Link) {
    let before = counter.count();
    send_datagram();
    assert!(counter.count() > before);
    drop(link);
    let count = counter.count();
    send_datagram();
    assert_eq!(counter.count(), count);
}

#[test]
fn xdp() {
    let (lo, _turn) = loopback();
    let counter = Counter::of_all(XDP, XDP_PASS);
    let link = attach::xdp(counter.program.as_fd(), lo).unwrap();
    let error = attach::xdp(counter.program.as_fd(), lo).unwrap_err();
    assert_eq!(error.errno, Errno::BUSY);
    counts_datagrams(&counter, link);
    // The next one finds the place free.
    attach::xdp(counter.program.as_fd(), lo).unwrap();
    let error = attach::xdp(counter.program.as_fd(), i32::MAX as u32).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
}

#[test]
fn tc() {
    let (lo, _turn) = loopback();
    for ingress in [true, false] {
        let counter = Counter::of_all(SCHED_CLS, TCX_NEXT);
        let link = attach::tc(counter.program.as_fd(), lo, ingress).unwrap();
        counts_datagrams(&counter, link);
    }
}

#[test]
fn socket_filter() {
    let (lo, _turn) = loopback();
    // One that lets all pass, so that the socket is full soon; and it goes on to see.
    let counter = Counter::of_all(SOCKET_FILTER, -1);
    let link = attach::socket_filter(counter.program.as_fd(), lo).unwrap();
    for _ in 0..200 {
        send_datagram();
    }
    assert!(counter.count() >= 400, "{}", counter.count());
    counts_datagrams(&counter, link);
    let error = attach::socket_filter(counter.program.as_fd(), i32::MAX as u32).unwrap_err();
    assert_eq!(error.errno, Errno::NODEV);
}

#[test]
fn interfaces_are_found_by_their_whole_name() {
    assert_eq!(attach::if_index("lo").unwrap(), 1);
    for name in ["", "no-such", "lo\0", "a name that is longer than names are", "lo123456789012345"]
    {
        assert_eq!(attach::if_index(name).unwrap_err().errno, Errno::NODEV, "{name:?}");
    }
}

/// Where cgroup v2 is mounted.
pub(crate) fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, path, "cgroup2", ..] => Some(path.into()),
        _ => None,
    });
    found.expect("this test makes a cgroup: mount cgroup v2 for it")
}

/// A cgroup of a test's own, removed at the end.
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: File,
}

impl Cgroup {
    pub(crate) fn new(name: &str) -> Self {
        need_root();
        let path = cgroup_root().join(format!("wasi-guard-test-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        let directory = File::open(&path).unwrap();
        Self { path, directory }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Runs a script in it.
    fn run(&self, script: &str) {
        let script = format!("echo $$ > {}/cgroup.procs && {script}", self.path.display());
        let status = Command::new("bash").args(["-c", &script]).status().unwrap();
        assert!(status.success(), "{script}");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        eventually("an empty cgroup", || fs::remove_dir(&self.path).is_ok());
    }
}

#[test]
fn cgroup_of_addresses() {
    let cgroup = Cgroup::new("addresses");
    let connect =
        LoadSpec { expected_attach_type: CGROUP_INET4_CONNECT, ..spec(CGROUP_SOCK_ADDR, &[]) };
    let counter = Counter::new(&connect, None, 1);
    let program = counter.program.as_fd();
    let link = attach::cgroup(program, cgroup.fd(), CGROUP_INET4_CONNECT).unwrap();
    cgroup.run("exec 3<>/dev/udp/127.0.0.1/9");
    assert_eq!(counter.count(), 1);
    // Whoever is in another cgroup is not seen.
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
    assert_eq!(counter.count(), 1);
    drop(link);
    cgroup.run("exec 3<>/dev/udp/127.0.0.1/9");
    assert_eq!(counter.count(), 1);
    let error = attach::cgroup(program, File::open("/").unwrap().as_fd(), CGROUP_INET4_CONNECT);
    assert_eq!(error.unwrap_err().errno, Errno::BADF);
}

#[test]
fn cgroup_of_connections() {
    let cgroup = Cgroup::new("connections");
    let counter = Counter::of_all(SOCK_OPS, 1);
    let link = attach::cgroup(counter.program.as_fd(), cgroup.fd(), CGROUP_SOCK_OPS).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{}", listener.local_addr().unwrap().port());
    cgroup.run(&connect);
    let count = counter.count();
    assert!(count > 0);
    drop(link);
    cgroup.run(&connect);
    assert_eq!(counter.count(), count);
}
