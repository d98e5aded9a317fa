//! `mmap_file`, `file_mprotect`: executable memory.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::Operation;

use super::never::never;
use crate::{
    ALLOW,
    emit::Names,
    kernel::{
        OFF_DENTRY_INODE, OFF_FILE_DENTRY, OFF_VMA_FILE, Object, PROT_EXEC, is_null_argument,
    },
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
    if is_null_argument::<0>(&ctx) {
        return anonymous(&guarded);
    }
    mapped(&guarded, Object(ctx.arg(0)))
}

/// mprotect(2), pkey_mprotect(2).
#[lsm(hook = "file_mprotect")]
fn file_mprotect(ctx: LsmContext) -> i32 {
    if ctx.arg::<u64>(2) & PROT_EXEC == 0 {
        return ALLOW;
    }
    let Some(guarded) = current() else { return ALLOW };
    let area = Object(ctx.arg(0));
    if area.address(&OFF_VMA_FILE) == 0 {
        return anonymous(&guarded);
    }
    mapped(&guarded, area.pointer(&OFF_VMA_FILE))
}

/// Compiled code that cannot be mapped from its file is copied into anonymous memory, until it is
/// loaded.
#[inline(always)]
fn anonymous(guarded: &Guarded) -> i32 {
    match &guarded.policy {
        Some(_) if guarded.is_loading() => ALLOW,
        _ => never(guarded, Operation::MapExec, Names::NONE.first),
    }
}

/// The worker's own code before there is a policy, and compiled code until it is loaded.
#[inline(always)]
fn mapped(guarded: &Guarded, file: Object) -> i32 {
    let loading = match &guarded.policy {
        None => guarded.in_setup(),
        Some(_) => guarded.is_loading(),
    };
    if loading && guarded.is_runtime(file.pointer(&OFF_FILE_DENTRY).pointer(&OFF_DENTRY_INODE)) {
        return ALLOW;
    }
    never(guarded, Operation::MapExec, Names::NONE.first)
}
