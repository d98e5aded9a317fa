//! A policy becomes the tables that the kernel side reads ([`wasi_guard_abi::table`]).
//!
//! 1. `paths` writes the patterns of every preopen as sequences of names and merges them into a
//!    trie;
//! 2. `nfa` writes the trie as an NFA over bytes; of many plain names in one directory only a list;
//! 3. `determinize` makes it deterministic, as a `machine`;
//! 4. `minimize` merges states that no input tells apart, and finds directories that are alike;
//! 5. `pack` lays everything out in chunks, with `named` for the lists.
//!
//! The evaluator ([`mod@crate::evaluate`]) shares nothing with this but the syntax tree of patterns.

mod determinize;
mod machine;
mod minimize;
mod named;
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
        "the automaton needs more than {MAX_WORK_STATES} states while it is made; use fewer patterns with several `*` in one name, or deny directories in place of the files in them"
    )]
    Determinize,
    /// More byte classes than a table holds.
    #[error("the automaton tells too many bytes apart")]
    Classes,
    /// More states than a table holds.
    #[error(
        "the automaton has {states} states; a table holds {limit}. Use fewer patterns that begin with `**`, and fewer with several `*` in one name"
    )]
    States {
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
    /// More lists of plain names than a table holds.
    #[error(
        "{count} lists of plain names; a table holds 65535. Use wider patterns in place of some"
    )]
    Lists {
        /// How many there are.
        count: usize,
    },
    /// The names could not be laid out.
    #[error(
        "{count} plain names do not find places in a table. Use wider patterns in place of some"
    )]
    Names {
        /// How many there are.
        count: usize,
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
    let (machine, verdicts) = machine(policy)?;
    let machine = minimize::minimize(machine);
    pack::pack(policy.mode, &machine, &verdicts, &network)
}

/// The automaton. Its outputs are verdicts, and stand at the state *before* the `/` that ends a
/// name: what a directory may be used for is not what counts below it.
fn machine(policy: &Policy) -> Result<(Machine, Vec<Verdict>), CompileError> {
    let trie = paths::trie(&policy.preopens);
    let (mut machine, sets) = determinize::build(&trie)?;
    let verdicts: Vec<Verdict> = sets
        .iter()
        .map(|set| {
            let mut verdict = Verdict::default();
            for label in set.iter().filter_map(|label| trie.labels.get(*label)) {
                match *label {
                    Effect::Grant(bit) => verdict.rights |= bit | right::STAT,
                    Effect::Deny(rule) => {
                        let first = verdict.deny_rule;
                        verdict.deny_rule = if first == 0 { rule } else { first.min(rule) };
                    }
                }
            }
            if verdict.deny_rule != 0 {
                verdict.rights = 0;
            }
            verdict
        })
        .collect();
    let verdicts = machine.set_outputs(&verdicts);
    machine.outputs_before_slash();
    Ok((machine, verdicts))
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
