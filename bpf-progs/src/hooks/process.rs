//! `bprm_*` and `task_*`: no guest starts a program or a process.

use aya_ebpf::{helpers::generated::bpf_get_current_pid_tgid, macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::Operation;

use super::never::never;
use crate::{
    ALLOW,
    emit::Names,
    kernel::{
        CLONE_THREAD, OFF_BPRM_FILE, OFF_DENTRY_INODE, OFF_FILE_DENTRY, OFF_TASK_TGID, Object,
    },
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
    never(&guarded, Operation::Exec, dentry)
}

/// fork(2), vfork(2), clone(2) without `CLONE_THREAD`.
#[lsm(hook = "task_alloc")]
fn task_alloc(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    if ctx.arg::<u64>(1) & CLONE_THREAD != 0 {
        return ALLOW;
    }
    never(&guarded, Operation::Fork, Names::NONE.first)
}

/// kill(2) and its kin. A process may signal itself, as abort does.
#[lsm(hook = "task_kill")]
fn task_kill(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    // SAFETY: a helper without preconditions.
    let own = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    if Object(ctx.arg(0)).read::<u32>(&OFF_TASK_TGID) == own {
        return ALLOW;
    }
    never(&guarded, Operation::Signal, Names::NONE.first)
}
