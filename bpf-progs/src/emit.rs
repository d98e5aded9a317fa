//! Records of denials.
//!
//! A record is built in a [`Scratch`]: the header at a fixed place, `path1` grown from its leaf
//! towards the front right before the header, `path2` the same way before `path1`. So the
//! record is one run of bytes that ends with the header. No scratch free or no room in the ring
//! buffer: the guest's `lost` counter goes up and the verdict stays what it is.

use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_loop, bpf_probe_read_kernel,
    bpf_ringbuf_output,
};
use core::ffi::c_void;
use wasi_guard_abi::{
    operation::Operation,
    record::{
        FLAG_AUDIT, FLAG_CUT, FLAG_DIRECTORY, FLAG_SECOND, FLAG_UNDER1, FLAG_UNDER2, MAX_PATH,
        Record,
    },
};

use crate::{
    atomic,
    decide::Objection,
    kernel::{OFF_DENTRY_INODE, OFF_DENTRY_LEN, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, Object},
    maps::{PATHS_END, SCRATCH, SCRATCHES, Scratch},
    scope::{Guarded, Policy, count, cpu},
    walk::root_of,
};

/// Tries to find a free scratch.
const CLAIMS: u32 = 4;
/// Names in a path of a record; deeper paths are cut.
const MAX_NAMES: u32 = 2048;

/// What a record says besides the names.
#[derive(Clone, Copy)]
pub(crate) struct Denial {
    /// Number of an [`Operation`].
    pub(crate) operation: u16,
    pub(crate) wanted: u16,
    pub(crate) objection: Objection,
    /// The objection is about the second name.
    pub(crate) second: bool,
    pub(crate) socket: Socket,
}

/// The socket part of a record.
#[derive(Clone, Copy, Default)]
pub(crate) struct Socket {
    pub(crate) family: u16,
    pub(crate) port: u16,
    pub(crate) protocol: u16,
    pub(crate) kind: u16,
    pub(crate) address: [u64; 2],
}

impl Socket {
    pub(crate) const NONE: Self =
        Self { family: 0, port: 0, protocol: 0, kind: 0, address: [0, 0] };
}

impl Denial {
    pub(crate) const fn of_names(operation: Operation, wanted: u16, objection: Objection) -> Self {
        let operation = operation as u16;
        Self { operation, wanted, objection, second: false, socket: Socket::NONE }
    }
}

/// The names of an attempt; null where there is none.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) first: Object,
    pub(crate) second: Object,
}

impl Names {
    pub(crate) const NONE: Self =
        Self { first: Object(core::ptr::null()), second: Object(core::ptr::null()) };
}

/// A claimed scratch.
#[derive(Clone, Copy)]
pub(crate) struct Claim(pub(crate) *mut Scratch);

/// Takes a free scratch, if one of a few tries finds one.
#[inline(always)]
pub(crate) fn claim() -> Option<Claim> {
    let first = cpu();
    for n in 0..CLAIMS {
        // Neighbours are CPUs' own, so a second try goes to the other half of the pool.
        let index = (first + n * (SCRATCHES / CLAIMS)) & (SCRATCHES - 1);
        let scratch = SCRATCH.get_ptr_mut(index)?;
        // SAFETY: a map value, aligned; all writers use atomics.
        if unsafe { atomic::take(&raw mut (*scratch).busy) } {
            return Some(Claim(scratch));
        }
    }
    None
}

/// Gives a scratch back.
#[inline(always)]
pub(crate) fn release(claim: Claim) {
    // SAFETY: as in `claim`.
    unsafe { atomic::give(&raw mut (*claim.0).busy) };
}

/// A path that is being put together, leaf first.
#[repr(C)]
struct Climb {
    bytes: *mut u8,
    dentry: Object,
    /// Where the path begins so far.
    at: u32,
    /// The lowest place it may begin.
    floor: u32,
    preopen: u32,
    under: u32,
    cut: u32,
    header: Option<&'static wasi_guard_abi::table::Header>,
}

/// Mask for a position in the path area, and the longest name: together they stay inside the
/// scratch, which the verifier wants to see.
const AT_MASK: u32 = PATHS_END as u32 - 1;
const _: () = assert!(PATHS_END.is_power_of_two());

#[inline(never)]
extern "C" fn prepend(n: u32, climb: *mut Climb) -> i64 {
    // SAFETY: bpf_loop passes the pointer that it was given, to a live stack slot.
    let climb = unsafe { &mut *climb };
    if climb.under | climb.cut != 0 {
        return 1;
    }
    let dentry = climb.dentry;
    if let Some(header) = climb.header {
        let found = root_of(header, dentry.pointer(&OFF_DENTRY_INODE));
        if found != 0 {
            climb.under = 1;
            climb.preopen = found - 1;
            return 1;
        }
    }
    let parent = dentry.pointer(&OFF_DENTRY_PARENT);
    if parent == dentry {
        return 1;
    }
    let len = dentry.read::<u32>(&OFF_DENTRY_LEN) & 0xff;
    let needed = len + u32::from(n > 0);
    if climb.at < climb.floor + needed {
        climb.cut = 1;
        return 1;
    }
    let mut at = climb.at;
    if n > 0 {
        at -= 1;
        // SAFETY: the mask keeps the position inside the scratch.
        unsafe { *climb.bytes.add((at & AT_MASK) as usize) = b'/' };
    }
    at -= len;
    let name = dentry.read::<*const c_void>(&OFF_DENTRY_NAME);
    if len > 0 {
        // SAFETY: the destination's position is masked and len is at most 255, which the
        // scratch's slack has room for; the helper checks the source.
        unsafe {
            bpf_probe_read_kernel(climb.bytes.add((at & AT_MASK) as usize).cast(), len, name);
        }
    }
    climb.at = at;
    climb.dentry = parent;
    0
}

