//! The compiled policy: what `wasi-guard-policy` produces and the hooks read.
//!
//! A table is a list of [`Chunk`]s, the entries of one BPF array map, read as one run of bytes.
//! It begins with the [`Header`], which says where the four regions behind it begin, each in units
//! of its own entries from the beginning of the table:
//!
//! * **rows** of the automaton, [`Header::stride`] entries of `u16` for each state;
//! * **verdicts**: [`Verdict`]s by number;
//! * **named**: buckets of [`NAMED_SLOTS`] [`Named`] names;
//! * **names**: the bytes of these names.
//!
//! The automaton reads a path root first, each name behind a `/`: `a/b.txt` is fed as `/a/b.txt`,
//! beginning in `root_state[p]`. In a state's row, entry `class` is the next state, where `class`
//! is the header's `class[byte]`; then follow four more columns:
//!
//! * `verdict_column`: the number of the verdict on the path that was read;
//! * [`BELOW_COLUMN`] behind it: two directories have equal numbers exactly if every name below
//!   the one has the rights of the same name below the other (docs/policy-reference.md says where
//!   this is more cautious than it must be);
//! * [`LIST_COLUMN`] and [`SHARED_COLUMN`] behind it: numbers of lists of names, or 0. A name that
//!   may follow and is in the first or else in the second leads on as **named** says; one that is
//!   in neither is read byte by byte.
//!
//! State 0 is dead: no input leaves it, and its verdict is number 0, which grants nothing.
//!
//! A fifth region may follow, at the start of a chunk, added when a guest starts: **links**, buckets
//! of [`BUCKET_SLOTS`] [`Linked`] files. A file is in the bucket that the low bits of its id name.

use crate::assert_layout;

/// Bytes of a chunk, the value size of the inner array map.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// `u16` entries of a chunk.
pub const CHUNK_ENTRIES: usize = CHUNK_BYTES / 2;
/// Verdicts of a chunk.
pub const CHUNK_VERDICTS: usize = CHUNK_BYTES / core::mem::size_of::<Verdict>();
/// [`Named`] names of a chunk.
pub const CHUNK_NAMED: usize = CHUNK_BYTES / core::mem::size_of::<Named>();
/// Words of names of a chunk.
pub const CHUNK_WORDS: usize = CHUNK_BYTES / 8;
/// Chunks of the largest table (64 MiB): a limit on what a policy may cost the kernel.
pub const MAX_CHUNKS: usize = 4096;
/// States of the largest automaton; a state number is a `u16`.
pub const MAX_STATES: usize = 65_535;
/// Preopens of one policy.
pub const MAX_PREOPENS: usize = 64;
/// Network rules of one policy, after names became addresses.
pub const MAX_NET_RULES: usize = 256;
/// Columns behind those of the classes.
pub const EXTRA_COLUMNS: usize = 4;
/// Column behind that of the verdict: which directories are alike.
pub const BELOW_COLUMN: u32 = 1;
/// Column behind that of the verdict: the list of names that this state has for itself.
pub const LIST_COLUMN: u32 = 2;
/// Column behind that of the verdict: the list of names that many states have in common.
pub const SHARED_COLUMN: u32 = 3;
/// Largest [`Header::stride`]: 256 classes and the columns behind them.
pub const MAX_STRIDE: usize = 256 + EXTRA_COLUMNS;

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
    /// `u16` entries of a row.
    pub stride: u32,
    /// Column of the verdict: the first behind those of the classes.
    pub verdict_column: u32,
    /// Preopens in use.
    pub preopens: u32,
    /// Network rules in use.
    pub net_rules: u32,
    /// First entry of the rows, in `u16`s.
    pub rows_at: u32,
    /// First verdict, in [`Verdict`]s.
    pub verdicts_at: u32,
    /// First bucket's first name, in [`Named`]s; 0 if there are none.
    pub named_at: u32,
    /// Number of buckets of [`NAMED_SLOTS`] - 1; the number is a power of two.
    pub named_mask: u32,
    /// First word of the names' bytes, in words of 8 bytes.
    pub names_at: u32,
    /// What [`crate::hash::seeded`] takes.
    pub named_seed: u32,
    /// Chunks in all.
    pub chunks: u32,
    /// First chunk of the linked files' buckets, 0 if there are none.
    pub links_chunk: u32,
    /// Number of buckets of [`BUCKET_SLOTS`] - 1; the number is a power of two.
    pub links_mask: u32,
    /// 1 if a preopen is on overlayfs, which does what was judged once more to the files of its
    /// layers, as whoever mounted it (bpf-progs/src/layers.rs); else 0.
    pub overlay: u32,
    /// Zero.
    pub reserved: u32,
    /// A random number, of this table alone: what directories remember of a decision
    /// ([`crate::guest::Place`]) is about the table with this number. Filled in when the table
    /// goes into force, zero before.
    pub serial: u64,
    /// Zero. The programs add it to what the verifier shall not know (bpf-progs/src/walk.rs);
    /// eight bytes, so that nothing at all is known of a sum.
    pub zero: u64,
    /// Byte to class.
    pub class: [u8; 256],
    /// State in which the automaton starts, by preopen: the state of the preopen's root.
    pub root_state: [u16; MAX_PREOPENS],
    /// [`crate::guest::Mark::id`] of each preopen's root; filled in when the table goes into
    /// force, zero before. Never zero for a preopen in use after that.
    pub root: [u64; MAX_PREOPENS],
    /// Network rules, in the policy's order.
    pub net: [NetRule; MAX_NET_RULES],
}

assert_layout!(
    Header,
    88 + 256 + 128 + 512 + 32 * MAX_NET_RULES,
    [
        [u32; 18],
        [u64; 2],
        [u8; 256],
        [u16; MAX_PREOPENS],
        [u64; MAX_PREOPENS],
        [NetRule; MAX_NET_RULES]
    ]
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
    /// Number of the deny rule that decides, 0 if none does.
    pub deny_rule: u32,
}

assert_layout!(Verdict, 8, [u16, u16, u32]);

/// A name of a list, and where it leads.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Named {
    /// High half of the hash ([`crate::hash::step`]). No two names of a bucket have the same one.
    pub tag: u32,
    /// Where its bytes are: words from [`Header::names_at`]. They end with a zero byte and are
    /// padded with more to a whole word. 0 if the slot is free.
    pub word: u32,
    /// Number of the list.
    pub list: u16,
    /// State after the name.
    pub to: u16,
    /// Zero.
    pub reserved: u32,
}

assert_layout!(Named, 16, [u32, u32, u16, u16, u32]);

/// Names of a bucket.
pub const NAMED_SLOTS: usize = 8;

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

/// Slots of a bucket of links.
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
