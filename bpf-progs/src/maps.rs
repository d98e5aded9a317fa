//! Every map. Names are at most 15 bytes, the kernel's limit.

use aya_ebpf::{
    btf_maps::{Array, HashMap, HashOfMaps, InodeStorage, RingBuf},
    macros::btf_map,
};
use wasi_guard_abi::{
    MAX_GUESTS,
    guest::{Guest, HostConfig, Mark},
    record::{MAX_PATH, Record},
    table::Chunk,
};

/// `BPF_F_INNER_MAP` (uapi/linux/bpf.h): inner arrays may differ in their number of entries.
const INNER_MAP: usize = 1 << 12;
/// Of the inner ring buffers only the type matters here; sizes differ by policy.
const TEMPLATE_RING_BYTES: usize = 4096;

/// One policy table.
pub(crate) type Table = Array<Chunk, 1, INNER_MAP>;
/// One guest's records.
pub(crate) type Ring = RingBuf<u64, TEMPLATE_RING_BYTES>;

/// Which cgroup's children are guests.
#[btf_map]
pub(crate) static HOST: Array<HostConfig, 1> = Array::new();

/// Guests by cgroup id: state before the policy is in force, and counters.
#[btf_map]
pub(crate) static GUESTS: HashMap<u64, Guest, { MAX_GUESTS as usize }> = HashMap::new();

/// Policy tables by cgroup id. A guest is armed by its entry here, in one step.
#[btf_map]
pub(crate) static TABLES: HashOfMaps<u64, Table, { MAX_GUESTS as usize }> = HashOfMaps::new();

/// Ring buffers by cgroup id.
#[btf_map]
pub(crate) static RINGS: HashOfMaps<u64, Ring, { MAX_GUESTS as usize }> = HashOfMaps::new();

/// Guests by cgroup id whose workers still load compiled code.
#[btf_map]
pub(crate) static LOADING: HashMap<u64, u32, { MAX_GUESTS as usize }> = HashMap::new();

/// Roots of preopens, files of the runtime, files with several names, places of directories.
#[btf_map]
pub(crate) static MARKS: InodeStorage<Mark> = InodeStorage::new();

/// Where paths of a record are put together: the header's end is the end of the record.
pub(crate) const PATHS_END: usize = 2 * MAX_PATH;
/// Room behind the header that nothing uses: the verifier bounds a position and a length each by
/// itself, and the largest of both must still lie inside.
const SLACK: usize = PATHS_END;

/// A buffer in use by one program run at a time. Not per CPU: programs may be preempted, and
/// another run on the same CPU would write into the same buffer.
#[repr(C, align(8))]
pub(crate) struct Scratch {
    pub(crate) busy: u64,
    /// Always zero.
    pub(crate) zero: u32,
    _reserved: u32,
    pub(crate) bytes: [u8; PATHS_END + size_of::<Record>() + SLACK],
}

/// How many runs may build a record at the same time; one more loses its record (counted).
pub(crate) const SCRATCHES: u32 = 32;

#[btf_map]
pub(crate) static SCRATCH: Array<Scratch, { SCRATCHES as usize }> = Array::new();
