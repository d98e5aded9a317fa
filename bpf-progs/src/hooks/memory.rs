//! `mmap_file`, `file_mprotect`: executable memory.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::Operation;

use super::never::never;
use crate::{
    ALLOW,
    emit::Names,
    kernel::{OFF_DENTRY_INODE, OFF_FILE_DENTRY, OFF_VMA_FILE, Object, PROT_EXEC},
    scope::{Guarded, current},
};

/// mmap(2), and shmat(2) with `SHM_EXEC`.
#[lsm(hook = "mmap_file")]
fn mmap_file(ctx: LsmContext) -> i32 {
    // What the kernel makes of the wish: with READ_IMPLIES_EXEC it is more.
    if ctx.arg::<u64>(2) & PROT_EXEC == 0 {
        return ALLOW;
    }
    let Some(guarded) = current() else { return ALLOW };
    executable(&guarded, Object(ctx.arg(0)))
}

/// mprotect(2), pkey_mprotect(2).
#[lsm(hook = "file_mprotect")]
fn file_mprotect(ctx: LsmContext) -> i32 {
    if ctx.arg::<u64>(2) & PROT_EXEC == 0 {
        return ALLOW;
    }
    let Some(guarded) = current() else { return ALLOW };
    executable(&guarded, Object(ctx.arg(0)).pointer(&OFF_VMA_FILE))
}

/// Executable memory is the worker's own code before there is a policy, and compiled code until
/// the policy in force says that it is loaded.
#[inline(always)]
fn executable(guarded: &Guarded, file: Object) -> i32 {
    let loading = match &guarded.policy {
        None => guarded.in_setup(),
        Some(policy) => policy.header.loading != 0,
    };
    // Compiled code that cannot be mapped from its file is copied into anonymous memory.
    let own = file.is_null() && guarded.policy.is_some()
        || !file.is_null()
            && guarded.is_runtime(file.pointer(&OFF_FILE_DENTRY).pointer(&OFF_DENTRY_INODE));
    if loading && own {
        return ALLOW;
    }
    never(guarded, Operation::MapExec, Names::NONE.first)
}
