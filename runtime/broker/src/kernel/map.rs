//! Maps.

use std::os::fd::{AsFd, BorrowedFd};

use aya_obj::generated::bpf_map_type as kinds;
use rustix::io::Errno;

use super::sys::{RawMap, Shape, possible_cpus};
use super::{LoadError, object_name};
use crate::image;

/// Kinds whose elements a caller may reach by their bytes alone.
///
/// In all others keys or values are numbers of descriptors, or of things of the host's: a guest that
/// names one would name one of the broker's. So it is with the arrays of programs, events, cgroups
/// and sockets, the maps of maps, devices and processors, and the storages of sockets, tasks, inodes
/// and cgroups, whose *keys* are descriptors (`bpf_fd_sk_storage_lookup_elem` and its like).
const OF_BYTES: [u32; 13] = [
    kinds::BPF_MAP_TYPE_HASH as u32,
    kinds::BPF_MAP_TYPE_ARRAY as u32,
    kinds::BPF_MAP_TYPE_PERCPU_HASH as u32,
    kinds::BPF_MAP_TYPE_PERCPU_ARRAY as u32,
    kinds::BPF_MAP_TYPE_STACK_TRACE as u32,
    kinds::BPF_MAP_TYPE_LRU_HASH as u32,
    kinds::BPF_MAP_TYPE_LRU_PERCPU_HASH as u32,
    kinds::BPF_MAP_TYPE_LPM_TRIE as u32,
    kinds::BPF_MAP_TYPE_CGROUP_STORAGE_DEPRECATED as u32,
    kinds::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED as u32,
    kinds::BPF_MAP_TYPE_QUEUE as u32,
    kinds::BPF_MAP_TYPE_STACK as u32,
    kinds::BPF_MAP_TYPE_BLOOM_FILTER as u32,
];

/// A map of the kernel's. It lives as long as this or a program that was loaded with it.
#[derive(Debug)]
pub struct Map {
    raw: RawMap,
    kind: u32,
    value_size: u32,
}

/// Makes a map, with what it has from the beginning.
///
/// `btf` are the types that `map.btf_key` and `map.btf_value` are numbers in; without it they are not
/// looked at. `inner` is a map like those that a map of maps is for.
///
/// An array of perf events with no entries, or with more than there are processors, gets as many as
/// there are.
///
/// # Errors
/// Of `BPF_MAP_CREATE`, of the update with `map.data`, or of `BPF_MAP_FREEZE`.
pub fn map_create(
    map: &image::Map,
    btf: Option<BorrowedFd<'_>>,
    inner: Option<BorrowedFd<'_>>,
) -> Result<Map, LoadError> {
    let failed =
        |what: &str, errno| LoadError::new(format!("{what} the map {:?}", map.name), errno);
    let mut shape = Shape {
        name: object_name(&map.name),
        kind: map.kind,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        flags: map.flags,
        extra: map.extra,
        inner,
        types: btf
            .filter(|_| map.btf_key != 0 || map.btf_value != 0)
            .map(|btf| (btf, map.btf_key, map.btf_value)),
    };
    if map.kind == kinds::BPF_MAP_TYPE_PERF_EVENT_ARRAY as u32 {
        let cpus = possible_cpus().map_err(|errno| failed("make", errno))?;
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
        if shape.max_entries == 0 || shape.max_entries > cpus {
            shape.max_entries = cpus;
        }
    }
    let mut made = RawMap::create(&shape);
    if made.is_err() && shape.types.is_some() {
        // Many kinds take no types (`map_check_no_btf`, kernel/bpf/syscall.c), and where they do, these
        // are mostly a help to those who look at the map from outside. A program that cannot do
        // without them is refused itself.
        shape.types = None;
        made = RawMap::create(&shape);
    }
    let raw = made.map_err(|errno| failed("make", errno))?;
    if !map.data.is_empty() {
        raw.update(&0_u32.to_ne_bytes(), &map.data, 0).map_err(|errno| failed("fill", errno))?;
    }
    if map.frozen {
        raw.freeze().map_err(|errno| failed("freeze", errno))?;
    }
    Ok(Map { raw, kind: map.kind, value_size: map.value_size })
}

