//! What directories remember of the decision before: the automaton's state after their path.
//!
//! A directory has one name. As long as no name on the host was moved, its path is what it was:
//! `rename_lock` (fs/dcache.c) is taken for writing by every function that moves a dentry
//! (`d_move`, `d_exchange`, `d_splice_alias`), and its sequence number goes up by one when that
//! begins and by one when it has ended. Loads and stores are not reordered with their own kind on
//! x86_64, the only machine that this runs on.

use aya_ebpf::helpers::generated::{bpf_inode_storage_get, bpf_jiffies64, bpf_probe_read_kernel};
use wasi_guard_abi::{
    guest::{Mark, PLACE_TICKS},
    table::Header,
};

use crate::{
    atomic,
    kernel::{Object, RENAME_LOCK, global_wide},
    maps::MARKS,
    walk::UNKNOWN,
};

/// `BPF_LOCAL_STORAGE_GET_F_CREATE` (uapi/linux/bpf.h).
const CREATE: u64 = 1;

/// The sequence number of `rename_lock`: odd while a name is moved, or if nobody knows.
#[inline(always)]
pub(crate) fn renames() -> u32 {
    let mut sequence = 1u32;
    let lock = global_wide(&RENAME_LOCK);
    if lock != 0 {
        // SAFETY: the helper checks the source; the destination is four bytes long. It writes
        // zeros if the source cannot be read, hence the next line.
        let failed =
            unsafe { bpf_probe_read_kernel((&raw mut sequence).cast(), 4, lock as *const _) };
        if failed != 0 {
            return 1;
        }
    }
    sequence
}

fn ticks() -> u32 {
    // SAFETY: a helper without preconditions.
    unsafe { bpf_jiffies64() as u32 }
}

/// The state that a directory's mark holds, if it is about this table and `renames` (even) is what
/// it was; else [`UNKNOWN`].
#[inline(always)]
pub(crate) fn place(mark: &'static Mark, header: &'static Header, renames: u32) -> u32 {
    let place = &raw const mark.place;
    // SAFETY: a map value, aligned; all bit patterns are valid. Volatile, because others write to
    // it: what was read while somebody did is thrown away.
    unsafe {
        let version = (&raw const (*place).version).read_volatile();
        let serial = (&raw const (*place).serial).read_volatile();
        let (then, since) = (
            (&raw const (*place).renames).read_volatile(),
            (&raw const (*place).ticks).read_volatile(),
        );
        let state = (&raw const (*place).state).read_volatile();
        let after = (&raw const (*place).version).read_volatile();
        let holds = version & 1 == 0
            && version == after
            && serial == header.serial
            && then == renames
            && ticks().wrapping_sub(since) < PLACE_TICKS;
        // A number that the programs made: the mask tells the verifier what it may be.
        if holds { state & 0xffff } else { UNKNOWN }
    }
}

/// Remembers the state after the path of a directory. May fail, then the next decision walks.
#[inline(always)]
pub(crate) fn remember(directory: Object, header: &'static Header, renames: u32, state: u32) {
    if header.serial == 0 {
        return;
    }
    // SAFETY: the verifier checks that it is an inode; the helper takes null. The storage lives as
    // long as the inode, which the caller's dentry pins.
    let mark = unsafe {
        bpf_inode_storage_get(
            (&raw const MARKS).cast_mut().cast(),
            directory.0.cast_mut().cast(),
            core::ptr::null_mut(),
            CREATE,
        )
        .cast::<Mark>()
    };
    if mark.is_null() {
        return;
    }
    // SAFETY: a map value, aligned. The version is odd for exactly one writer at a time.
    unsafe {
        let place = &raw mut (*mark).place;
        let version = (&raw const (*place).version).read_volatile();
        if version & 1 != 0 || !atomic::change(&raw mut (*place).version, version, version + 1) {
            return;
        }
        (&raw mut (*place).serial).write_volatile(header.serial);
        (&raw mut (*place).renames).write_volatile(renames);
        (&raw mut (*place).ticks).write_volatile(ticks());
        (&raw mut (*place).state).write_volatile(state);
        (&raw mut (*place).version).write_volatile(version + 2);
    }
}
