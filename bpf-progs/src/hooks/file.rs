//! `file_*`: descriptors.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::{Operation, right};

use crate::{
    ALLOW,
    decide::one_name,
    kernel::{
        FMODE_BACKING, FMODE_EXEC, FMODE_READ, FMODE_WRITE, O_TRUNC, OFF_DENTRY_INODE,
        OFF_FILE_DENTRY, OFF_FILE_FLAGS, OFF_FILE_MODE, Object, global,
    },
    scope::{Guarded, current},
};

/// open(2) and its kin; not `O_PATH`, which opens nothing.
#[lsm(hook = "file_open")]
fn file_open(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    open(&guarded, Object(ctx.arg(0)))
}

#[inline(always)]
fn open(guarded: &Guarded, file: Object) -> i32 {
    let mode = file.read::<u32>(&OFF_FILE_MODE);
    // A stacking file system opens the file behind the one that the task opened, and that one
    // went through here first. User space cannot open a backing file by itself.
    if mode & global(&FMODE_BACKING) != 0 {
        return ALLOW;
    }
    let flags = file.read::<u32>(&OFF_FILE_FLAGS);
    let dentry = file.pointer(&OFF_FILE_DENTRY);
    let mut wanted = 0;
    if mode & FMODE_READ != 0 {
        wanted |= right::READ;
    }
    // O_TRUNC truncates even where the file is opened for reading only.
    if mode & FMODE_WRITE != 0 || flags & O_TRUNC != 0 {
        wanted |= right::WRITE;
    }
    // Access mode 3 opens for ioctl alone, execve opens with neither bit: never for less than
    // a reader has.
    if wanted == 0 || flags & FMODE_EXEC != 0 {
        wanted |= right::READ;
    }
    if guarded.policy.is_none()
        && wanted == right::READ
        && guarded.in_setup()
        && guarded.is_runtime(dentry.pointer(&OFF_DENTRY_INODE))
    {
        return ALLOW;
    }
    one_name(guarded, Operation::Open, dentry, wanted)
}

/// ftruncate(2); `path_truncate` has it on kernels before 6.2.
#[lsm(hook = "file_truncate")]
fn file_truncate(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let dentry = Object(ctx.arg(0)).pointer(&OFF_FILE_DENTRY);
    one_name(&guarded, Operation::Truncate, dentry, right::WRITE)
}
