//! The bytes of a compiled policy, and a reader of them in safe Rust.
//!
//! The reader does exactly what the hooks do, so that tests can hold the bytes against the
//! evaluator without a kernel.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasi_guard_abi::table::{CHUNK_BYTES, Header, MAX_PREOPENS, NetRule, Verdict};

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
    /// States of the tree automaton, the dead one included.
    pub tree_states: usize,
    /// Byte classes.
    pub classes: usize,
    /// Different verdicts, the empty one included.
    pub verdicts: usize,
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
