//! A policy becomes the tables that the kernel side reads ([`wasi_guard_abi::table`]).
//!
//! 1. `paths` writes the patterns of every preopen as sequences of names, once leaf first for
//!    the names automaton and once root first for the tree automaton, and merges them into a
//!    trie;
//! 2. `nfa` writes the trie as an NFA over bytes;
//! 3. `determinize` makes it deterministic, as a `machine`;
//! 4. `minimize` merges states that no input tells apart;
//! 5. `pack` joins the byte classes of both automata and lays everything out in chunks.
//!
//! The evaluator ([`mod@crate::evaluate`]) shares nothing with this but the syntax tree of patterns.

mod determinize;
mod machine;
mod minimize;
mod nfa;
mod pack;
mod paths;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use wasi_guard_abi::operation::right;
use wasi_guard_abi::table::{MAX_NET_RULES, MAX_PREOPENS, NetRule, Verdict};

pub use table::{Stats, Table, TableError};

use crate::model::{Addresses, Policy};
use crate::network::{Host, NetworkRule, canonical};
use machine::Machine;
use paths::Effect;

/// States that an automaton may have before it is minimised.
pub const MAX_WORK_STATES: usize = 400_000;
/// Positions that the sets behind those states may have together.
pub const MAX_WORK_POSITIONS: usize = 40_000_000;

/// Deny rules of a policy whose numbers the table tells apart.
pub const MAX_TOLD_DENIALS: usize = 1000;

/// Whether the policy has more than [`MAX_TOLD_DENIALS`] deny rules. Its table then says of a
/// denied name only that it is denied: a verdict's deny rule is the first of the preopen, whichever
/// it was, and [`fn@crate::evaluate::rights`] finds the one that decided. To tell thousands of
/// rules apart takes a state for almost every byte of their patterns.
pub fn joins_denials(policy: &Policy) -> bool {
    policy.preopens.iter().map(|preopen| preopen.deny.len()).sum::<usize>() > MAX_TOLD_DENIALS
}

/// Which of the two automata an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Automaton {
    /// Rights by path, read leaf first.
    Names,
    /// Equality of directories, read root first.
    Tree,
}

impl std::fmt::Display for Automaton {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Names => "names",
            Self::Tree => "tree",
        })
    }
}

