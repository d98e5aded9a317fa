//! Atomic read-modify-write on map values.
//!
//! `core::sync::atomic` leaves these out on the BPF target; the instructions exist since Linux
//! 5.12, and the intrinsics compile to them.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, atomic_xchg};

/// Adds one.
///
/// # Safety
/// `counter` is valid and 8-byte aligned.
#[inline(always)]
pub(crate) unsafe fn increment(counter: *mut u64) {
    // SAFETY: passed on to the caller.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}

/// Turns 0 into 1; false if it was not 0.
///
/// # Safety
/// As for [`increment`].
#[inline(always)]
pub(crate) unsafe fn take(flag: *mut u64) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { change(flag, 0, 1) }
}

/// Turns `old` into `new`; false if it was not `old`.
///
/// # Safety
/// As for [`increment`].
#[inline(always)]
pub(crate) unsafe fn change(number: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: passed on to the caller.
    unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
            number, old, new,
        )
        .1
    }
}

/// Turns it into 0.
///
/// # Safety
/// As for [`increment`].
#[inline(always)]
pub(crate) unsafe fn give(flag: *mut u64) {
    // SAFETY: passed on to the caller.
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(flag, 0) };
}
