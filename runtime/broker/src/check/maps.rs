//! Which maps a guest may have, and what they cost.

use super::Denied;
use crate::image::Map;

/// `enum bpf_map_type`, as numbers.
pub(crate) mod kind {
    use aya_obj::generated::bpf_map_type as kinds;

    pub(crate) const HASH: u32 = kinds::BPF_MAP_TYPE_HASH as u32;
    pub(crate) const ARRAY: u32 = kinds::BPF_MAP_TYPE_ARRAY as u32;
    pub(crate) const PROG_ARRAY: u32 = kinds::BPF_MAP_TYPE_PROG_ARRAY as u32;
    pub(crate) const PERF_EVENT_ARRAY: u32 = kinds::BPF_MAP_TYPE_PERF_EVENT_ARRAY as u32;
    pub(crate) const PERCPU_HASH: u32 = kinds::BPF_MAP_TYPE_PERCPU_HASH as u32;
    pub(crate) const PERCPU_ARRAY: u32 = kinds::BPF_MAP_TYPE_PERCPU_ARRAY as u32;
    pub(crate) const STACK_TRACE: u32 = kinds::BPF_MAP_TYPE_STACK_TRACE as u32;
    pub(crate) const CGROUP_ARRAY: u32 = kinds::BPF_MAP_TYPE_CGROUP_ARRAY as u32;
    pub(crate) const LRU_HASH: u32 = kinds::BPF_MAP_TYPE_LRU_HASH as u32;
    pub(crate) const LRU_PERCPU_HASH: u32 = kinds::BPF_MAP_TYPE_LRU_PERCPU_HASH as u32;
    pub(crate) const LPM_TRIE: u32 = kinds::BPF_MAP_TYPE_LPM_TRIE as u32;
    pub(crate) const ARRAY_OF_MAPS: u32 = kinds::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32;
    pub(crate) const HASH_OF_MAPS: u32 = kinds::BPF_MAP_TYPE_HASH_OF_MAPS as u32;
    pub(crate) const QUEUE: u32 = kinds::BPF_MAP_TYPE_QUEUE as u32;
    pub(crate) const STACK: u32 = kinds::BPF_MAP_TYPE_STACK as u32;
    pub(crate) const RINGBUF: u32 = kinds::BPF_MAP_TYPE_RINGBUF as u32;
    pub(crate) const BLOOM_FILTER: u32 = kinds::BPF_MAP_TYPE_BLOOM_FILTER as u32;
}

/// Flags that concern nobody but the object itself: `BPF_F_NO_PREALLOC`, `_NO_COMMON_LRU`,
/// `_RDONLY`, `_WRONLY`, `_STACK_BUILD_ID`, `_ZERO_SEED`, `_RDONLY_PROG`, `_WRONLY_PROG`,
/// `_MMAPABLE`, `_PRESERVE_ELEMS`, `_INNER_MAP`. Not: `_NUMA_NODE`, `_CLONE`, and all that name
/// something outside.
const FLAGS: u32 = 0x1dfb;

/// What the kernel keeps beside key and value, roughly: for an entry of a hash table
/// (`struct htab_elem`, kernel/bpf/hashtab.c), and for a map.
const ENTRY: u64 = 64;
const MAP: u64 = 4096;
/// Bytes of the buffers of a perf event array, for each processor: 64 pages and one.
const PERF_BUFFER: u64 = 65 * 4096;

/// Checks a map and answers what it costs.
///
/// # Errors
/// What no map of a guest's may be.
pub(super) fn check(map: &Map, untyped: bool, processors: u64) -> Result<u64, Denied> {
    let never = |what: String| Err(Denied::Never { program: None, what });
    if map.pinned {
        return never(format!("the map `{}`, which wants to be pinned", map.name));
    }
    if map.flags & !FLAGS != 0 {
        return never(format!("the map `{}` with the flags {:#x}", map.name, map.flags));
    }
    let malformed = |what: &str| Err(Denied::Malformed(format!("map `{}`: {what}", map.name)));
    if untyped && (map.btf_key != 0 || map.btf_value != 0) {
        return malformed("its types are not there");
    }
    if !map.data.is_empty() {
        let whole = map.kind == kind::ARRAY
            && map.key_size == 4
            && map.max_entries == 1
            && map.data.len() == map.value_size as usize;
        if !whole {
            return malformed("it has a value from the beginning, and is no section");
        }
    }
    let of_maps = matches!(map.kind, kind::ARRAY_OF_MAPS | kind::HASH_OF_MAPS);
    match &map.inner {
        Some(inner) if of_maps && inner.inner.is_none() && inner.data.is_empty() => {
            check(inner, untyped, processors)?;
        }
        None if !of_maps => {}
        _ => return malformed("what maps are in it is not said, or is said of one that has none"),
    }
    match bytes(map, processors) {
        Some(bytes) => Ok(bytes),
        None => never(format!("the map `{}` of the kind {}", map.name, map.kind)),
    }
}

/// What a map costs the host at most, in bytes, as [`Bpf::map_bytes`](wasi_guard_policy::bpf::Bpf)
/// counts it; `None` for kinds that no guest may have. `processors`: how many there can be.
#[must_use]
pub fn bytes(map: &Map, processors: u64) -> Option<u64> {
    let round = |bytes: u32| u64::from(bytes).next_multiple_of(8);
    let (key, value, entries) =
        (round(map.key_size), round(map.value_size), u64::from(map.max_entries));
    let each = match map.kind {
        kind::HASH | kind::LRU_HASH | kind::LPM_TRIE => {
            ENTRY.checked_add(key)?.checked_add(value)?
        }
        kind::PERCPU_HASH | kind::LRU_PERCPU_HASH => {
            ENTRY.checked_add(key)?.checked_add(value.checked_mul(processors)?)?
        }
        kind::ARRAY | kind::STACK_TRACE | kind::QUEUE | kind::STACK => value,
        kind::PERCPU_ARRAY => value.checked_mul(processors)?,
        kind::RINGBUF => 1,
        kind::PROG_ARRAY | kind::CGROUP_ARRAY => 8,
        kind::HASH_OF_MAPS => ENTRY.checked_add(key)?,
        kind::ARRAY_OF_MAPS => 8,
        // Two bytes an entry are more than its bits need.
        kind::BLOOM_FILTER => 2,
        kind::PERF_EVENT_ARRAY => {
            return MAP.checked_add(processors.checked_mul(PERF_BUFFER)?);
        }
        _ => return None,
    };
    MAP.checked_add(each.checked_mul(entries)?)
}
