//! Two automata, verdicts and network rules as the chunks of one table.

use std::collections::HashMap;
use std::mem::offset_of;

use wasi_guard_abi::LAYOUT;
use wasi_guard_abi::table::{
    CHUNK_BYTES, CHUNK_ENTRIES, Header, MAGIC, MAX_CHUNKS, MAX_STATES, MODE_AUDIT, MODE_ENFORCE,
    NetRule, Verdict,
};

use super::CompileError;
use super::machine::Machine;
use super::table::{Stats, Table};
use crate::model::Mode;

/// A state or verdict number is a `u16`.
const MAX_VERDICTS: usize = 1 << 16;

/// `verdicts`: for each output of the names automaton the verdict of each preopen.
pub(super) fn pack(
    mode: Mode,
    preopens: usize,
    names: &Machine,
    verdicts: &[Vec<Verdict>],
    tree: &Machine,
    network: &[NetRule],
) -> Result<Table, CompileError> {
    for machine in [names, tree] {
        if machine.states() > MAX_STATES {
            return Err(CompileError::States {
                automaton: machine.automaton,
                states: machine.states(),
                limit: MAX_STATES,
            });
        }
    }
    let classes = Classes::of(names, tree)?;
    let (numbers, rows) = number_verdicts(names, verdicts, preopens)?;

    let row_shift = shift(classes.count + preopens);
    let tree_row_shift = shift(classes.count);
    let region = |entries: usize| entries.div_ceil(CHUNK_ENTRIES);
    let names_chunk = 1;
    let tree_chunk = names_chunk + region(names.states() << row_shift);
    let verdict_chunk = tree_chunk + region(tree.states() << tree_row_shift);
    let chunks = verdict_chunk + (numbers.len() * size_of::<Verdict>()).div_ceil(CHUNK_BYTES);
    if chunks > MAX_CHUNKS {
        return Err(CompileError::Size {
            bytes: chunks * CHUNK_BYTES,
            limit: MAX_CHUNKS * CHUNK_BYTES,
        });
    }

    let mut bytes = Bytes(vec![0; chunks * CHUNK_BYTES]);
    header_numbers(
        &mut bytes,
        [
            (offset_of!(Header, magic), MAGIC as usize),
            (offset_of!(Header, layout), LAYOUT as usize),
            (
                offset_of!(Header, mode),
                match mode {
                    Mode::Enforce => MODE_ENFORCE,
                    Mode::Audit => MODE_AUDIT,
                } as usize,
            ),
            (offset_of!(Header, row_shift), row_shift),
            (offset_of!(Header, tree_row_shift), tree_row_shift),
            (offset_of!(Header, preopen_column), classes.count),
            (offset_of!(Header, preopens), preopens),
            (offset_of!(Header, net_rules), network.len()),
            (offset_of!(Header, names_chunk), names_chunk),
            (offset_of!(Header, tree_chunk), tree_chunk),
            (offset_of!(Header, verdict_chunk), verdict_chunk),
            (offset_of!(Header, chunks), chunks),
            (offset_of!(Header, start), names.starts.first().map_or(0, |start| *start as usize)),
        ],
    );
    bytes.put(offset_of!(Header, class), &classes.class);
    for (index, start) in tree.starts.iter().enumerate() {
        bytes.put(offset_of!(Header, tree_start) + 2 * index, &(*start as u16).to_ne_bytes());
    }
    for (index, rule) in network.iter().enumerate() {
        put_net_rule(&mut bytes, offset_of!(Header, net) + size_of::<NetRule>() * index, rule);
    }

    for (state, row) in rows.iter().enumerate() {
        let at = names_chunk * CHUNK_BYTES + 2 * (state << row_shift);
        put_row(&mut bytes, at, names, state, &classes);
        for (preopen, verdict) in row.iter().enumerate() {
            bytes.put(at + 2 * (classes.count + preopen), &verdict.to_ne_bytes());
        }
    }
    for state in 0..tree.states() {
        let at = tree_chunk * CHUNK_BYTES + 2 * (state << tree_row_shift);
        put_row(&mut bytes, at, tree, state, &classes);
    }
    for (number, verdict) in numbers.iter().enumerate() {
        let at = verdict_chunk * CHUNK_BYTES + size_of::<Verdict>() * number;
        bytes.put(at + offset_of!(Verdict, rights), &verdict.rights.to_ne_bytes());
        bytes.put(at + offset_of!(Verdict, deny_rule), &verdict.deny_rule.to_ne_bytes());
    }
    let stats = Stats {
        names_states: names.states(),
        names_bytes: 2 * (names.states() << row_shift),
        tree_states: tree.states(),
        tree_bytes: 2 * (tree.states() << tree_row_shift),
        classes: classes.count,
        verdicts: numbers.len(),
        verdict_bytes: numbers.len() * size_of::<Verdict>(),
        network_rules: network.len(),
        chunks,
        bytes: bytes.0.len(),
    };
    Ok(Table::new(bytes.0, stats))
}

