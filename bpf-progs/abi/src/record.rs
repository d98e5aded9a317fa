//! What a hook writes into a guest's ring buffer for each denial.
//!
//! A record is variable in length: `path2`, `path1`, then [`Record`], whose fields say how many
//! bytes each path has. The header comes last because a path is read leaf first and so is
//! written from its end.

use crate::assert_layout;

/// Longest path in a record, in bytes; a longer one loses its beginning and has
/// [`FLAG_CUT`].
pub const MAX_PATH: usize = 4096;

/// A path lost its beginning.
pub const FLAG_CUT: u32 = 1;
/// The denial was only recorded (audit mode).
pub const FLAG_AUDIT: u32 = 2;
/// `path1` starts at a preopen; otherwise at the root of its file system.
pub const FLAG_UNDER1: u32 = 4;
/// `path2` starts at a preopen; otherwise at the root of its file system.
pub const FLAG_UNDER2: u32 = 8;
/// The record is about `path2`: that name was denied.
pub const FLAG_SECOND: u32 = 16;
/// The object is a directory.
pub const FLAG_DIRECTORY: u32 = 32;

/// The fixed part, at the end of a record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds of `CLOCK_BOOTTIME` (`bpf_ktime_get_boot_ns`).
    pub time: u64,
    /// Thread that made the attempt, in the initial pid namespace.
    pub thread: u32,
    /// Process of that thread.
    pub process: u32,
    /// [`crate::operation::Operation`].
    pub operation: u16,
    /// [`crate::operation::Reason`].
    pub reason: u16,
    /// Rights that were needed, of which at least one was missing.
    pub wanted: u16,
    /// Rights that the name has.
    pub rights: u16,
    /// Number of the deciding rule, 0 if no rule decided.
    pub rule: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Number of the preopen that `path1` lies under, if [`FLAG_UNDER1`].
    pub preopen1: u16,
    /// Number of the preopen that `path2` lies under, if [`FLAG_UNDER2`].
    pub preopen2: u16,
    /// Bytes of `path1`, without a leading slash. 0 with [`FLAG_UNDER1`]: the preopen itself.
    pub path1_len: u16,
    /// Bytes of `path2`.
    pub path2_len: u16,
    /// Socket operations: address family (`AF_*`), else 0.
    pub family: u16,
    /// Socket operations: port in host byte order.
    pub port: u16,
    /// Socket operations: protocol (`IPPROTO_*`).
    pub protocol: u16,
    /// Socket operations: type (`SOCK_*`).
    pub socket_type: u16,
    /// Socket operations: address in network byte order, IPv4 in the first four bytes.
    pub address: [u8; 16],
}

assert_layout!(
    Record,
    64,
    [u64, u32, u32, u16, u16, u16, u16, u32, u32, u16, u16, u16, u16, u16, u16, u16, u16, [u8; 16]]
);
