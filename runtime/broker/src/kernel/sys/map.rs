//! `bpf(2)` on maps.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_cmd, bpf_map_type};
use rustix::io::Errno;

use super::{address, address_mut, bpf, bpf_fd, empty, number};

/// What a map is to be like: the fields of `BPF_MAP_CREATE`.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Shape<'a> {
    /// With at least one NUL at its end.
    pub(in crate::kernel) name: [u8; 16],
    pub(in crate::kernel) kind: u32,
    pub(in crate::kernel) key_size: u32,
    pub(in crate::kernel) value_size: u32,
    pub(in crate::kernel) max_entries: u32,
    pub(in crate::kernel) flags: u32,
    pub(in crate::kernel) extra: u64,
    /// What the maps in a map of maps are like.
    pub(in crate::kernel) inner: Option<BorrowedFd<'a>>,
    /// The types of keys and values, and where they are.
    pub(in crate::kernel) types: Option<(BorrowedFd<'a>, u32, u32)>,
}

/// A map, with the sizes by which the kernel reads and writes. They are what it was made with: there
/// is no other way to get one.
#[derive(Debug)]
pub(in crate::kernel) struct RawMap {
    fd: OwnedFd,
    key_size: usize,
    transfer: usize,
}

impl RawMap {
    /// Makes one.
    pub(in crate::kernel) fn create(shape: &Shape<'_>) -> Result<Self, Errno> {
        let transfer = transfer_size(shape.kind, shape.value_size, possible_cpus()?);
        let transfer = transfer.ok_or(Errno::TOOBIG)?;
        let mut attr = empty();
        attr.__bindgen_anon_1.map_type = shape.kind;
        attr.__bindgen_anon_1.key_size = shape.key_size;
        attr.__bindgen_anon_1.value_size = shape.value_size;
        attr.__bindgen_anon_1.max_entries = shape.max_entries;
        attr.__bindgen_anon_1.map_flags = shape.flags;
        attr.__bindgen_anon_1.map_extra = shape.extra;
        attr.__bindgen_anon_1.map_name = shape.name.map(|byte| byte as libc::c_char);
        if let Some(inner) = shape.inner {
            attr.__bindgen_anon_1.inner_map_fd = number(inner);
        }
        if let Some((btf, key, value)) = shape.types {
            attr.__bindgen_anon_1.btf_fd = number(btf);
            attr.__bindgen_anon_1.btf_key_type_id = key;
            attr.__bindgen_anon_1.btf_value_type_id = value;
        }
        // SAFETY: there is no address in the attribute, and the command gives a new descriptor.
        let fd = unsafe { bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr) }?;
        Ok(Self { fd, key_size: shape.key_size as usize, transfer })
    }

    /// Bytes of a key.
    pub(in crate::kernel) fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes that a lookup writes and an update reads.
    pub(in crate::kernel) fn transfer_size(&self) -> usize {
        self.transfer
    }

    /// `BPF_MAP_LOOKUP_ELEM`. What `value` has is read as well: by a bloom filter.
    pub(in crate::kernel) fn lookup(
        &self,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Result<(), Errno> {
        self.check(key, value)?;
        let mut attr = self.element(key);
        attr.__bindgen_anon_2.__bindgen_anon_1.value = address_mut(value);
        attr.__bindgen_anon_2.flags = flags;
        // SAFETY: the kernel reads key_size bytes of the key and writes transfer bytes of the value
        // (`bpf_map_value_size`), or fewer with a flag that names one processor: both lengths were
        // just compared with the sizes that the map was made with, which never change.
        unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_UPDATE_ELEM`.
    pub(in crate::kernel) fn update(
        &self,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> Result<(), Errno> {
        self.check(key, value)?;
        let mut attr = self.element(key);
        attr.__bindgen_anon_2.__bindgen_anon_1.value = address(value);
        attr.__bindgen_anon_2.flags = flags;
        // SAFETY: the kernel reads key_size bytes of the key and transfer bytes of the value, or
        // fewer with a flag that names processors: both lengths were just compared with these sizes.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_UPDATE_ELEM` of a map whose values are descriptors.
    pub(in crate::kernel) fn update_descriptor(
        &self,
        key: &[u8],
        value: BorrowedFd<'_>,
        flags: u64,
    ) -> Result<(), Errno> {
        self.update(key, &number(value).to_ne_bytes(), flags)
    }

    /// `BPF_MAP_DELETE_ELEM`.
    pub(in crate::kernel) fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        self.check_key(key)?;
        let mut attr = self.element(key);
        // SAFETY: the kernel reads key_size bytes of the key, as many as were just counted.
        unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_GET_NEXT_KEY`.
    pub(in crate::kernel) fn next_key(
        &self,
        key: Option<&[u8]>,
        next: &mut [u8],
    ) -> Result<(), Errno> {
        key.map_or(Ok(()), |key| self.check_key(key))?;
        self.check_key(next)?;
        let mut attr = self.element(key.unwrap_or_default());
        attr.__bindgen_anon_2.__bindgen_anon_1.next_key = address_mut(next);
        // SAFETY: the kernel reads key_size bytes of the key, if there is one, and writes as many of
        // the next: both lengths were just compared with that size.
        unsafe { bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) }.map(drop)
    }

    /// `BPF_MAP_FREEZE`: from now on no system call writes to it.
    pub(in crate::kernel) fn freeze(&self) -> Result<(), Errno> {
        let mut attr = self.element(&[]);
        // SAFETY: there is no address in the attribute.
        unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &mut attr) }.map(drop)
    }

    fn element(&self, key: &[u8]) -> aya_obj::generated::bpf_attr {
        let mut attr = empty();
        attr.__bindgen_anon_2.map_fd = number(self.fd.as_fd());
        attr.__bindgen_anon_2.key = address(key);
        attr
    }

    fn check(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        self.check_key(key)?;
        if value.len() == self.transfer { Ok(()) } else { Err(Errno::INVAL) }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Errno> {
        if key.len() == self.key_size { Ok(()) } else { Err(Errno::INVAL) }
    }
}

impl AsFd for RawMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How many processors there may ever be: the kernel's `num_possible_cpus`, fixed when it starts.
pub(in crate::kernel) fn possible_cpus() -> Result<usize, Errno> {
    aya::util::nr_cpus().map_err(|(_, error)| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Bytes of a value between kernel and caller: `bpf_map_value_size`, kernel/bpf/syscall.c. Where
/// every possible processor has a value, each begins at a multiple of eight.
///
/// `None` if that is more than memory has.
fn transfer_size(kind: u32, value_size: u32, cpus: usize) -> Option<usize> {
    use bpf_map_type as kinds;
    const OF_EVERY_CPU: [u32; 4] = [
        kinds::BPF_MAP_TYPE_PERCPU_HASH as u32,
        kinds::BPF_MAP_TYPE_PERCPU_ARRAY as u32,
        kinds::BPF_MAP_TYPE_LRU_PERCPU_HASH as u32,
        kinds::BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE_DEPRECATED as u32,
    ];
    /// The kernel's `IS_FD_MAP`: whatever size they were made with.
    const OF_DESCRIPTORS: [u32; 5] = [
        kinds::BPF_MAP_TYPE_PROG_ARRAY as u32,
        kinds::BPF_MAP_TYPE_PERF_EVENT_ARRAY as u32,
        kinds::BPF_MAP_TYPE_CGROUP_ARRAY as u32,
        kinds::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32,
        kinds::BPF_MAP_TYPE_HASH_OF_MAPS as u32,
    ];
    let size = value_size as usize;
    if OF_EVERY_CPU.contains(&kind) {
        size.checked_next_multiple_of(8)?.checked_mul(cpus)
    } else if OF_DESCRIPTORS.contains(&kind) {
        Some(size_of::<u32>())
    } else {
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_has_its_value_at_a_multiple_of_eight() {
        let of_every_cpu = bpf_map_type::BPF_MAP_TYPE_PERCPU_HASH as u32;
        assert_eq!(transfer_size(of_every_cpu, 1, 3), Some(24));
        assert_eq!(transfer_size(of_every_cpu, 12, 2), Some(32));
        assert_eq!(transfer_size(bpf_map_type::BPF_MAP_TYPE_HASH as u32, 12, 2), Some(12));
        assert_eq!(transfer_size(bpf_map_type::BPF_MAP_TYPE_PROG_ARRAY as u32, 8, 2), Some(4));
        assert_eq!(transfer_size(of_every_cpu, u32::MAX, usize::MAX), None);
    }
}
