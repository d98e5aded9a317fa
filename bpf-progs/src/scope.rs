//! Is the current task guarded, and by which policy?
//!
//! Guests are the children of one cgroup, at level 1 of the hierarchy. A task is guarded if its
//! ancestor at that level is this cgroup: by place, not by an entry somewhere, so that a guest
//! whose entry is missing, or that sits in a child cgroup of its own making, is denied instead
//! of forgotten. The first two helper calls are what every task on the host pays.

use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_smp_processor_id, bpf_inode_storage_get,
};
use wasi_guard_abi::{
    guest::{GUEST_SETUP, Guest, MARK_RUNTIME, Mark},
    table::{CHUNK_BYTES, Header, MAGIC},
};

use crate::{
    atomic,
    kernel::Object,
    maps::{GUESTS, HOST, LOADING, MARKS, RINGS, Ring, TABLES, Table},
};

/// Level of the cgroup whose children are guests; the root is level 0.
const PARENT_LEVEL: i32 = 1;

/// A guarded task's guest.
#[derive(Clone, Copy)]
pub(crate) struct Guarded {
    /// Id of the guest's cgroup: key of the per-guest maps. 0 if the task sits in the parent.
    pub(crate) cgroup: u64,
    /// The policy in force, if there is one.
    pub(crate) policy: Option<Policy>,
}

/// A policy in force.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) table: &'static Table,
    pub(crate) header: &'static Header,
}

/// The guest of the current task, `None` if the task is not ours.
#[inline(always)]
pub(crate) fn current() -> Option<Guarded> {
    // An array of one entry always has it; if not, no guest was ever started.
    let host = HOST.get(0)?;
    // SAFETY: a helper without preconditions.
    let parent = unsafe { bpf_get_current_ancestor_cgroup_id(PARENT_LEVEL) };
    // SAFETY: a reference is valid to read; volatile so that both questions are about one value.
    let guarded = unsafe { core::ptr::read_volatile(&raw const host.parent_cgroup) };
    if parent != guarded {
        return None;
    }
    // Tasks above level 1 have no ancestor there, which reads as 0, as the map does before the
    // first guest. Asked last, because most tasks on most hosts end at the first question.
    if guarded == 0 {
        return None;
    }
    // SAFETY: as above.
    let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(PARENT_LEVEL + 1) };
    Some(Guarded { cgroup, policy: policy(cgroup) })
}

#[inline(always)]
fn policy(cgroup: u64) -> Option<Policy> {
    // SAFETY: the reference is used until the program ends; the kernel frees an inner map only
    // after running programs have left it.
    let table = unsafe { TABLES.get(&cgroup) };
    // A lookup that meets a replacement in the same bucket of the hash can miss the old entry and
    // the new one. The second one begins after that replacement.
    // SAFETY: as above.
    let table = if table.is_none() { unsafe { TABLES.get(&cgroup) } } else { table }?;
    const { assert!(size_of::<Header>() <= CHUNK_BYTES) };
    // SAFETY: chunk 0 holds a header (asserted to fit); all its bit patterns are valid.
    let header = unsafe { &*table.get_ptr(0)?.cast::<Header>() };
    (header.magic == MAGIC).then_some(Policy { table, header })
}

impl Guarded {
    /// The guest's entry, with its counters.
    pub(crate) fn entry(&self) -> Option<&'static Guest> {
        // SAFETY: entries are preallocated and never change their size; a stale one is at worst
        // another guest's counter.
        unsafe { GUESTS.get(&self.cgroup) }
    }

    /// Is the guest between creation and its first policy?
    pub(crate) fn in_setup(&self) -> bool {
        self.policy.is_none() && self.entry().is_some_and(|guest| guest.flags & GUEST_SETUP != 0)
    }

    /// Does the guest's worker still load compiled code, for which it makes memory executable?
    pub(crate) fn is_loading(&self) -> bool {
        // SAFETY: only whether there is an entry counts.
        unsafe { LOADING.get(&self.cgroup) }.is_some()
    }

    /// May a worker that is being set up execute or read this inode?
    pub(crate) fn is_runtime(&self, inode: Object) -> bool {
        mark(inode).is_some_and(|mark| mark.flags & MARK_RUNTIME != 0)
    }

    pub(crate) fn ring(&self) -> Option<&'static Ring> {
        // SAFETY: as for tables.
        unsafe { RINGS.get(&self.cgroup) }
    }
}

/// The mark of an inode.
#[inline(always)]
pub(crate) fn mark(inode: Object) -> Option<&'static Mark> {
    if inode.is_null() {
        return None;
    }
    // SAFETY: the verifier checks that it is an inode; without the create flag the helper only
    // looks up. The storage lives as long as the inode, which the caller's object pins.
    unsafe {
        bpf_inode_storage_get(
            (&raw const MARKS).cast_mut().cast(),
            inode.0.cast_mut().cast(),
            core::ptr::null_mut(),
            0,
        )
        .cast::<Mark>()
        .as_ref()
    }
}

/// Adds one to a counter in a map value.
pub(crate) fn count(counter: &u64) {
    // SAFETY: map values are shared and aligned; every writer uses atomics.
    unsafe { atomic::increment(core::ptr::from_ref(counter).cast_mut()) };
}

/// Number of the CPU, to spread users of a pool.
pub(crate) fn cpu() -> u32 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_get_smp_processor_id() }
}
