//! The automaton, its verdicts and names, and network rules as the chunks of one table.

use std::collections::HashMap;
use std::mem::offset_of;

use wasi_guard_abi::LAYOUT;
use wasi_guard_abi::table::{
    BELOW_COLUMN, CHUNK_BYTES, EXTRA_COLUMNS, Header, LIST_COLUMN, MAGIC, MAX_CHUNKS, MAX_STATES,
    MODE_AUDIT, MODE_ENFORCE, NAMED_SLOTS, Named as Slot, NetRule, SHARED_COLUMN, Verdict,
};

use super::machine::Machine;
use super::table::{Stats, Table};
use super::{CompileError, minimize, named};
use crate::model::Mode;

/// A state or verdict number is a `u16`.
const MAX_VERDICTS: usize = 1 << 16;

/// `verdicts`: for each output of the automaton.
pub(super) fn pack(
    mode: Mode,
    machine: &Machine,
    verdicts: &[Verdict],
    network: &[NetRule],
) -> Result<Table, CompileError> {
    if machine.states() > MAX_STATES {
        return Err(CompileError::States { states: machine.states(), limit: MAX_STATES });
    }
    let classes = Classes::of(machine)?;
    let (numbers, verdict_of) = number_verdicts(machine, verdicts)?;
    let below = below(machine, verdicts);
    let lists = named::Lists::of(machine)?;
    let named = named::region(machine, &lists)?;

    let stride = classes.count + EXTRA_COLUMNS;
    let mut layout = Layout { end: size_of::<Header>() };
    let rows_bytes = 2 * machine.states() * stride;
    let rows_at = layout.region(rows_bytes, 2);
    let verdict_bytes = numbers.len() * size_of::<Verdict>();
    let verdicts_at = layout.region(verdict_bytes, size_of::<Verdict>());
    // A bucket lies within one chunk.
    let bucket = NAMED_SLOTS * size_of::<Slot>();
    let slots_bytes = named.slots.len() * size_of::<Slot>();
    let named_at = layout.region(slots_bytes, bucket);
    let names_bytes = named.words.len() * 8;
    let names_at = layout.region(names_bytes, 8);
    let chunks = layout.end.div_ceil(CHUNK_BYTES);
    if chunks > MAX_CHUNKS {
        return Err(CompileError::Size {
            bytes: chunks * CHUNK_BYTES,
            limit: MAX_CHUNKS * CHUNK_BYTES,
        });
    }

    let mut bytes = Bytes(vec![0; chunks * CHUNK_BYTES]);
    let mode = match mode {
        Mode::Enforce => MODE_ENFORCE,
        Mode::Audit => MODE_AUDIT,
    };
    header_numbers(
        &mut bytes,
        [
            (offset_of!(Header, magic), MAGIC as usize),
            (offset_of!(Header, layout), LAYOUT as usize),
            (offset_of!(Header, mode), mode as usize),
            (offset_of!(Header, stride), stride),
            (offset_of!(Header, verdict_column), classes.count),
            (offset_of!(Header, preopens), machine.starts.len()),
            (offset_of!(Header, net_rules), network.len()),
            (offset_of!(Header, rows_at), rows_at / 2),
            (offset_of!(Header, verdicts_at), verdicts_at / size_of::<Verdict>()),
            (
                offset_of!(Header, named_at),
                if named.slots.is_empty() { 0 } else { named_at / size_of::<Slot>() },
            ),
            (offset_of!(Header, named_mask), named.buckets().saturating_sub(1)),
            (offset_of!(Header, names_at), names_at / 8),
            (offset_of!(Header, named_seed), named.seed as usize),
            (offset_of!(Header, chunks), chunks),
        ],
    );
    bytes.put(offset_of!(Header, class), &classes.class);
    for (index, start) in machine.starts.iter().enumerate() {
        bytes.put(offset_of!(Header, root_state) + 2 * index, &(*start as u16).to_ne_bytes());
    }
    for (index, rule) in network.iter().enumerate() {
        put_net_rule(&mut bytes, offset_of!(Header, net) + size_of::<NetRule>() * index, rule);
    }

    for state in 0..machine.states() {
        let at = rows_at + 2 * state * stride;
        let mut column = |column: usize, value: u16| {
            bytes.put(at + 2 * column, &value.to_ne_bytes());
        };
        for (class, member) in classes.members.iter().enumerate() {
            column(class, machine.next(state, *member) as u16);
        }
        column(classes.count, verdict_of[state]);
        column(classes.count + BELOW_COLUMN as usize, below[state]);
        let [own, shared] = lists.of_state[state];
        column(classes.count + LIST_COLUMN as usize, own);
        column(classes.count + SHARED_COLUMN as usize, shared);
    }
    for (number, verdict) in numbers.iter().enumerate() {
        let at = verdicts_at + size_of::<Verdict>() * number;
        bytes.put(at + offset_of!(Verdict, rights), &verdict.rights.to_ne_bytes());
        bytes.put(at + offset_of!(Verdict, deny_rule), &verdict.deny_rule.to_ne_bytes());
    }
    for (number, slot) in named.slots.iter().enumerate() {
        let at = named_at + size_of::<Slot>() * number;
        bytes.put(at + offset_of!(Slot, tag), &slot.tag.to_ne_bytes());
        bytes.put(at + offset_of!(Slot, word), &slot.word.to_ne_bytes());
        bytes.put(at + offset_of!(Slot, list), &slot.list.to_ne_bytes());
        bytes.put(at + offset_of!(Slot, to), &slot.to.to_ne_bytes());
    }
    for (number, word) in named.words.iter().enumerate() {
        bytes.put(names_at + 8 * number, &word.to_le_bytes());
    }
    let stats = Stats {
        states: machine.states(),
        rows_bytes,
        classes: classes.count,
        verdicts: numbers.len(),
        verdict_bytes,
        names: lists.names(),
        names_bytes: slots_bytes + names_bytes,
        network_rules: network.len(),
        chunks,
        bytes: bytes.0.len(),
    };
    Ok(Table::new(bytes.0, stats))
}

