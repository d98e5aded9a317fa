//! What the table grants a name, and the verdicts that need two names.

use aya_log_ebpf::debug;
use wasi_guard_abi::{
    operation::{Operation, Reason, right},
    table::{MODE_AUDIT, Verdict},
};

use crate::{
    ALLOW, DENY,
    automaton::Automaton,
    emit::{self, Denial, Names, Socket},
    kernel::{OFF_DENTRY_INODE, Object},
    links,
    scope::{Guarded, Policy, count},
    walk::{opaque, opaque_wide, resolve},
};

/// A name and what may be done with it.
#[derive(Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// The automaton's state after its path.
    pub(crate) state: u32,
}

/// A name, where there is another one to compare it with.
#[derive(Clone, Copy)]
pub(crate) struct Apart {
    pub(crate) verdict: Verdict,
    /// What holds below it, if it is a directory: equal numbers, equal rights.
    pub(crate) below: u32,
}

/// Why an attempt fails.
#[derive(Clone, Copy)]
pub(crate) struct Objection {
    /// Number of a [`Reason`]: a number can be opaque to the verifier, see walk.rs.
    pub(crate) reason: u16,
    pub(crate) rights: u16,
    pub(crate) rule: u32,
}

impl Objection {
    pub(crate) const fn plain(reason: Reason) -> Self {
        Self { reason: reason as u16, rights: 0, rule: 0 }
    }
}

/// What the policy says of `dentry`'s name.
#[inline(always)]
pub(crate) fn judge(policy: &Policy, dentry: Object) -> Result<Judged, Objection> {
    let (names, state) = match resolve(policy, dentry) {
        Ok(resolved) => resolved,
        Err(reason) => return Err(Objection::plain(reason)),
    };
    let Some(verdict) = names.verdict(state) else {
        return Err(Objection::plain(Reason::Error));
    };
    let verdict = if policy.header.links_chunk == 0 {
        verdict
    } else {
        links::limit(policy, dentry.pointer(&OFF_DENTRY_INODE), verdict)
    };
    // The level is a read-only global: at level 0 the verifier removes all of this.
    debug!((), "state {} rights {} deny rule {}", state, verdict.rights, verdict.deny_rule);
    Ok(Judged { verdict, state })
}

/// [`judge`] with a stack frame of its own: two of them in one program's frame would leave too
/// little of the 512 bytes for what they call. The answer is one number, because what a function
/// leaves behind in R0 must be one: rights (bits 0 to 7), the number of a [`Reason`] or 0 (8 to
/// 15), what holds below (16 to 31), the deny rule (32 to 63).
#[inline(never)]
fn judge_packed(policy: &Policy, dentry: Object) -> u64 {
    const { assert!(right::ALL | right::LINKED <= 0xff && right::ALL & right::LINKED == 0) };
    let (verdict, below, reason) = match judge(policy, dentry) {
        Ok(judged) => (judged.verdict, Automaton::new(policy).below(judged.state), 0),
        Err(Objection { reason, .. }) => (Verdict::default(), 0, u32::from(reason)),
    };
    let low = u64::from(u32::from(verdict.rights & 0xff) | (reason & 0xff) << 8 | below << 16);
    opaque_wide(policy.header, low | u64::from(verdict.deny_rule) << 32)
}

/// For programs that judge more than one name.
#[inline(always)]
pub(crate) fn judge_apart(policy: &Policy, dentry: Object) -> Result<Apart, Objection> {
    let packed = judge_packed(policy, dentry);
    let (rights, reason) = (packed as u16 & 0xff, (packed >> 8) as u16 & 0xff);
    if reason == 0 {
        let verdict = Verdict { rights, reserved: 0, deny_rule: (packed >> 32) as u32 };
        return Ok(Apart { verdict, below: (packed >> 16) as u32 & 0xffff });
    }
    Err(Objection { reason, rights: 0, rule: 0 })
}

/// Does a verdict lack a wanted right?
#[inline(always)]
pub(crate) fn require(verdict: Verdict, wanted: u16) -> Result<(), Objection> {
    if wanted & !verdict.rights == 0 {
        return Ok(());
    }
    let reason = if verdict.rights & right::LINKED != 0 {
        Reason::Linked
    } else if verdict.deny_rule != 0 {
        Reason::Deny
    } else {
        Reason::NotGranted
    };
    let reason = reason as u16;
    Err(Objection { reason, rights: verdict.rights & right::ALL, rule: verdict.deny_rule })
}

/// The whole decision for one name.
#[inline(always)]
pub(crate) fn one_name(
    guarded: &Guarded,
    operation: Operation,
    dentry: Object,
    wanted: u16,
) -> i32 {
    let result = match &guarded.policy {
        None => Err(Objection::plain(Reason::NoPolicy)),
        Some(policy) => {
            judge(policy, dentry).and_then(|judged| require(judged.verdict, wanted)).map_err(
                |mut objection| {
                    // One denial to follow instead of one for each reason.
                    let reason = u32::from(objection.reason);
                    objection.reason = opaque(policy.header, reason) as u16;
                    objection
                },
            )
        }
    };
    let Err(Objection { reason, rights, rule }) = result else { return ALLOW };
    let packed = u64::from(reason) | u64::from(rights) << 16 | u64::from(rule) << 32;
    refuse_name(guarded, operation as u16, wanted, packed, dentry)
}

/// [`refuse`] about one name, its denial in a stack frame of its own: the one of the hook is below
/// all that a walk needs.
#[inline(never)]
fn refuse_name(guarded: &Guarded, operation: u16, wanted: u16, packed: u64, dentry: Object) -> i32 {
    let objection = Objection {
        reason: packed as u16,
        rights: (packed >> 16) as u16,
        rule: (packed >> 32) as u32,
    };
    let denial = Denial { operation, wanted, objection, second: false, socket: Socket::NONE };
    refuse(guarded, &denial, Names { first: dentry, second: Object(core::ptr::null()) })
}

/// Records a denial and gives the verdict: always a denial, but in audit mode, which the
/// policy in force must ask for.
pub(crate) fn refuse(guarded: &Guarded, denial: &Denial, names: Names) -> i32 {
    debug!(
        (),
        "cgroup {} operation {} refused, reason {}",
        guarded.cgroup,
        denial.operation,
        denial.objection.reason
    );
    let audit = match &guarded.policy {
        Some(policy) => opaque(policy.header, u32::from(policy.header.mode == MODE_AUDIT)) != 0,
        None => false,
    };
    emit::record(guarded, denial, names, audit);
    if let Some(guest) = guarded.entry() {
        count(&guest.denied);
        // The zero keeps the verifier from following this with each constant reason by itself.
        if u32::from(denial.objection.reason) + guest.reserved == Reason::Error as u32 {
            count(&guest.errors);
        }
    }
    if audit { ALLOW } else { DENY }
}

/// May what is at `old` get the name `new`? The new name may not carry more rights.
#[inline(always)]
pub(crate) fn carries(old: Verdict, new: Verdict) -> Result<(), Objection> {
    if new.rights & right::CARRIED & !old.rights == 0 {
        Ok(())
    } else {
        Err(Objection { reason: Reason::Widens as u16, rights: old.rights, rule: 0 })
    }
}
