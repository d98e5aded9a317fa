//! Faults on purpose: every step of a start, a run and an end has a name, at which wasi-guard's own
//! tests let a process be killed or a call of the kernel fail.
//!
//! Only builds with the feature `test-faults` have any of it: in all others [`at`] and [`call`] are
//! empty, and neither the names nor the variable are in the program.

#[cfg(feature = "test-faults")]
mod inject;
mod points;

use std::{ffi::CString, io};

use aya::{maps::MapError, programs::ProgramError};

#[cfg(feature = "test-faults")]
pub use inject::{Fault, VARIABLE};
pub use points::Point;
#[cfg(feature = "test-faults")]
pub use points::Scene;

/// A step was done. Does not return if this process is to be killed here.
#[inline]
pub fn at(point: Point) {
    // A step cannot fail any more; only `call` does.
    let _ = call(point);
}

/// The kernel is about to be called.
///
/// # Errors
/// Only on purpose: the error that the call is to end with.
#[inline]
pub fn call(point: Point) -> io::Result<()> {
    #[cfg(feature = "test-faults")]
    inject::reach(point)?;
    let _ = point;
    Ok(())
}

/// [`call`] where a map is read or written.
///
/// # Errors
/// As of [`call`].
#[inline]
pub(crate) fn map(point: Point) -> Result<(), MapError> {
    call(point).map_err(|io_error| {
        MapError::SyscallError(aya::sys::SyscallError { call: "bpf_map_update_elem", io_error })
    })
}

/// [`call`] where a program is loaded or attached.
///
/// # Errors
/// As of [`call`].
#[inline]
pub(crate) fn program(point: Point) -> Result<(), ProgramError> {
    call(point).map_err(|io_error| {
        ProgramError::SyscallError(aya::sys::SyscallError { call: "bpf", io_error })
    })
}

/// What a worker's environment must have for its faults: nothing but in builds for tests.
pub fn environment() -> Vec<CString> {
    #[cfg(feature = "test-faults")]
    return inject::environment();
    #[cfg(not(feature = "test-faults"))]
    Vec::new()
}