impl Map {
    /// `enum bpf_map_type`.
    #[must_use]
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// Bytes of a key; 0 for queues, stacks and bloom filters.
    #[must_use]
    pub fn key_size(&self) -> usize {
        self.raw.key_size()
    }

    /// Bytes of a value; of one processor's, where every processor has its own.
    #[must_use]
    pub fn value_size(&self) -> u32 {
        self.value_size
    }

    /// Bytes that a lookup writes and an update reads: where every processor has its own value, all
    /// of them, of the possible processors (not only of those that are online), each at a multiple of
    /// eight bytes (`bpf_map_value_size`, kernel/bpf/syscall.c).
    #[must_use]
    pub fn transfer_size(&self) -> usize {
        self.raw.transfer_size()
    }

    /// Writes the value of a key to `value`, which has [`Map::transfer_size`] bytes. Of a queue or a
    /// stack, where the key is empty: the element that is next, which stays where it is. A bloom
    /// filter is asked about the value that is in `value` and leaves it so.
    ///
    /// # Errors
    /// `ENOENT` if there is none; `EINVAL` if a length or a flag is wrong; `EPERM` if the map's keys
    /// or values are not for callers, see [`Map::set_cgroup`].
    pub fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), Errno> {
        self.may_be_reached()?;
        self.raw.lookup(key, value, flags)
    }

    /// Sets the value of a key; adds it to a queue, a stack or a bloom filter, where the key is
    /// empty. `flags` are `BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST` and `BPF_F_LOCK`.
    ///
    /// # Errors
    /// Those of [`Map::lookup`]; `EEXIST` and `E2BIG`; `EPERM` also if the map is frozen.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        self.may_be_reached()?;
        self.raw.update(key, value, flags)
    }

    /// Removes a key.
    ///
    /// # Errors
    /// Those of [`Map::lookup`]; `EINVAL` also where nothing can be removed, as in arrays.
    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.may_be_reached()?;
        self.raw.delete(key)
    }

    /// Writes the key after `key` to `next`; the first, if that is absent or not in the map.
    ///
    /// # Errors
    /// `ENOENT` after the last; otherwise those of [`Map::lookup`].
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.may_be_reached()?;
        self.raw.next_key(key, next)
    }

    /// Puts a cgroup into an array of cgroups.
    ///
    /// # Errors
    /// `EPERM` if the map is of another kind, `EINVAL` if the key has not four bytes, `E2BIG` if it
    /// is beyond the array's end, `EBADF` if the descriptor is none of a cgroup's directory.
    pub fn set_cgroup(&self, key: &[u8], cgroup: BorrowedFd<'_>) -> Result<(), Errno> {
        self.is_of_cgroups()?;
        self.raw.update_descriptor(key, cgroup, 0)
    }

    /// Takes a cgroup out of an array of cgroups.
    ///
    /// # Errors
    /// `EPERM` if the map is of another kind, `EINVAL` if the key has not four bytes, `E2BIG` if it
    /// is beyond the array's end, `ENOENT` if there is no cgroup.
    pub fn remove_cgroup(&self, key: &[u8]) -> Result<(), Errno> {
        self.is_of_cgroups()?;
        self.raw.delete(key)
    }

    fn may_be_reached(&self) -> Result<(), Errno> {
        if OF_BYTES.contains(&self.kind) { Ok(()) } else { Err(Errno::PERM) }
    }

    fn is_of_cgroups(&self) -> Result<(), Errno> {
        let right = self.kind == kinds::BPF_MAP_TYPE_CGROUP_ARRAY as u32;
        if right { Ok(()) } else { Err(Errno::PERM) }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}
