//! `bprm_*` and `task_*`: no guest starts a program or a process.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::{Operation, Reason};

use crate::{
    ALLOW,
    decide::{Objection, refuse},
    emit::{Denial, Names},
    kernel::{CLONE_THREAD, OFF_BPRM_FILE, OFF_DENTRY_INODE, OFF_FILE_DENTRY, Object},
    scope::current,
};

/// execve(2). The one program that a guest's cgroup ever runs is wasi-guard's own worker,
/// before there is a policy.
#[lsm(hook = "bprm_check_security")]
fn bprm_check_security(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let dentry = Object(ctx.arg(0)).pointer(&OFF_BPRM_FILE).pointer(&OFF_FILE_DENTRY);
    if guarded.in_setup() && guarded.is_runtime(dentry.pointer(&OFF_DENTRY_INODE)) {
        return ALLOW;
    }
    let denial = Denial::of_names(Operation::Exec, 0, Objection::plain(Reason::Never));
    refuse(&guarded, &denial, Names { first: dentry, ..Names::NONE })
}

/// fork(2), vfork(2), clone(2) without `CLONE_THREAD`.
#[lsm(hook = "task_alloc")]
fn task_alloc(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    if ctx.arg::<u64>(1) & CLONE_THREAD != 0 {
        return ALLOW;
    }
    let denial = Denial::of_names(Operation::Fork, 0, Objection::plain(Reason::Never));
    refuse(&guarded, &denial, Names::NONE)
}