/// What [`path`] found out.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) at: u32,
    pub(crate) under: bool,
    pub(crate) preopen: u32,
    pub(crate) cut: bool,
}

/// Writes the path of `dentry` so that it ends at `end`.
#[inline(never)]
pub(crate) fn path(
    claim: Claim,
    policy: &Option<Policy>,
    dentry: Object,
    end: u32,
    out: &mut Written,
) -> u32 {
    // SAFETY: a map value; only the claimer writes to it.
    let bytes = unsafe { (&raw mut (*claim.0).bytes).cast::<u8>() };
    // A zero that the verifier does not know as such, see walk.rs; there may be no table here.
    // SAFETY: a map value that nobody writes to after its creation.
    let zero = unsafe { core::ptr::read_volatile(&raw const (*claim.0).zero) };
    let end = end + zero;
    let mut climb = Climb {
        bytes,
        dentry,
        at: end,
        floor: end.saturating_sub(MAX_PATH as u32),
        preopen: zero,
        under: zero,
        cut: zero,
        header: policy.as_ref().map(|policy| policy.header),
    };
    // SAFETY: the callback has the signature that bpf_loop wants; the context outlives the call.
    let steps = unsafe { bpf_loop(MAX_NAMES, prepend as *mut c_void, (&raw mut climb).cast(), 0) };
    *out = Written {
        at: climb.at,
        under: climb.under != 0,
        preopen: climb.preopen,
        cut: climb.cut != 0 || steps < 0 || steps as u32 >= MAX_NAMES,
    };
    0
}

/// Sends the record of `denial`, or counts its loss.
pub(crate) fn record(guarded: &Guarded, denial: &Denial, names: Names, audit: bool) {
    let sent = match claim() {
        Some(claim) => {
            let sent = send(guarded, denial, names, audit, claim);
            release(claim);
            sent
        }
        None => false,
    };
    if !sent && let Some(guest) = guarded.entry() {
        count(&guest.lost);
    }
}

#[inline(always)]
fn send(guarded: &Guarded, denial: &Denial, names: Names, audit: bool, claim: Claim) -> bool {
    let end = PATHS_END as u32;
    let mut flags = if audit { FLAG_AUDIT } else { 0 };
    let mut one = Written { at: end, under: false, preopen: 0, cut: false };
    if !names.first.is_null() {
        path(claim, &guarded.policy, names.first, end, &mut one);
        if names.first.is_directory() {
            flags |= FLAG_DIRECTORY;
        }
    }
    let mut two = Written { at: one.at, under: false, preopen: 0, cut: false };
    if !names.second.is_null() {
        path(claim, &guarded.policy, names.second, one.at, &mut two);
    }
    if one.under {
        flags |= FLAG_UNDER1;
    }
    if two.under {
        flags |= FLAG_UNDER2;
    }
    if one.cut || two.cut {
        flags |= FLAG_CUT;
    }
    if denial.second {
        flags |= FLAG_SECOND;
    }
    // SAFETY: a helper without preconditions.
    let (ids, time) = unsafe { (bpf_get_current_pid_tgid(), bpf_ktime_get_boot_ns()) };
    let socket = denial.socket;
    let record = Record {
        time,
        thread: ids as u32,
        process: (ids >> 32) as u32,
        operation: denial.operation,
        reason: denial.objection.reason,
        wanted: denial.wanted,
        rights: denial.objection.rights,
        rule: denial.objection.rule,
        flags,
        preopen1: one.preopen as u16,
        preopen2: two.preopen as u16,
        path1_len: (end - one.at) as u16,
        path2_len: (one.at - two.at) as u16,
        family: socket.family,
        port: socket.port,
        protocol: socket.protocol,
        socket_type: socket.kind,
        // SAFETY: two u64 are sixteen bytes.
        address: unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(socket.address) },
    };
    // SAFETY: the header's place lies inside the scratch, 8-byte aligned, and is ours.
    unsafe {
        let bytes = (&raw mut (*claim.0).bytes).cast::<u8>();
        bytes.add(PATHS_END).cast::<Record>().write(record);
        let Some(ring) = guarded.ring() else { return false };
        let at = two.at & AT_MASK;
        // With no path the record begins where the path area ends, which the mask turns into 0.
        let (start, len) = if two.at >= end {
            (bytes.add(PATHS_END), size_of::<Record>() as u64)
        } else {
            let len = (end - at) as u64 + size_of::<Record>() as u64;
            (bytes.add(at as usize), len)
        };
        bpf_ringbuf_output(core::ptr::from_ref(ring).cast_mut().cast(), start.cast(), len, 0) == 0
    }
}
