//! The bytes of a compiled policy, and a reader of them in safe Rust.
//!
//! The reader does exactly what the hooks do, so that tests can hold the bytes against the
//! evaluator without a kernel.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasi_guard_abi::table::{
    BUCKET_SLOTS, CHUNK_BUCKETS, CHUNK_BYTES, Header, Linked, MAX_CHUNKS, MAX_PREOPENS, NetRule,
    Verdict,
};

use crate::network::{Action, Protocol, canonical, mask32, mask128};

/// A compiled policy: the entries of one BPF array map.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    bytes: Vec<u8>,
    stats: Stats,
}

/// Sizes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// States of the names automaton, the dead one included.
    pub names_states: usize,
    /// Bytes of its rows.
    pub names_bytes: usize,
    /// States of the tree automaton, the dead one included.
    pub tree_states: usize,
    /// Bytes of its rows.
    pub tree_bytes: usize,
    /// Byte classes.
    pub classes: usize,
    /// Different verdicts, the empty one included.
    pub verdicts: usize,
    /// Bytes of these.
    pub verdict_bytes: usize,
    /// Network rules, after names became addresses.
    pub network_rules: usize,
    /// Chunks of [`CHUNK_BYTES`].
    pub chunks: usize,
    /// Bytes in all.
    pub bytes: usize,
}

/// A preopen that the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table has {preopens} preopens, and none with index {index}")]
pub struct TableError {
    /// The index that was asked for.
    pub index: usize,
    /// How many there are.
    pub preopens: usize,
}

