//! Per-guest and per-inode values.

use crate::assert_layout;

/// The state of a guest between creation of its cgroup and the moment its policy goes into
/// force: only objects that carry [`MARK_RUNTIME`] may be executed or opened for reading.
/// Without this flag and without a table, everything is denied.
pub const GUEST_SETUP: u32 = 1;

/// Value of the map `GUESTS`, by cgroup id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// [`GUEST_SETUP`] or 0.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Denials (in audit mode: what would have been denied).
    pub denied: u64,
    /// Records that found no room in the ring buffer.
    pub lost: u64,
    /// Denials because of an error on the kernel side ([`crate::operation::Reason::Error`]).
    pub errors: u64,
}

assert_layout!(Guest, 32, [u32, u32, u64, u64, u64]);

/// The inode is the root of a preopen of some guest.
pub const MARK_ROOT: u32 = 1;
/// The inode belongs to wasi-guard itself (its executable, the libraries it is linked with, a
/// compiled module): a worker may execute and read it while it is set up, and see its metadata
/// through the descriptor that it has, at any time.
pub const MARK_RUNTIME: u32 = 2;
/// The inode is a file with several names that differ in their rights under some guest's policy:
/// [`crate::table::Linked`].
pub const MARK_LINKED: u32 = 4;

/// Value of the inode storage `MARKS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// A number that no other marked inode of this boot has; zero for a directory that only has a
    /// place.
    pub id: u64,
    /// [`MARK_ROOT`], [`MARK_RUNTIME`], [`MARK_LINKED`]; 0 for a directory that only has a place.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Of a directory.
    pub place: Place,
}

assert_layout!(Mark, 48, [u64, u32, u32, Place]);

/// Part of a [`Mark`]: what a directory's path came to, so that the next decision
/// about a name in it need not read that path again.
///
/// Believed only while no name on the whole host was moved since (`rename_lock` in fs/dcache.c,
/// which every move of a dentry takes), for the same table, and for [`PLACE_TICKS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Odd while somebody writes to the rest. A reader that finds another number after reading
    /// than before has read nothing.
    pub version: u64,
    /// [`crate::table::Header::serial`] of the table.
    pub serial: u64,
    /// Sequence number of the kernel's `rename_lock`.
    pub renames: u32,
    /// Low half of the jiffies when it was written.
    pub ticks: u32,
    /// State of the automaton after the directory's path.
    pub state: u32,
    /// Zero.
    pub reserved: u32,
}

assert_layout!(Place, 32, [u64, u64, u32, u32, u32, u32]);

/// How long a [`Place`] is believed, in jiffies: 15 s with 1,000 of them in a second, 150 s with
/// 100. Renames are counted in 32 bits, by two each; to come back to the same count within this
/// time would take 14 million renames in each second.
pub const PLACE_TICKS: u32 = 15_000;

/// Value of the one-entry map `HOST`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostConfig {
    /// Id of the cgroup whose children are guests. A task in it or below it is guarded, with or
    /// without a policy. Zero guards nobody: the value before the first guest.
    pub parent_cgroup: u64,
    /// [`crate::LAYOUT`] of the programs that use the map.
    pub layout: u32,
    /// How many programs were attached when the maps were made: a link that is missing among the
    /// pins must not go unnoticed.
    pub programs: u32,
}

assert_layout!(HostConfig, 16, [u64, u32, u32]);
