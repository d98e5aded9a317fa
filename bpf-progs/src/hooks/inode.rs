//! `inode_*`: metadata.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::{
    guest::MARK_RUNTIME,
    operation::{Operation, right},
};

use crate::{
    ALLOW,
    decide::one_name,
    kernel::{OFF_DENTRY_INODE, OFF_DENTRY_SB, OFF_PATH_DENTRY, OFF_SB_FLAGS, Object, SB_NOUSER},
    layers::asked_by_overlay,
    scope::{current, mark},
};

/// stat(2), fstat(2), statx(2).
#[lsm(hook = "inode_getattr")]
fn inode_getattr(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    if asked_by_overlay(&guarded) {
        return ALLOW;
    }
    let dentry = Object(ctx.arg(0)).pointer(&OFF_PATH_DENTRY);
    // Pipes, sockets and anonymous inodes have no name: a task sees one only through a
    // descriptor that it was given or made.
    if dentry.pointer(&OFF_DENTRY_SB).read::<u64>(&OFF_SB_FLAGS) & SB_NOUSER != 0 {
        return ALLOW;
    }
    // A worker looks at its own files: the linker at what it loads, wasmtime at the compiled
    // module that it was handed. While it is set up, Landlock's rules also look at the preopens.
    if let Some(mark) = mark(dentry.pointer(&OFF_DENTRY_INODE))
        && (mark.flags & MARK_RUNTIME != 0 || guarded.in_setup())
    {
        return ALLOW;
    }
    one_name(&guarded, Operation::Stat, dentry, right::STAT)
}

/// readlink(2). Following a link is not reading it: what it leads to is judged by itself.
#[lsm(hook = "inode_readlink")]
fn inode_readlink(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    if asked_by_overlay(&guarded) {
        return ALLOW;
    }
    one_name(&guarded, Operation::Readlink, Object(ctx.arg(0)), right::STAT)
}

/// chmod, chown, utimes and truncation: all that goes through `notify_change`.
#[lsm(hook = "inode_setattr")]
fn inode_setattr(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    if asked_by_overlay(&guarded) {
        return ALLOW;
    }
    one_name(&guarded, Operation::SetAttr, Object(ctx.arg(0)), right::WRITE)
}

/// The same on kernels that pass the mount's idmapping first (since 6.4). Two programs, because
/// the verifier wants each load from the context at a constant offset.
#[lsm(hook = "inode_setattr")]
fn inode_setattr_idmap(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    if asked_by_overlay(&guarded) {
        return ALLOW;
    }
    one_name(&guarded, Operation::SetAttr, Object(ctx.arg(1)), right::WRITE)
}
