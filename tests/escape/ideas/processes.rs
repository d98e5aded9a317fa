//! Look into another process, take its descriptors, or set how it runs.
//!
//! Stopped by: seccomp. Behind it BPF.

use libc::{EINVAL, ESRCH};
use wasi_guard_captive::call;

use super::struct_of;
use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Killed, Unlisted};
use crate::idea::{Idea, attempt};
use crate::scene::Scene;

pub(super) fn ideas(scene: &Scene) -> Vec<Idea<'_>> {
    let (victim, secret) = (scene.victim.pid(), scene.victim.address);
    vec![
        attempt("ptrace_another_process", Works, Killed, move |d| {
            // PTRACE_SEIZE, which does not stop it.
            call!(d, SYS_ptrace, 0x4206, victim, 0, 0)
        }),
        attempt("be_traced", Works, Killed, |d| call!(d, SYS_ptrace, 0, 0, 0, 0)),
        attempt("read_another_processes_memory", Works, Killed, move |d| {
            let place = d.zeros(16);
            let here = struct_of(d, 16, &[(0, place.into()), (8, 16.into())]);
            let there = struct_of(d, 16, &[(0, secret.into()), (8, 16.into())]);
            call!(d, SYS_process_vm_readv, victim, here, 1, there, 1, 0)
        }),
        attempt("write_another_processes_memory", Works, Killed, move |d| {
            let place = d.text("the secret of ");
            let here = struct_of(d, 16, &[(0, place.into()), (8, 10.into())]);
            let there = struct_of(d, 16, &[(0, secret.into()), (8, 10.into())]);
            call!(d, SYS_process_vm_writev, victim, here, 1, there, 1, 0)
        }),
        attempt("open_another_process", Works, Unlisted, move |d| {
            call!(d, SYS_pidfd_open, victim, 0)
        }),
        attempt("take_another_processes_descriptor", Works, Unlisted, move |d| {
            let pidfd = if d.free { call!(d, SYS_pidfd_open, victim, 0) } else { 0.into() };
            call!(d, SYS_pidfd_getfd, pidfd, 0, 0)
        }),
        attempt("compare_two_processes", Works, Unlisted, move |d| {
            // KCMP_VM
            call!(d, SYS_kcmp, victim, 1, 1, 0, 0)
        }),
        attempt("advise_another_processes_memory", Works, Unlisted, move |d| {
            let pidfd = if d.free { call!(d, SYS_pidfd_open, victim, 0) } else { 0.into() };
            let there = struct_of(d, 16, &[(0, (secret & !4095).into()), (8, 4096.into())]);
            call!(d, SYS_process_madvise, pidfd, there, 1, libc::MADV_COLD, 0)
        }),
        attempt("release_another_processes_memory", Fails(EINVAL), Unlisted, move |d| {
            // Of one that lives: EINVAL.
            let pidfd = if d.free { call!(d, SYS_pidfd_open, victim, 0) } else { 0.into() };
            call!(d, SYS_process_mrelease, pidfd, 0)
        }),
        attempt("see_another_processes_locks", Works, Unlisted, move |d| {
            let (head, length) = (d.zeros(8), d.zeros(8));
            call!(d, SYS_get_robust_list, victim, head, length)
        }),
        attempt("move_another_processes_pages", Works, Unlisted, move |d| {
            call!(d, SYS_move_pages, victim, 0, 0, 0, 0, 0)
        }),
        attempt("set_another_processes_limits", Works, Unlisted, move |d| {
            let old = d.zeros(16);
            call!(d, SYS_prlimit64, victim, libc::RLIMIT_NOFILE, 0, old)
        }),
        attempt("set_ones_own_limits", Works, Unlisted, |d| {
            let limit = struct_of(d, 16, &[(0, 99.into()), (8, 99.into())]);
            call!(d, SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit, 0)
        }),
        attempt("set_ones_own_limits_by_the_older_call", Works, Unlisted, |d| {
            let limit = struct_of(d, 16, &[(0, 0.into()), (8, 0.into())]);
            call!(d, SYS_setrlimit, libc::RLIMIT_CORE, limit)
        }),
        attempt("set_another_processes_nice", Works, Unlisted, move |d| {
            call!(d, SYS_setpriority, libc::PRIO_PROCESS, victim, 1)
        }),
        attempt("set_another_processes_scheduler", Works, Unlisted, move |d| {
            let parameters = d.zeros(4);
            call!(d, SYS_sched_setscheduler, victim, libc::SCHED_OTHER, parameters)
        }),
        attempt("set_another_processes_scheduler_by_attributes", Works, Unlisted, move |d| {
            let attributes = struct_of(d, 48, &[(0, 48.into())]);
            call!(d, SYS_sched_setattr, victim, attributes, 0)
        }),
        attempt("set_another_processes_processors", Works, Unlisted, move |d| {
            let mask = d.bytes([0xff; 8]);
            call!(d, SYS_sched_setaffinity, victim, 8, mask)
        }),
        attempt("set_another_processes_disk_priority", Works, Unlisted, move |d| {
            // IOPRIO_WHO_PROCESS; class best effort, level 4.
            call!(d, SYS_ioprio_set, 1, victim, (2 << 13) | 4)
        }),
        attempt("set_another_processes_group", Fails(ESRCH), Unlisted, move |d| {
            // No child of ours.
            call!(d, SYS_setpgid, victim, victim)
        }),
        attempt("ask_for_ones_parent", Works, Unlisted, |d| call!(d, SYS_getppid)),
    ]
}
