//! What no guest may do, whatever its policy, because WASI has no call for it. The worker's seccomp
//! list answers nearly all of it before; these hooks hold if that filter is not there yet or lets
//! something through.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::{Operation, Reason};

use crate::{
    ALLOW,
    decide::{Objection, refuse},
    emit::{Denial, Names},
    kernel::Object,
    scope::{Guarded, current},
};

/// A denial about `dentry`, or about nothing that has a name if it is null.
#[inline(always)]
pub(super) fn never(guarded: &Guarded, operation: Operation, dentry: Object) -> i32 {
    let denial = Denial::of_names(operation, 0, Objection::plain(Reason::Never));
    refuse(guarded, &denial, Names { first: dentry, ..Names::NONE })
}

#[inline(always)]
fn forbid(operation: Operation) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    never(&guarded, operation, Names::NONE.first)
}

macro_rules! forbidden {
    ($($operation:ident: $($hook:ident),+;)+) => {$($(
        #[lsm]
        fn $hook(_: LsmContext) -> i32 {
            forbid(Operation::$operation)
        }
    )+)+};
}

forbidden! {
    Notify: path_notify;
    Chroot: path_chroot;
    Ptrace: ptrace_access_check, ptrace_traceme;
    Priority: task_setnice, task_setioprio, task_setscheduler;
    ResourceLimit: task_prlimit;
    Bpf: bpf;
    PerfEvent: perf_event_open;
    Mount: sb_mount, sb_umount, sb_pivotroot, move_mount;
    Namespace: userns_create;
    IoUring: uring_override_creds, uring_sqpoll, uring_cmd;
    Key: key_alloc, key_permission;
    Ipc: ipc_permission, shm_alloc_security, msg_queue_alloc_security, sem_alloc_security;
    UnixSocket: unix_may_send;
    KernelModule: kernel_module_request;
    Syslog: syslog;
}