/// Why a policy has no table.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// More preopens than a table holds.
    #[error("{count} preopens; a table holds {MAX_PREOPENS}")]
    Preopens {
        /// How many there are.
        count: usize,
    },
    /// More network rules than a table holds, after names became addresses.
    #[error(
        "{count} network rules once host names are resolved; a table holds {MAX_NET_RULES}. Use networks and port ranges"
    )]
    NetworkRules {
        /// How many there are.
        count: usize,
    },
    /// A host name of a network rule is not among the addresses.
    #[error("the host name `{name}` in a network rule was not resolved")]
    Unresolved {
        /// The name.
        name: String,
    },
    /// The automaton could not be made deterministic within the bounds.
    #[error(
        "the {automaton} automaton needs more than {MAX_WORK_STATES} states while it is made; use fewer patterns with several `*` in one name, or deny directories in place of the files in them"
    )]
    Determinize {
        /// Which one.
        automaton: Automaton,
    },
    /// More byte classes than a table holds.
    #[error("the automata tell too many bytes apart")]
    Classes,
    /// More states than a table holds.
    #[error(
        "the {automaton} automaton has {states} states; a table holds {limit}. Use wider patterns in place of many names, and fewer with several `*` in one name"
    )]
    States {
        /// Which one.
        automaton: Automaton,
        /// How many there are.
        states: usize,
        /// How many there may be.
        limit: usize,
    },
    /// More different verdicts than a table holds.
    #[error("{count} different verdicts; a table holds {limit}. Use fewer deny rules")]
    Verdicts {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A table of more bytes than the kernel is asked to hold.
    #[error("the table has {bytes} bytes; it may have {limit}. Use fewer, wider patterns")]
    Size {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
}

/// Compiles a policy. The same policy and addresses give the same bytes on every run.
///
/// `addresses` must have an entry for each of [`Policy::host_names`]; an empty one matches
/// nothing. The roots of the preopens are zero until [`Table::set_root`].
///
/// # Errors
/// [`CompileError`]: the policy is too large for a table, or a host name is missing.
pub fn compile(policy: &Policy, addresses: &Addresses) -> Result<Table, CompileError> {
    if policy.preopens.len() > MAX_PREOPENS {
        return Err(CompileError::Preopens { count: policy.preopens.len() });
    }
    let network = network(&policy.network, addresses)?;
    let (names, verdicts) = names_machine(policy)?;
    let names = minimize::minimize(&names);
    let tree = minimize::minimize(&tree_machine(policy)?);
    pack::pack(policy.mode, policy.preopens.len(), &names, &verdicts, &tree, &network)
}

/// The names automaton. Its outputs are rows of verdicts, one a preopen.
fn names_machine(policy: &Policy) -> Result<(Machine, Vec<Vec<Verdict>>), CompileError> {
    let trie = paths::leaf_first(&policy.preopens, joins_denials(policy));
    let (mut machine, sets) = determinize::build(Automaton::Names, &trie)?;
    let rows: Vec<Vec<Verdict>> = sets
        .iter()
        .map(|set| {
            let mut row = vec![Verdict::default(); policy.preopens.len()];
            for label in set.iter().filter_map(|label| trie.labels.get(*label)) {
                let Some(verdict) = row.get_mut(label.preopen) else { continue };
                match label.effect {
                    Effect::Grant(bit) => verdict.rights |= bit | right::STAT,
                    Effect::Deny(rule) => {
                        let first = verdict.deny_rule;
                        verdict.deny_rule = if first == 0 { rule } else { first.min(rule) };
                    }
                }
            }
            for verdict in row.iter_mut().filter(|verdict| verdict.deny_rule != 0) {
                verdict.rights = 0;
            }
            row
        })
        .collect();
    let verdicts = machine.set_outputs(&rows);
    Ok((machine, verdicts))
}

/// The tree automaton. Its outputs are the rights of the name that a `/` ends, and stand at the
/// state *before* that `/`: two directories may differ in their own rights and still be the same
/// state, because only what lies below them counts.
fn tree_machine(policy: &Policy) -> Result<Machine, CompileError> {
    let trie = paths::root_first(&policy.preopens);
    let (mut machine, sets) = determinize::build(Automaton::Tree, &trie)?;
    let rights: Vec<u16> = sets
        .iter()
        .map(|set| {
            let mut mask = 0;
            for label in set.iter().filter_map(|label| trie.labels.get(*label)) {
                match label.effect {
                    Effect::Grant(bit) => mask |= bit | right::STAT,
                    Effect::Deny(_) => return 0,
                }
            }
            mask
        })
        .collect();
    machine.set_outputs(&rights);
    machine.outputs_before_slash();
    Ok(machine)
}

fn network(rules: &[NetworkRule], addresses: &Addresses) -> Result<Vec<NetRule>, CompileError> {
    let mut out = Vec::new();
    for rule in rules {
        let mut push = |family, prefix, address| {
            out.push(NetRule {
                action: rule.action.number(),
                protocol: rule.protocol.number(),
                family,
                prefix,
                port_low: rule.port_low,
                port_high: rule.port_high,
                rule: rule.number,
                reserved: 0,
                address,
            });
        };
        match &rule.host {
            Host::Any => push(0, 0, [0; 16]),
            Host::V4 { address, prefix } => push(4, *prefix, v4_bytes(address.octets())),
            Host::V6 { address, prefix } => push(6, *prefix, address.octets()),
            Host::Name(name) => {
                let found = addresses
                    .get(name)
                    .ok_or_else(|| CompileError::Unresolved { name: name.clone() })?;
                for address in found {
                    match canonical(*address) {
                        IpAddr::V4(address) => push(4, 32, v4_bytes(address.octets())),
                        IpAddr::V6(address) => push(6, 128, address.octets()),
                    }
                }
            }
        }
    }
    if out.len() > MAX_NET_RULES {
        return Err(CompileError::NetworkRules { count: out.len() });
    }
    Ok(out)
}

fn v4_bytes(octets: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&octets);
    bytes
}
