//! The compiled policy: what `wasi-guard-policy` produces and the hooks read.
//!
//! A table is a list of [`Chunk`]s, the entries of one BPF array map. Chunk 0 is the
//! [`Header`]; three regions follow, each a whole number of chunks, at the chunk numbers that
//! the header names:
//!
//! * **names**: the automaton over a path read leaf first. Input is each component's bytes in
//!   their own order, followed by `/`, last component first (`a/b.txt` is fed as `b.txt/a/`).
//!   At the preopen the column `preopen_column + p` of the state's row holds a verdict number.
//! * **tree**: the automaton over a path read root first (`a/b.txt` is fed as `a/b.txt/`),
//!   starting in `tree_start[p]`, minimised: two directories are in the same state exactly if
//!   every name below the one has the rights of the same name below the other. Only directory
//!   moves read it.
//! * **verdicts**: [`Verdict`]s by number.
//!
//! A fourth may follow, added at the start of a guest: **links**, buckets of [`BUCKET_SLOTS`]
//! [`Linked`] files. A file is in the bucket that the low bits of its id name.
//!
//! A row has `1 << row_shift` entries of `u16`; entry `class` is the next state, where `class`
//! is the header's `class[byte]`. State 0 of each automaton is dead: no input leaves it, every
//! verdict in it is number 0, which grants nothing.

use crate::assert_layout;

/// Bytes of a chunk, the value size of the inner array map.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// `u16` entries of a chunk.
pub const CHUNK_ENTRIES: usize = CHUNK_BYTES / 2;
/// Verdicts of a chunk.
pub const CHUNK_VERDICTS: usize = CHUNK_BYTES / core::mem::size_of::<Verdict>();
/// Chunks of the largest table (64 MiB): a limit on what a policy may cost the kernel.
pub const MAX_CHUNKS: usize = 4096;
/// States of the largest automaton; a state number is a `u16`.
pub const MAX_STATES: usize = 65_535;
/// Preopens of one policy.
pub const MAX_PREOPENS: usize = 64;
/// Network rules of one policy, after names became addresses.
pub const MAX_NET_RULES: usize = 256;
/// Largest `row_shift`: 256 classes and 64 preopens fit into 512 columns.
pub const MAX_ROW_SHIFT: u32 = 9;

/// First word of a header.
pub const MAGIC: u32 = 0x5747_5442;

/// A piece of a table, aligned for everything that lies in it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Chunk(pub [u8; CHUNK_BYTES]);

/// Denials are recorded and let through.
pub const MODE_AUDIT: u32 = 1;
/// Denials are errors.
pub const MODE_ENFORCE: u32 = 2;

/// Chunk 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`crate::LAYOUT`].
    pub layout: u32,
    /// [`MODE_AUDIT`] or [`MODE_ENFORCE`].
    pub mode: u32,
    /// log2 of the entries in a row of the names automaton.
    pub row_shift: u32,
    /// log2 of the entries in a row of the tree automaton.
    pub tree_row_shift: u32,
    /// First column of the preopens in a names row.
    pub preopen_column: u32,
    /// Preopens in use.
    pub preopens: u32,
    /// Network rules in use.
    pub net_rules: u32,
    /// First chunk of the names rows.
    pub names_chunk: u32,
    /// First chunk of the tree rows.
    pub tree_chunk: u32,
    /// First chunk of the verdicts.
    pub verdict_chunk: u32,
    /// Chunks in all.
    pub chunks: u32,
    /// State in which the names automaton starts.
    pub start: u32,
    /// 1 while the worker loads compiled code and may make memory executable; else 0.
    pub loading: u32,
    /// First chunk of the linked files' buckets, 0 if there are none.
    pub links_chunk: u32,
    /// Number of buckets - 1; the number is a power of two.
    pub links_mask: u32,
    /// Zero. The programs add it to what the verifier shall not know (bpf-progs/src/walk.rs);
    /// eight bytes, so that nothing at all is known of a sum.
    pub zero: u64,
    /// Byte to class, for both automata.
    pub class: [u8; 256],
    /// State in which the tree automaton starts, by preopen.
    pub tree_start: [u16; MAX_PREOPENS],
    /// [`crate::guest::Mark::id`] of each preopen's root; filled in when the table goes into
    /// force, zero before. Never zero for a preopen in use after that.
    pub root: [u64; MAX_PREOPENS],
    /// Network rules, in the policy's order.
    pub net: [NetRule; MAX_NET_RULES],
}

assert_layout!(
    Header,
    72 + 256 + 128 + 512 + 32 * MAX_NET_RULES,
    [[u32; 16], u64, [u8; 256], [u16; MAX_PREOPENS], [u64; MAX_PREOPENS], [NetRule; MAX_NET_RULES]]
);
const _: () = assert!(core::mem::size_of::<Header>() <= CHUNK_BYTES);

/// What a name may be used for.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Verdict {
    /// Mask of [`crate::operation::right`].
    pub rights: u16,
    /// Zero.
    pub reserved: u16,
    /// Number of the first deny rule that matches, 0 if none does.
    pub deny_rule: u32,
}

assert_layout!(Verdict, 8, [u16, u16, u32]);

/// A file with several names that differ in their rights: it has what all of them have.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Linked {
    /// [`crate::guest::Mark::id`] of the file; 0 if the slot is free.
    pub id: u64,
    /// Rights that every name has, and those that do not belong to the file but to a name.
    pub rights: u16,
    /// Zero.
    pub reserved: u16,
    /// Number of the first deny rule that matches one of the names, 0 if none does.
    pub deny_rule: u32,
}

assert_layout!(Linked, 16, [u64, u16, u16, u32]);

/// Slots of a bucket.
pub const BUCKET_SLOTS: usize = 8;
/// Buckets of a chunk.
pub const CHUNK_BUCKETS: usize = CHUNK_BYTES / (BUCKET_SLOTS * core::mem::size_of::<Linked>());

/// The rule grants connect (and sending to the address).
pub const NET_CONNECT: u8 = 1;
/// The rule grants bind (and listen).
pub const NET_BIND: u8 = 2;
/// IPPROTO_TCP.
pub const PROTO_TCP: u8 = 6;
/// IPPROTO_UDP.
pub const PROTO_UDP: u8 = 17;

/// One network rule.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NetRule {
    /// [`NET_CONNECT`] or [`NET_BIND`].
    pub action: u8,
    /// [`PROTO_TCP`] or [`PROTO_UDP`].
    pub protocol: u8,
    /// 4, 6, or 0 for both (then `prefix` is 0).
    pub family: u8,
    /// Leading bits of the address that must agree.
    pub prefix: u8,
    /// Lowest port, host byte order.
    pub port_low: u16,
    /// Highest port, host byte order.
    pub port_high: u16,
    /// Number of the rule.
    pub rule: u32,
    /// Zero.
    pub reserved: u32,
    /// Address in network byte order; IPv4 in the first four bytes, the rest zero. Bits after
    /// the prefix are zero.
    pub address: [u8; 16],
}

assert_layout!(NetRule, 32, [u8, u8, u8, u8, u16, u16, u32, u32, [u8; 16]]);