/// More files with several names than a table can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} files with several names do not fit into a table of {MAX_CHUNKS} chunks")]
pub struct TooManyLinks(pub usize);

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Table {
    pub(super) fn new(bytes: Vec<u8>, stats: Stats) -> Self {
        Self { bytes, stats }
    }

    /// Everything, chunk after chunk; the length is a multiple of [`CHUNK_BYTES`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The chunks in order: entry `n` of the map is the `n`th.
    pub fn chunks(&self) -> &[[u8; CHUNK_BYTES]] {
        self.bytes.as_chunks().0
    }

    /// Sizes.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Sets the id of the mark ([`wasi_guard_abi::guest::Mark::id`]) on the root of a preopen.
    ///
    /// # Errors
    /// The table has no such preopen.
    pub fn set_root(&mut self, preopen: usize, id: u64) -> Result<(), TableError> {
        let preopens = self.preopens();
        if preopen >= preopens.min(MAX_PREOPENS) {
            return Err(TableError { index: preopen, preopens });
        }
        let at = offset_of!(Header, root) + 8 * preopen;
        self.bytes[at..at + 8].copy_from_slice(&id.to_ne_bytes());
        Ok(())
    }

    /// Whether the worker still loads compiled code and may make memory executable; at first not.
    pub fn set_loading(&mut self, loading: bool) {
        let at = offset_of!(Header, loading);
        self.bytes[at..at + 4].copy_from_slice(&u32::from(loading).to_ne_bytes());
    }

    /// The id set by [`Table::set_root`], 0 before.
    pub fn root(&self, preopen: usize) -> u64 {
        if preopen >= self.preopens() {
            return 0;
        }
        u64::from_ne_bytes(self.array(offset_of!(Header, root) + 8 * preopen))
    }

    /// How many preopens there are.
    pub fn preopens(&self) -> usize {
        self.word(offset_of!(Header, preopens))
    }

    /// Sets what files with several names have in common, in place of what was set before. The ids
    /// are random numbers, each there once, and not zero.
    ///
    /// # Errors
    /// There are too many.
    pub fn set_links(&mut self, links: &[Linked]) -> Result<(), TooManyLinks> {
        const BUCKET_BYTES: usize = BUCKET_SLOTS * size_of::<Linked>();
        let old = self.word(offset_of!(Header, links_chunk));
        let first = if old == 0 { self.bytes.len() / CHUNK_BYTES } else { old };
        self.bytes.truncate(first * CHUNK_BYTES);
        let mut buckets = (links.len() / 2).next_power_of_two();
        let region = loop {
            let chunks = buckets.div_ceil(CHUNK_BUCKETS);
            if links.is_empty() || first + chunks > MAX_CHUNKS {
                break None;
            }
            let mut region = vec![0; chunks * CHUNK_BYTES];
            let fits = links.iter().all(|linked| {
                let at = (linked.id as usize & (buckets - 1)) * BUCKET_BYTES;
                let bucket = &mut region[at..at + BUCKET_BYTES];
                let (slots, _) = bucket.as_chunks_mut::<{ size_of::<Linked>() }>();
                let free = slots.iter_mut().find(|slot| slot[..8] == [0; 8]);
                free.map(|slot| {
                    slot[..8].copy_from_slice(&linked.id.to_ne_bytes());
                    slot[8..10].copy_from_slice(&linked.rights.to_ne_bytes());
                    slot[12..].copy_from_slice(&linked.deny_rule.to_ne_bytes());
                })
                .is_some()
            });
            if fits {
                break Some(region);
            }
            buckets *= 2;
        };
        if region.is_none() && !links.is_empty() {
            return Err(TooManyLinks(links.len()));
        }
        let there = region.is_some();
        self.bytes.extend(region.unwrap_or_default());
        let chunks = self.bytes.len() / CHUNK_BYTES;
        for (at, value) in [
            (offset_of!(Header, links_chunk), if there { first } else { 0 }),
            (offset_of!(Header, links_mask), if there { buckets - 1 } else { 0 }),
            (offset_of!(Header, chunks), chunks),
        ] {
            self.bytes[at..at + 4].copy_from_slice(&(value as u32).to_ne_bytes());
        }
        self.stats.chunks = chunks;
        self.stats.bytes = self.bytes.len();
        Ok(())
    }

    /// What the file with this id has in common under all its names, if it is one of
    /// [`Table::set_links`].
    pub fn link(&self, id: u64) -> Option<Linked> {
        let chunk = self.word(offset_of!(Header, links_chunk));
        let bucket = id as usize & self.word(offset_of!(Header, links_mask));
        let at = chunk * CHUNK_BYTES + bucket * BUCKET_SLOTS * size_of::<Linked>();
        (0..if chunk == 0 { 0 } else { BUCKET_SLOTS })
            .map(|slot| at + slot * size_of::<Linked>())
            .map(|at| Linked {
                id: u64::from_ne_bytes(self.array(at)),
                rights: u16::from_ne_bytes(self.array(at + 8)),
                reserved: 0,
                deny_rule: u32::from_ne_bytes(self.array(at + 12)),
            })
            .find(|linked| linked.id == id)
    }

    /// The verdict of a name: its components from the preopen down, without `/`.
    pub fn rights(&self, preopen: usize, components: &[&[u8]]) -> Verdict {
        if preopen >= self.preopens() {
            return Verdict::default();
        }
        let chunk = self.word(offset_of!(Header, names_chunk));
        let shift = self.word(offset_of!(Header, row_shift));
        let mut state = self.word(offset_of!(Header, start));
        for name in components.iter().rev() {
            state = self.feed(chunk, shift, state, name);
        }
        let column = self.word(offset_of!(Header, preopen_column)) + preopen;
        let number = self.entry(chunk, shift, state, column);
        let at = self.word(offset_of!(Header, verdict_chunk)) * CHUNK_BYTES
            + number * size_of::<Verdict>();
        Verdict {
            rights: u16::from_ne_bytes(self.array(at + offset_of!(Verdict, rights))),
            reserved: u16::from_ne_bytes(self.array(at + offset_of!(Verdict, reserved))),
            deny_rule: u32::from_ne_bytes(self.array(at + offset_of!(Verdict, deny_rule))),
        }
    }

    /// The state of a directory in the tree automaton. Two directories are in the same state
    /// exactly if every name below the one has the rights of the same name below the other.
    pub fn tree_state(&self, preopen: usize, components: &[&[u8]]) -> u16 {
        if preopen >= self.preopens() {
            return 0;
        }
        let chunk = self.word(offset_of!(Header, tree_chunk));
        let shift = self.word(offset_of!(Header, tree_row_shift));
        let start = self.array(offset_of!(Header, tree_start) + 2 * preopen);
        let mut state = usize::from(u16::from_ne_bytes(start));
        for name in components {
            state = self.feed(chunk, shift, state, name);
        }
        state as u16
    }

    /// The number of the first network rule that grants the use of an address, 0 if none does.
    pub fn network_rule(
        &self,
        action: Action,
        protocol: Protocol,
        address: IpAddr,
        port: u16,
    ) -> u32 {
        let address = match (action, canonical(address)) {
            // Connecting to "any address" reaches this host.
            (Action::Connect, IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.into(),
            (Action::Connect, IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.into(),
            (_, address) => address,
        };
        self.network_rules()
            .find(|rule| {
                rule.action == action.number()
                    && rule.protocol == protocol.number()
                    && (rule.port_low..=rule.port_high).contains(&port)
                    && covers(rule, address)
            })
            .map_or(0, |rule| rule.rule)
    }

    /// The network rules, in order.
    pub fn network_rules(&self) -> impl Iterator<Item = NetRule> + '_ {
        (0..self.word(offset_of!(Header, net_rules))).map(|index| {
            let at = offset_of!(Header, net) + size_of::<NetRule>() * index;
            let byte = |offset: usize| self.bytes[at + offset];
            NetRule {
                action: byte(offset_of!(NetRule, action)),
                protocol: byte(offset_of!(NetRule, protocol)),
                family: byte(offset_of!(NetRule, family)),
                prefix: byte(offset_of!(NetRule, prefix)),
                port_low: u16::from_ne_bytes(self.array(at + offset_of!(NetRule, port_low))),
                port_high: u16::from_ne_bytes(self.array(at + offset_of!(NetRule, port_high))),
                rule: u32::from_ne_bytes(self.array(at + offset_of!(NetRule, rule))),
                reserved: u32::from_ne_bytes(self.array(at + offset_of!(NetRule, reserved))),
                address: self.array(at + offset_of!(NetRule, address)),
            }
        })
    }

    fn feed(&self, chunk: usize, shift: usize, state: usize, name: &[u8]) -> usize {
        name.iter().chain(b"/").fold(state, |state, byte| {
            let class = self.bytes[offset_of!(Header, class) + usize::from(*byte)];
            self.entry(chunk, shift, state, usize::from(class))
        })
    }

    fn entry(&self, chunk: usize, shift: usize, state: usize, column: usize) -> usize {
        let at = chunk * CHUNK_BYTES + 2 * ((state << shift) + column);
        usize::from(u16::from_ne_bytes(self.array(at)))
    }

    fn word(&self, at: usize) -> usize {
        u32::from_ne_bytes(self.array(at)) as usize
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}

fn covers(rule: &NetRule, address: IpAddr) -> bool {
    match (rule.family, address) {
        (0, _) => true,
        (4, IpAddr::V4(address)) => {
            let [a, b, c, d, ..] = rule.address;
            u32::from(address) & mask32(rule.prefix) == u32::from_be_bytes([a, b, c, d])
        }
        (6, IpAddr::V6(address)) => {
            u128::from(address) & mask128(rule.prefix) == u128::from_be_bytes(rule.address)
        }
        _ => false,
    }
}
