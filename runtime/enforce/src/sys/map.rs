//! `bpf(2)` on maps of any build, whose values this build need not know.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// The leading fields of `union bpf_attr` for elements of maps (uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_MAP_LOOKUP_ELEM` and `BPF_MAP_DELETE_ELEM` (uapi/linux/bpf.h).
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;

/// Removes an entry of a map whose keys have eight bytes; false if there is none.
///
/// # Errors
/// Of bpf(2).
pub(crate) fn map_delete(map: BorrowedFd<'_>, key: u64) -> io::Result<bool> {
    let mut attr = MapElement {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const key as u64,
        ..MapElement::default()
    };
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

/// The kernel's number of the map at `key` in a hash map of maps with keys of eight bytes. aya opens
/// that map, which takes `CAP_SYS_ADMIN`; the number alone does not.
///
/// # Errors
/// Of bpf(2); `ENOENT` if there is none.
pub(crate) fn inner_map_id(map: BorrowedFd<'_>, key: u64) -> io::Result<u32> {
    let mut id = 0u32;
    let mut attr = MapElement {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const key as u64,
        value: &raw mut id as u64,
        ..MapElement::default()
    };
    // SAFETY: the attribute is a valid prefix of union bpf_attr, of the size given. The kernel reads
    // eight bytes of the key, says the caller, and writes the four of a map's number.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_ELEM, &raw mut attr, size_of::<MapElement>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}
