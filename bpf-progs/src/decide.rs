//! What the table grants a name, and the verdicts that need two names.

use aya_ebpf::helpers::generated::bpf_loop;
use aya_log_ebpf::debug;
use core::ffi::c_void;
use wasi_guard_abi::{
    operation::{Operation, Reason, right},
    record::MAX_PATH,
    table::{CHUNK_VERDICTS, MODE_AUDIT, Verdict},
};

use crate::{
    ALLOW, DENY,
    emit::{self, Denial, Names},
    kernel::{OFF_DENTRY_INODE, Object},
    links,
    scope::{Guarded, Policy, count},
    walk::{Automaton, opaque, opaque_wide, resolve},
};

/// A name and what may be done with it.
#[derive(Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
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
    let (names, place) = match resolve(policy, dentry) {
        Ok(resolved) => resolved,
        Err(reason) => return Err(Objection::plain(reason)),
    };
    let number = names.entry(place.state, policy.header.preopen_column + place.preopen);
    let chunk = policy.header.verdict_chunk + number / CHUNK_VERDICTS as u32;
    let Some(verdicts) = policy.table.get_ptr(chunk) else {
        return Err(Objection::plain(Reason::Error));
    };
    let index = number as usize & (CHUNK_VERDICTS - 1);
    const { assert!(CHUNK_VERDICTS.is_power_of_two()) };
    // SAFETY: the mask keeps the index inside the chunk; all bit patterns are valid.
    let verdict = unsafe { *verdicts.cast::<Verdict>().add(index) };
    let verdict = if policy.header.links_chunk == 0 {
        verdict
    } else {
        links::limit(policy, dentry.pointer(&OFF_DENTRY_INODE), verdict)
    };
    // The level is a read-only global: at level 0 the verifier removes all of this.
    debug!(
        (),
        "preopen {} state {} verdict {} rights {} deny rule {}",
        place.preopen,
        place.state,
        number,
        verdict.rights,
        verdict.deny_rule
    );
    Ok(Judged { verdict })
}

/// [`judge`] with a stack frame of its own: two of them in one program's frame would leave too
/// little of the 512 bytes for what they call. The answer is one number, because what a function
/// leaves behind in R0 must be one: rights, the number of a [`Reason`] or 0, the deny rule.
#[inline(never)]
fn judge_packed(policy: &Policy, dentry: Object) -> u64 {
    let (verdict, reason) = match judge(policy, dentry) {
        Ok(Judged { verdict }) => (verdict, 0),
        Err(objection) => (Verdict::default(), u32::from(objection.reason)),
    };
    let low = u64::from(u32::from(verdict.rights) | reason << 16);
    opaque_wide(policy.header, low | u64::from(verdict.deny_rule) << 32)
}

/// For programs that judge more than one name.
#[inline(always)]
pub(crate) fn judge_apart(policy: &Policy, dentry: Object) -> Result<Judged, Objection> {
    let packed = judge_packed(policy, dentry);
    let (rights, reason) = (packed as u16, (packed >> 16) as u16);
    if reason == 0 {
        let verdict = Verdict { rights, reserved: 0, deny_rule: (packed >> 32) as u32 };
        return Ok(Judged { verdict });
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
    match result {
        Ok(()) => ALLOW,
        Err(objection) => refuse(
            guarded,
            &Denial::of_names(operation, wanted, objection),
            Names { first: dentry, second: Object(core::ptr::null()) },
        ),
    }
}

/// Records a denial and gives the verdict: always a denial, but in audit mode, which the
/// policy in force must ask for.
pub(crate) fn refuse(guarded: &Guarded, denial: &Denial, names: Names) -> i32 {
    debug!(
        (),
        "cgroup {} operation {} refused, reason {}",
        guarded.cgroup,
        denial.operation as u16,
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

/// A path run through the tree automaton, root first.
#[repr(C)]
struct Descent {
    automaton: Automaton,
    bytes: *const u8,
    at: u32,
    state: u32,
}

#[inline(never)]
extern "C" fn down(_: u32, descent: *mut Descent) -> i64 {
    // SAFETY: bpf_loop passes the pointer that it was given, to a live stack slot.
    let descent = unsafe { &mut *descent };
    // SAFETY: the mask keeps the position inside the scratch's path area.
    let byte = unsafe { *descent.bytes.add(descent.at as usize & (2 * MAX_PATH - 1)) };
    descent.state = descent.automaton.step(descent.state, byte);
    descent.at += 1;
    0
}

/// State of the tree automaton below the directory whose path lies in `bytes[at..at + len]`.
/// Equal states of two directories mean equal rights for every name below them.
pub(crate) fn tree_state(
    policy: &Policy,
    preopen: u32,
    bytes: *const u8,
    at: u32,
    len: u32,
) -> Option<u32> {
    let header = policy.header;
    let automaton = Automaton::new(policy, header.tree_chunk, header.tree_row_shift)?;
    let start = header.tree_start[(preopen & 63) as usize];
    let mut descent = Descent { automaton, bytes, at, state: u32::from(start) };
    if len == 0 {
        return Some(descent.state);
    }
    // SAFETY: the callback has the signature that bpf_loop wants; the context outlives the call.
    unsafe { bpf_loop(len, down as *mut c_void, (&raw mut descent).cast(), 0) };
    Some(descent.automaton.step(descent.state, b'/'))
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
