//! `file_*`: descriptors.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::{Operation, right};

use super::never::never;
use crate::{
    ALLOW,
    decide::one_name,
    kernel::{
        FMODE_EXEC, FMODE_READ, FMODE_WRITE, O_TRUNC, OFF_DENTRY_INODE, OFF_FILE_DENTRY,
        OFF_FILE_FLAGS, OFF_FILE_MODE, Object,
    },
    layers::asked_by_overlay,
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
    if asked_by_overlay(guarded) {
        return ALLOW;
    }
    let mode = file.read::<u32>(&OFF_FILE_MODE);
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

/// A descriptor from another process: `SCM_RIGHTS`, pidfd_getfd(2).
#[lsm(hook = "file_receive")]
fn file_receive(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    never(&guarded, Operation::Receive, Object(ctx.arg(0)).pointer(&OFF_FILE_DENTRY))
}

/// flock(2), fcntl(2) with `F_SETLK`, `F_SETLEASE` and their kin: a lock on a file that may only
/// be read stops those who may write it.
#[lsm(hook = "file_lock")]
fn file_lock(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    never(&guarded, Operation::Lock, Object(ctx.arg(0)).pointer(&OFF_FILE_DENTRY))
}

/// ioctl(2): what libraries ask of any descriptor. The rest changes attributes of files, types
/// into terminals, or talks to a driver.
#[lsm(hook = "file_ioctl")]
fn file_ioctl(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    request(&guarded, &ctx)
}

/// The same call of a 32-bit task.
#[lsm(hook = "file_ioctl_compat")]
fn file_ioctl_compat(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    request(&guarded, &ctx)
}

#[inline(always)]
fn request(guarded: &Guarded, ctx: &LsmContext) -> i32 {
    /// asm-generic/ioctls.h.
    const TCGETS: u32 = 0x5401;
    const TIOCGWINSZ: u32 = 0x5413;
    const FIONREAD: u32 = 0x541b;
    const FIONBIO: u32 = 0x5421;
    const FIONCLEX: u32 = 0x5450;
    const FIOCLEX: u32 = 0x5451;
    match ctx.arg::<u32>(1) {
        TCGETS | TIOCGWINSZ | FIONREAD | FIONBIO | FIONCLEX | FIOCLEX => ALLOW,
        // A copy of a file to the upper layer takes its flags along.
        _ if asked_by_overlay(guarded) => ALLOW,
        _ => never(guarded, Operation::Ioctl, Object(ctx.arg(0)).pointer(&OFF_FILE_DENTRY)),
    }
}

/// fcntl(2): descriptors and their flags. The rest makes others send signals, or leases.
#[lsm(hook = "file_fcntl")]
fn file_fcntl(ctx: LsmContext) -> i32 {
    /// asm-generic/fcntl.h, linux/fcntl.h. Locks have a hook of their own.
    const F_DUPFD: u32 = 0;
    const F_SETFL: u32 = 4;
    const F_GETLK: u32 = 5;
    const F_SETLKW: u32 = 7;
    const F_OFD_GETLK: u32 = 36;
    const F_OFD_SETLKW: u32 = 38;
    const F_DUPFD_CLOEXEC: u32 = 1030;
    const F_ADD_SEALS: u32 = 1033;
    const F_GET_SEALS: u32 = 1034;
    let Some(guarded) = current() else { return ALLOW };
    match ctx.arg::<u32>(1) {
        F_DUPFD..=F_SETFL
        | F_GETLK..=F_SETLKW
        | F_OFD_GETLK..=F_OFD_SETLKW
        | F_DUPFD_CLOEXEC
        | F_ADD_SEALS..=F_GET_SEALS => ALLOW,
        _ => never(&guarded, Operation::Fcntl, Object(ctx.arg(0)).pointer(&OFF_FILE_DENTRY)),
    }
}
