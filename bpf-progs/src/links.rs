//! Files with several names: what one name does not have, no name has.
//!
//! Userspace looks for such files when a policy goes into force, marks those whose names differ in
//! their rights, and keeps what all names have in common in the table.

use wasi_guard_abi::{
    guest::MARK_LINKED,
    operation::right,
    table::{BUCKET_SLOTS, CHUNK_BUCKETS, Linked, Verdict},
};

use crate::{
    kernel::Object,
    scope::{Policy, mark},
    walk::opaque,
};

/// The verdict on a name of `inode`, less what other names of it do not have.
#[inline(always)]
pub(crate) fn limit(policy: &Policy, inode: Object, verdict: Verdict) -> Verdict {
    let header = policy.header;
    let Some(mark) = mark(inode) else { return verdict };
    if mark.flags & MARK_LINKED == 0 {
        return verdict;
    }
    const { assert!(CHUNK_BUCKETS.is_power_of_two()) };
    let bucket = mark.id as u32 & header.links_mask;
    let Some(chunk) = policy.table.get_ptr(header.links_chunk + bucket / CHUNK_BUCKETS as u32)
    else {
        // A table that promises buckets has them; doubt is a denial.
        return Verdict { rights: right::LINKED, ..verdict };
    };
    let first = (bucket as usize & (CHUNK_BUCKETS - 1)) * BUCKET_SLOTS;
    let slots = chunk.cast::<Linked>();
    // Unknown to the verifier, as what is found will be: else it follows each slot to the end.
    let mut common = opaque(header, u32::from(right::ALL));
    let mut rule = opaque(header, 0);
    for slot in 0..BUCKET_SLOTS {
        // SAFETY: the mask above keeps the bucket inside the chunk; all bit patterns are valid.
        let linked = unsafe { &*slots.add(first + slot) };
        if linked.id == mark.id {
            common = u32::from(linked.rights);
            rule = linked.deny_rule;
        }
    }
    let rights = verdict.rights & common as u16;
    if rights == verdict.rights {
        return verdict;
    }
    Verdict { rights: rights | right::LINKED, reserved: 0, deny_rule: rule }
}
