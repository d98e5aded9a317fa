//! What the kernel refuses at a guest's start, with what can be done about it.

use crate::error::Error;

/// A start that the programs deny although they were told of it.
pub(super) fn denied(error: Error) -> Error {
    let source = error.source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
    if source.is_some_and(|source| source.raw_os_error() == Some(libc::EACCES)) {
        error.hint("a guest from before bpffs was unmounted or its pins were removed may still run, and its supervisor hold the programs of that time: end it first")
    } else {
        error
    }
}

/// A map that takes no further guest.
pub(super) fn full(error: aya::maps::MapError, map: &str) -> Error {
    let no_room = matches!(&error, aya::maps::MapError::SyscallError(error)
        if error.io_error.raw_os_error() == Some(libc::E2BIG));
    let error = Error::new(format!("enter the guest into the map {map}")).because(error);
    if no_room {
        error.hint(format!(
            "{} guests run already, the most that a host can have",
            wasi_guard_abi::MAX_GUESTS
        ))
    } else {
        error
    }
}
