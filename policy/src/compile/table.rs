//! The bytes of a compiled policy, and a reader of them in safe Rust.
//!
//! The reader does exactly what the hooks do, so that tests can hold the bytes against the
//! evaluator without a kernel.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasi_guard_abi::{
    hash,
    table::{
        BELOW_COLUMN, BUCKET_SLOTS, CHUNK_BUCKETS, CHUNK_BYTES, Header, LIST_COLUMN, Linked,
        MAX_CHUNKS, MAX_PREOPENS, NAMED_SLOTS, Named, NetRule, SHARED_COLUMN, Verdict,
    },
};

use super::named;
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
    /// States of the automaton, the dead one included.
    pub states: usize,
    /// Bytes of its rows.
    pub rows_bytes: usize,
    /// Byte classes.
    pub classes: usize,
    /// Different verdicts, the empty one included.
    pub verdicts: usize,
    /// Bytes of these.
    pub verdict_bytes: usize,
    /// Names that are found by a hash in place of their bytes.
    pub names: usize,
    /// Bytes of these and of the hash.
    pub names_bytes: usize,
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

    /// Gives the table a number that no other table of this boot has.
    pub fn set_serial(&mut self, serial: u64) {
        let at = offset_of!(Header, serial);
        self.bytes[at..at + 8].copy_from_slice(&serial.to_ne_bytes());
    }

    /// Says whether a preopen is on overlayfs; at first none is.
    pub fn set_overlay(&mut self, overlay: bool) {
        let at = offset_of!(Header, overlay);
        self.bytes[at..at + 4].copy_from_slice(&u32::from(overlay).to_ne_bytes());
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
        let number = self.entry(self.state(preopen, components), self.verdict_column());
        let at = (self.word(offset_of!(Header, verdicts_at)) + number) * size_of::<Verdict>();
        Verdict {
            rights: u16::from_ne_bytes(self.array(at + offset_of!(Verdict, rights))),
            reserved: u16::from_ne_bytes(self.array(at + offset_of!(Verdict, reserved))),
            deny_rule: u32::from_ne_bytes(self.array(at + offset_of!(Verdict, deny_rule))),
        }
    }

    /// What holds below a directory, as a number. If it is the same for two directories, every name
    /// below the one has the rights of the same name below the other.
    pub fn below(&self, preopen: usize, components: &[&[u8]]) -> u16 {
        let column = self.verdict_column() + BELOW_COLUMN as usize;
        self.entry(self.state(preopen, components), column) as u16
    }

    /// The state after the path; the dead one for a preopen that is not there.
    fn state(&self, preopen: usize, components: &[&[u8]]) -> usize {
        if preopen >= self.preopens() {
            return 0;
        }
        let start = self.array(offset_of!(Header, root_state) + 2 * preopen);
        let mut state = usize::from(u16::from_ne_bytes(start));
        for name in components {
            state = self.step(state, b'/');
            state = match self.named(state, name) {
                Some(to) => to,
                None => name.iter().fold(state, |state, byte| self.step(state, *byte)),
            };
        }
        state
    }

    /// The state to which `name` as a whole leads.
    fn named(&self, from: usize, name: &[u8]) -> Option<usize> {
        let words = named::words(name);
        let hash = named::hash(self.word(offset_of!(Header, named_seed)) as u32, &words);
        [LIST_COLUMN, SHARED_COLUMN]
            .map(|column| self.entry(from, self.verdict_column() + column as usize))
            .into_iter()
            .filter(|list| *list != 0)
            .find_map(|list| self.listed(list, hash::step(hash, list as u64), &words))
    }

    fn listed(&self, list: usize, hash: u64, words: &[u64]) -> Option<usize> {
        let bucket = hash as usize & self.word(offset_of!(Header, named_mask));
        let first = self.word(offset_of!(Header, named_at)) + bucket * NAMED_SLOTS;
        let names_at = self.word(offset_of!(Header, names_at));
        (first..first + NAMED_SLOTS).map(|slot| slot * size_of::<Named>()).find_map(|at| {
            let word = self.word(at + offset_of!(Named, word));
            let same = word != 0
                && self.word(at + offset_of!(Named, tag)) as u64 == hash >> 32
                && self.half(at + offset_of!(Named, list)) == list
                && (names_at + word..)
                    .zip(words)
                    .all(|(at, word)| u64::from_le_bytes(self.array(8 * at)) == *word);
            same.then(|| self.half(at + offset_of!(Named, to)))
        })
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

    fn verdict_column(&self) -> usize {
        self.word(offset_of!(Header, verdict_column))
    }

    fn step(&self, state: usize, byte: u8) -> usize {
        let class = self.bytes[offset_of!(Header, class) + usize::from(byte)];
        self.entry(state, usize::from(class))
    }

    fn entry(&self, state: usize, column: usize) -> usize {
        let (rows, stride) =
            (self.word(offset_of!(Header, rows_at)), self.word(offset_of!(Header, stride)));
        self.half(2 * (rows + state * stride + column))
    }

    fn half(&self, at: usize) -> usize {
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
