//! New namespaces, or somebody else's.
//!
//! Stopped by: seccomp. `clone` is listed for threads without any namespace. Behind it the lack of
//! capabilities, and BPF for user namespaces, the one kind that needs none.

use libc::{
    AT_FDCWD, CLONE_FILES, CLONE_FS, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS,
    CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VM, O_RDONLY,
    SIGCHLD,
};
use wasi_guard_captive::call;

use super::struct_of;
use crate::idea::Free::Works;
use crate::idea::Guarded::{Answered, Killed, Unlisted};
use crate::idea::{Idea, attempt};
use crate::scene::Scene;

const KINDS: [(&str, i32); 7] = [
    ("user", CLONE_NEWUSER),
    ("mount", CLONE_NEWNS),
    ("network", CLONE_NEWNET),
    ("process", CLONE_NEWPID),
    ("ipc", CLONE_NEWIPC),
    ("name", CLONE_NEWUTS),
    ("cgroup", CLONE_NEWCGROUP),
];

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = vec![
        // First, because it works from a second thread as well, which `ends.rs` makes of it.
        attempt("unshare_descriptors", Works, Killed, |d| call!(d, SYS_unshare, CLONE_FILES)),
        attempt("unshare_a_user_namespace", Works, Killed, |d| {
            call!(d, SYS_unshare, CLONE_NEWUSER)
        }),
        attempt("unshare_all_namespaces", Works, Killed, |d| {
            let all = KINDS.iter().fold(0, |all, (_, flag)| all | flag);
            call!(d, SYS_unshare, all)
        }),
        attempt("clone3_a_user_namespace", Works, Answered, |d| {
            let flags = (CLONE_NEWUSER as u32).into();
            let arguments = struct_of(d, 88, &[(0, flags), (32, SIGCHLD.into())]);
            call!(d, SYS_clone3, arguments, 88)
        }),
        attempt("a_thread_in_a_network_namespace", Works, Unlisted, |d| {
            let thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
            call!(d, SYS_clone, thread | CLONE_NEWNET, 0, 0, 0, 0)
        }),
    ];
    // A user namespace is nobody's to enter who is in it already, and the host's users are in that.
    for (file, flag) in [
        ("net", CLONE_NEWNET),
        ("mnt", CLONE_NEWNS),
        ("pid", CLONE_NEWPID),
        ("ipc", CLONE_NEWIPC),
        ("uts", CLONE_NEWUTS),
        ("cgroup", CLONE_NEWCGROUP),
    ] {
        ideas.push(attempt(format!("enter_the_hosts_{file}_namespace"), Works, Killed, move |d| {
            let path = d.text(format!("/proc/1/ns/{file}"));
            let namespace =
                if d.free { call!(d, SYS_openat, AT_FDCWD, path, O_RDONLY) } else { 0.into() };
            call!(d, SYS_setns, namespace, flag)
        }));
    }
    for (kind, flag) in KINDS {
        ideas.push(attempt(format!("clone_a_{kind}_namespace"), Works, Unlisted, move |d| {
            call!(d, SYS_clone, flag | SIGCHLD, 0, 0, 0, 0)
        }));
    }
    ideas
}