/// log2 of the entries of a row with so many columns.
fn shift(columns: usize) -> usize {
    columns.next_power_of_two().trailing_zeros() as usize
}

/// Byte classes for both automata: bytes that lead to the same state from every state of both
/// are one class.
struct Classes {
    class: [u8; 256],
    count: usize,
    /// A byte of each class.
    members: Vec<u8>,
}

impl Classes {
    fn of(names: &Machine, tree: &Machine) -> Result<Self, CompileError> {
        let mut class = [0; 256];
        let mut members: Vec<u8> = Vec::new();
        // Most bytes agree already in the classes of both; only one of each is looked at.
        let mut by_pair: HashMap<(u8, u8), u8> = HashMap::new();
        let mut by_column: HashMap<Vec<u32>, u8> = HashMap::new();
        for byte in 0..=u8::MAX {
            let at = usize::from(byte);
            let pair = (names.class[at], tree.class[at]);
            let number = match by_pair.get(&pair) {
                Some(number) => *number,
                None => {
                    let column = |machine: &Machine| -> Vec<u32> {
                        (0..machine.states()).map(|s| machine.next(s, byte) as u32).collect()
                    };
                    let column = [column(names), column(tree)].concat();
                    let next = u8::try_from(by_column.len()).map_err(|_| CompileError::Classes)?;
                    let number = *by_column.entry(column).or_insert_with(|| {
                        members.push(byte);
                        next
                    });
                    by_pair.insert(pair, number);
                    number
                }
            };
            class[at] = number;
        }
        Ok(Self { class, count: members.len(), members })
    }
}

/// Numbers the verdicts in the order of the states (0 grants nothing) and gives each state's row.
fn number_verdicts(
    names: &Machine,
    verdicts: &[Vec<Verdict>],
    preopens: usize,
) -> Result<(Vec<Verdict>, Vec<Vec<u16>>), CompileError> {
    let mut list = vec![Verdict::default()];
    let mut numbers: HashMap<Verdict, usize> = HashMap::from([(Verdict::default(), 0)]);
    let mut rows = Vec::with_capacity(names.states());
    for output in &names.output {
        let mut row = Vec::with_capacity(preopens);
        for verdict in verdicts.get(*output as usize).into_iter().flatten() {
            let number = *numbers.entry(*verdict).or_insert_with(|| {
                list.push(*verdict);
                list.len() - 1
            });
            row.push(u16::try_from(number).unwrap_or(0));
        }
        rows.push(row);
    }
    if list.len() > MAX_VERDICTS {
        return Err(CompileError::Verdicts { count: list.len(), limit: MAX_VERDICTS });
    }
    Ok((list, rows))
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn header_numbers<const N: usize>(bytes: &mut Bytes, fields: [(usize, usize); N]) {
    for (at, value) in fields {
        bytes.put(at, &(value as u32).to_ne_bytes());
    }
}

fn put_row(bytes: &mut Bytes, at: usize, machine: &Machine, state: usize, classes: &Classes) {
    for (class, member) in classes.members.iter().enumerate() {
        let next = machine.next(state, *member) as u16;
        bytes.put(at + 2 * class, &next.to_ne_bytes());
    }
}

fn put_net_rule(bytes: &mut Bytes, at: usize, rule: &NetRule) {
    bytes.put(at + offset_of!(NetRule, action), &[rule.action]);
    bytes.put(at + offset_of!(NetRule, protocol), &[rule.protocol]);
    bytes.put(at + offset_of!(NetRule, family), &[rule.family]);
    bytes.put(at + offset_of!(NetRule, prefix), &[rule.prefix]);
    bytes.put(at + offset_of!(NetRule, port_low), &rule.port_low.to_ne_bytes());
    bytes.put(at + offset_of!(NetRule, port_high), &rule.port_high.to_ne_bytes());
    bytes.put(at + offset_of!(NetRule, rule), &rule.rule.to_ne_bytes());
    bytes.put(at + offset_of!(NetRule, address), &rule.address);
}
