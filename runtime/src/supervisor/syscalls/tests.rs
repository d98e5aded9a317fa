//! The supervisor's answers against the real kernel: a thread installs the filter and calls.

use std::{
    fs,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
};
use serde_json::Value;

use super::*;
use crate::{
    audit::{About, Sink},
    worker::seccomp,
};

/// Installs the filter in a new thread, which then calls, and hands over the descriptor.
fn calling<T: Send + 'static>(call: fn() -> T) -> (OwnedFd, JoinHandle<T>) {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        sender.send(seccomp::install_asking().unwrap()).unwrap();
        call()
    });
    (receiver.recv().unwrap(), thread)
}

fn memfd() -> Result<(), Errno> {
    memfd_create("x", MemfdFlags::CLOEXEC).map(drop)
}

/// Attends until the thread has ended or must end, and returns the lines of the audit.
fn attended<T>(syscalls: &mut Syscalls, thread: &JoinHandle<T>) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit");
    let [policy, policy_digest, module, module_digest] = [(); 4].map(|()| String::new());
    let about = About { policy, policy_digest, module, module_digest, mode: syscalls.mode };
    let mut auditor = Auditor::new(Sink::file(&path).unwrap(), about);
    while !thread.is_finished() && syscalls.fatal().is_none() {
        syscalls.attend(16, &mut auditor).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_call_without_a_row_is_denied_and_recorded() {
    let (listener, thread) = calling(memfd);
    let mut syscalls = Syscalls::new(listener, Mode::Enforce, 7);
    syscalls.loaded();
    let lines = attended(&mut syscalls, &thread);
    assert_eq!(thread.join().unwrap(), Err(Errno::ACCESS));
    assert_eq!(syscalls.denied(), 1);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for (key, value) in [
        ("operation", "syscall"),
        ("syscall", "memfd_create"),
        ("verdict", "denied"),
        ("reason", "seccomp"),
        ("errno", "EACCES"),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert_eq!(line["pid"], 7);
    assert_eq!(line["arguments"][1], "0x1");
}

#[test]
fn audit_mode_lets_it_through_and_says_that_it_would_be_denied() {
    let (listener, thread) = calling(memfd);
    let mut syscalls = Syscalls::new(listener, Mode::Audit, 7);
    syscalls.loaded();
    let lines = attended(&mut syscalls, &thread);
    assert_eq!(thread.join().unwrap(), Ok(()));
    assert_eq!(lines[0]["verdict"], "would_deny");
    assert_eq!(lines[0]["errno"], Value::Null);
}

#[test]
fn what_loading_needs_is_denied_after_it() {
    fn executable() -> bool {
        // wasmtime makes memory executable when it loads a module.
        let engine = wasmtime::Engine::default();
        wasmtime::Module::new(&engine, "(module (func))").is_ok()
    }
    for (loaded, expected) in [(false, true), (true, false)] {
        let (listener, thread) = calling(executable);
        let mut syscalls = Syscalls::new(listener, Mode::Enforce, 7);
        if loaded {
            syscalls.loaded();
        }
        let lines = attended(&mut syscalls, &thread);
        assert_eq!(thread.join().unwrap(), expected, "{lines:?}");
        let mprotect = lines.iter().any(|line| line["syscall"] == "mprotect");
        assert_eq!(mprotect, loaded, "{lines:?}");
    }
}

/// `memory.max` does not count huge pages; a file of them would still be there after the loading.
#[test]
fn loading_gets_no_huge_pages() {
    fn made(flags: MemfdFlags) -> Result<(), Errno> {
        memfd_create("x", MemfdFlags::CLOEXEC | flags).map(drop)
    }
    let calls: [(fn() -> _, _, _); 2] = [
        (|| made(MemfdFlags::empty()), Ok(()), 0),
        (|| made(MemfdFlags::HUGETLB), Err(Errno::ACCESS), 1),
    ];
    for (call, expected, denied) in calls {
        let (listener, thread) = calling(call);
        let mut syscalls = Syscalls::new(listener, Mode::Enforce, 7);
        attended(&mut syscalls, &thread);
        assert_eq!(thread.join().unwrap(), expected);
        assert_eq!(syscalls.denied(), denied);
    }
}

#[test]
fn a_call_that_must_end_the_worker_gets_no_answer() {
    let (listener, thread) = calling(|| rustix::process::chroot("/"));
    let mut syscalls = Syscalls::new(listener, Mode::Enforce, 7);
    let lines = attended(&mut syscalls, &thread);
    assert_eq!(syscalls.fatal(), Some("chroot"));
    assert_eq!(lines[0]["verdict"], "killed");
    assert!(!thread.is_finished());
    // Nobody answers any more: the kernel does.
    drop(syscalls);
    assert_eq!(thread.join().unwrap(), Err(Errno::NOSYS));
}

#[test]
fn nobody_waits_for_a_worker_that_has_begun_to_end() {
    let (listener, thread) = calling(|| ());
    let mut syscalls = Syscalls::new(listener, Mode::Enforce, 7);
    assert!(syscalls.listener().is_some());
    attended(&mut syscalls, &thread);
    thread.join().unwrap();
    // The thread's last steps in the kernel may still be under way.
    for _ in 0..1000 {
        if syscalls.listener().is_none() {
            return;
        }
        attended(&mut syscalls, &thread::spawn(|| thread::sleep(Duration::from_millis(10))));
    }
    panic!("the listener has hung up, and would still be polled");
}
