//! `path_*`: names that come, go and change.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::{Operation, Reason, right};

use crate::{
    ALLOW,
    decide::{Objection, carries, judge_apart, one_name, refuse, require},
    emit::{Denial, Names},
    kernel::{OFF_PATH_DENTRY, Object, RENAME_EXCHANGE, RENAME_NOREPLACE, S_IFMT, S_IFREG},
    scope::{Guarded, Policy, current},
    walk::{opaque, opaque_wide},
};

/// A hook whose second argument is the dentry that it is about.
macro_rules! on_child {
    ($(#[$meta:meta])* $hook:ident, $operation:ident, $right:ident) => {
        $(#[$meta])*
        #[lsm]
        fn $hook(ctx: LsmContext) -> i32 {
            let Some(guarded) = current() else { return ALLOW };
            one_name(&guarded, Operation::$operation, Object(ctx.arg(1)), right::$right)
        }
    };
}

/// A new file: `O_CREAT`, mknod(2). Regular files only: no right makes a device, a fifo or a
/// socket.
#[lsm(hook = "path_mknod")]
fn path_mknod(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let dentry = Object(ctx.arg(1));
    let kind = ctx.arg::<u32>(2) as u16 & S_IFMT;
    if kind != S_IFREG && kind != 0 {
        let never = Objection::plain(Reason::Never);
        let denial = Denial::of_names(Operation::Create, right::CREATE, never);
        return refuse(&guarded, &denial, Names { first: dentry, ..Names::NONE });
    }
    one_name(&guarded, Operation::Create, dentry, right::CREATE)
}

on_child!(
    /// mkdir(2).
    path_mkdir, Mkdir, CREATE
);
on_child!(
    /// symlink(2).
    path_symlink, Symlink, CREATE
);
on_child!(
    /// rmdir(2).
    path_rmdir, Rmdir, DELETE
);
on_child!(
    /// unlink(2).
    path_unlink, Unlink, DELETE
);

/// truncate(2), `O_TRUNC`; also ftruncate(2) before 6.2.
#[lsm(hook = "path_truncate")]
fn path_truncate(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let dentry = Object(ctx.arg(0)).pointer(&OFF_PATH_DENTRY);
    one_name(&guarded, Operation::Truncate, dentry, right::WRITE)
}

/// What stands against an attempt with two names, as one number: 0 is nothing, else the reason
/// (bits 0 to 7), the wanted rights (8 to 15), the rights that the name has (16 to 23), whether
/// it is about the second name (24), and the rule (32 to 63). One number, because the verifier
/// would follow the denial once for each way to come to it.
type Against = u64;
const NOTHING: Against = 0;

#[inline(always)]
fn against(second: bool, wanted: u16, objection: Objection) -> Against {
    u64::from(objection.reason & 0xff)
        | u64::from(wanted & 0xff) << 8
        | u64::from(objection.rights & 0xff) << 16
        | u64::from(second) << 24
        | u64::from(objection.rule) << 32
}

#[inline(always)]
fn first(wanted: u16, objection: Objection) -> Against {
    against(false, wanted, objection)
}

#[inline(always)]
fn second(wanted: u16, objection: Objection) -> Against {
    against(true, wanted, objection)
}

/// The verdict on an attempt with two names.
#[inline(always)]
fn conclude(
    guarded: &Guarded,
    operation: Operation,
    against: Against,
    old: Object,
    new: Object,
) -> i32 {
    if against == NOTHING {
        return ALLOW;
    }
    let objection = Objection {
        reason: against as u16 & 0xff,
        rights: (against >> 16) as u16 & 0xff,
        rule: (against >> 32) as u32,
    };
    let mut denial = Denial::of_names(operation, (against >> 8) as u16 & 0xff, objection);
    denial.second = against >> 24 & 1 != 0;
    refuse(guarded, &denial, Names { first: old, second: new })
}

/// link(2).
#[lsm(hook = "path_link")]
fn path_link(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let (old, new) = (Object(ctx.arg(0)), Object(ctx.arg(2)));
    let against = match &guarded.policy {
        None => first(0, Objection::plain(Reason::NoPolicy)),
        Some(policy) => link(policy, old, new),
    };
    conclude(&guarded, Operation::Link, against, old, new)
}

#[inline(never)]
fn link(policy: &Policy, old: Object, new: Object) -> Against {
    let against = match try_link(policy, old, new) {
        Ok(()) => NOTHING,
        Err(against) => against,
    };
    opaque_wide(policy.header, against)
}

#[inline(always)]
fn try_link(policy: &Policy, old: Object, new: Object) -> Result<(), Against> {
    // The old name needs no right of its own: the new one may only not have more.
    let from = judge_apart(policy, old).map_err(|objection| first(0, objection))?;
    let create = |objection| second(right::CREATE, objection);
    let to = judge_apart(policy, new).map_err(create)?;
    require(to.verdict, right::CREATE).map_err(create)?;
    carries(from.verdict, to.verdict)
        .map_err(|objection| second(to.verdict.rights & right::CARRIED, objection))
}

/// rename(2), renameat2(2).
#[lsm(hook = "path_rename")]
fn path_rename(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let (old, new) = (Object(ctx.arg(1)), Object(ctx.arg(3)));
    let flags = ctx.arg::<u32>(4);
    let against = match &guarded.policy {
        None => first(right::DELETE, Objection::plain(Reason::NoPolicy)),
        // RENAME_WHITEOUT makes a device at the old name; who knows what a new flag does.
        Some(_) if flags & !(RENAME_NOREPLACE | RENAME_EXCHANGE) != 0 => {
            first(right::DELETE, Objection::plain(Reason::Never))
        }
        Some(policy) => rename(policy, old, new, flags & RENAME_EXCHANGE),
    };
    conclude(&guarded, Operation::Rename, against, old, new)
}

#[inline(never)]
fn rename(policy: &Policy, old: Object, new: Object, exchange: u32) -> Against {
    let against = match try_rename(policy, old, new, exchange) {
        Ok(()) => NOTHING,
        Err(against) => against,
    };
    opaque_wide(policy.header, against)
}

#[inline(always)]
fn try_rename(policy: &Policy, old: Object, new: Object, exchange: u32) -> Result<(), Against> {
    // Facts become opaque: otherwise the verifier follows what comes for each combination.
    let header = policy.header;
    let fact = |fact: bool| opaque(header, u32::from(fact));
    let exchange = fact(exchange != 0);
    let exists = fact(new.exists());
    let goes = fact(old.is_directory());
    let comes = exchange & fact(new.is_directory());

    let remove = right::DELETE | (exchange as u16 & 1) * right::CREATE;
    let from = judge_apart(policy, old).map_err(|objection| first(remove, objection))?;
    require(from.verdict, remove).map_err(|objection| first(remove, objection))?;

    let make = right::CREATE | (exists as u16 & 1) * right::DELETE;
    let to = judge_apart(policy, new).map_err(|objection| second(make, objection))?;
    require(to.verdict, make).map_err(|objection| second(make, objection))?;

    let (there, back) = (to.verdict.rights & right::CARRIED, from.verdict.rights & right::CARRIED);
    carries(from.verdict, to.verdict).map_err(|objection| second(there, objection))?;
    // An exchange carries both ways, and a directory with all that lies below it, where everything
    // must have equal rights: it is equal or not, whichever way something goes.
    let differ = fact(from.below != to.below);
    let below = if goes | comes != 0 && differ != 0 { Reason::Widens as u32 } else { 0 };
    let unequal = |rights| Objection { reason: below as u16, rights, rule: 0 };
    if goes != 0 && below != 0 {
        return Err(second(there, unequal(from.verdict.rights)));
    }
    if exchange != 0 {
        carries(to.verdict, from.verdict).map_err(|objection| first(back, objection))?;
    }
    if below != 0 {
        return Err(first(back, unequal(to.verdict.rights)));
    }
    Ok(())
}
