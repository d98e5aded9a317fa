//! `bpf(2)` on maps of any build, whose values this build need not know.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
};

/// The leading fields of `union bpf_attr` for elements of maps (uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
pub(super) struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl MapElement {
    /// The element at `key`, whose memory the kernel is to read.
    pub(super) fn at(map: RawFd, key: *const u64) -> Self {
        Self { map_fd: map as u32, key: key as u64, ..Self::default() }
    }

    /// A value for it, the descriptor of a map.
    pub(super) fn with(self, value: *const RawFd, flags: u64) -> Self {
        Self { value: value as u64, flags, ..self }
    }
}

/// `BPF_MAP_*` (uapi/linux/bpf.h).
pub(super) const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
pub(super) const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;

/// Removes an entry of a map whose keys have eight bytes; false if there is none.
///
/// # Errors
/// Of bpf(2).
pub(crate) fn map_delete(map: BorrowedFd<'_>, key: u64) -> io::Result<bool> {
    let mut attr = MapElement::at(map.as_raw_fd(), &raw const key);
    // SAFETY: the attribute is a valid prefix of union bpf_attr, of the size given. The kernel reads
    // as many bytes of the key as the map's keys have: eight, says the caller.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_DELETE_ELEM, &raw mut attr, size_of::<MapElement>())
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(true),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        error => Err(error),
    }
}

/// Whether a hash map whose keys have eight bytes has an entry at `key`, without reading its value:
/// kernels before 6.8 make whoever reads one of a map of maps wait as if he had changed it
/// (`bpf_map_copy_value` there). Asked for the key behind one that is not there, the kernel answers
/// with the first (`htab_map_get_next_key` in kernel/bpf/hashtab.c), which is behind none.
///
/// # Errors
/// Of bpf(2).
pub(crate) fn has_key(map: BorrowedFd<'_>, key: u64) -> io::Result<bool> {
    loop {
        let first = next_key(map, None)?;
        let next = next_key(map, Some(key))?;
        // Others come and go meanwhile.
        if next_key(map, None)? == first {
            return Ok(first.is_some() && next != first);
        }
    }
}

/// The key behind `key`, or the first one.
fn next_key(map: BorrowedFd<'_>, key: Option<u64>) -> io::Result<Option<u64>> {
    let mut next = 0u64;
    let key = key.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let mut attr =
        MapElement { value: &raw mut next as u64, ..MapElement::at(map.as_raw_fd(), key) };
    // SAFETY: the attribute is a valid prefix of union bpf_attr, of the size given. The kernel reads
    // and writes as many bytes as the map's keys have: eight, says the caller.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_GET_NEXT_KEY, &raw mut attr, size_of::<MapElement>())
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(Some(next)),
        error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        error => Err(error),
    }
}