/// Regions one behind the other.
struct Layout {
    end: usize,
}

impl Layout {
    /// Where a region of so many bytes begins; a multiple of `align`.
    fn region(&mut self, bytes: usize, align: usize) -> usize {
        let at = self.end.next_multiple_of(align);
        self.end = at + bytes;
        at
    }
}

/// For each state the number of what holds below a directory that has the state: rights alone,
/// whichever rule denies.
fn below(machine: &Machine, verdicts: &[Verdict]) -> Vec<u16> {
    let rights: Vec<u32> = machine
        .output
        .iter()
        .map(|output| verdicts.get(*output as usize).map_or(0, |verdict| verdict.rights.into()))
        .collect();
    let blocks = minimize::blocks(machine, &rights);
    // There are no more blocks than states.
    (0..machine.states()).map(|state| blocks[machine.next(state, b'/')] as u16).collect()
}

/// Byte classes: bytes that lead to the same state from every state are one class.
struct Classes {
    class: [u8; 256],
    count: usize,
    /// A byte of each class.
    members: Vec<u8>,
}

impl Classes {
    fn of(machine: &Machine) -> Result<Self, CompileError> {
        let mut class = [0; 256];
        let mut members: Vec<u8> = Vec::new();
        // Most bytes agree already in the machine's classes; only one of each is looked at.
        let mut by_class: HashMap<u8, u8> = HashMap::new();
        let mut by_column: HashMap<Vec<u32>, u8> = HashMap::new();
        for byte in 0..=u8::MAX {
            let at = usize::from(byte);
            let number = match by_class.get(&machine.class[at]) {
                Some(number) => *number,
                None => {
                    let column: Vec<u32> =
                        (0..machine.states()).map(|s| machine.next(s, byte) as u32).collect();
                    let next = u8::try_from(by_column.len()).map_err(|_| CompileError::Classes)?;
                    let number = *by_column.entry(column).or_insert_with(|| {
                        members.push(byte);
                        next
                    });
                    by_class.insert(machine.class[at], number);
                    number
                }
            };
            class[at] = number;
        }
        Ok(Self { class, count: members.len(), members })
    }
}

/// Numbers the verdicts in the order of the states (0 grants nothing), and gives each state's.
fn number_verdicts(
    machine: &Machine,
    verdicts: &[Verdict],
) -> Result<(Vec<Verdict>, Vec<u16>), CompileError> {
    let mut list = vec![Verdict::default()];
    let mut numbers: HashMap<Verdict, usize> = HashMap::from([(Verdict::default(), 0)]);
    let mut row = Vec::with_capacity(machine.states());
    for output in &machine.output {
        let verdict = verdicts.get(*output as usize).copied().unwrap_or_default();
        let number = *numbers.entry(verdict).or_insert_with(|| {
            list.push(verdict);
            list.len() - 1
        });
        row.push(u16::try_from(number).unwrap_or(0));
    }
    if list.len() > MAX_VERDICTS {
        return Err(CompileError::Verdicts { count: list.len(), limit: MAX_VERDICTS });
    }
    Ok((list, row))
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
