//! Names that are transitions by themselves, as lists in a hash table.

use std::collections::{BTreeMap, HashMap, HashSet};

use wasi_guard_abi::{
    hash,
    table::{NAMED_SLOTS, Named as Slot},
};

use super::CompileError;
use super::machine::Machine;

/// The lists of a machine.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Words and where they lead, by the number of the list less 1.
    lists: Vec<Vec<(u32, u32)>>,
    /// For each state its own list and the shared one; 0 is none.
    pub(super) of_state: Vec<[u16; 2]>,
}

impl Lists {
    /// Names that stand behind a `**` are listed at nearly every state, and lead from most of them
    /// to the same state: states that have the same such names share a list of where they lead
    /// mostly, and list only the rest for themselves.
    pub(super) fn of(machine: &Machine) -> Result<Self, CompileError> {
        // For each set of shared names how often each leads where.
        let mut groups: BTreeMap<Vec<u32>, BTreeMap<u32, BTreeMap<u32, usize>>> = BTreeMap::new();
        let shared_words = |state: u32| -> Vec<u32> {
            let names = machine.named_from(state).iter();
            names.filter(|named| named.anywhere).map(|named| named.word).collect()
        };
        let states = machine.states() as u32;
        let sets: Vec<Vec<u32>> = (0..states).map(shared_words).collect();
        for named in machine.named.iter().filter(|named| named.anywhere) {
            let words = groups.entry(sets[named.from as usize].clone()).or_default();
            *words.entry(named.word).or_default().entry(named.to).or_default() += 1;
        }
        let mostly: HashMap<Vec<u32>, BTreeMap<u32, u32>> = groups
            .into_iter()
            .map(|(set, words)| {
                let most = |targets: BTreeMap<u32, usize>| {
                    targets.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(to, _)| to)
                };
                (set, words.into_iter().map(|(word, targets)| (word, most(targets))).collect())
            })
            .collect();
        let mut lists = Self::default();
        let mut numbers = HashMap::new();
        for state in 0..states {
            let common = mostly.get(&sets[state as usize]);
            let own = machine
                .named_from(state)
                .iter()
                .filter(|named| {
                    !named.anywhere || common.and_then(|it| it.get(&named.word)) != Some(&named.to)
                })
                .map(|named| (named.word, named.to))
                .collect();
            let shared: Vec<(u32, u32)> =
                common.into_iter().flatten().map(|(word, to)| (*word, *to)).collect();
            let numbers = [lists.number(&mut numbers, own)?, lists.number(&mut numbers, shared)?];
            lists.of_state.push(numbers);
        }
        Ok(lists)
    }

    fn number(
        &mut self,
        numbers: &mut HashMap<Vec<(u32, u32)>, u16>,
        list: Vec<(u32, u32)>,
    ) -> Result<u16, CompileError> {
        if list.is_empty() {
            return Ok(0);
        }
        if let Some(number) = numbers.get(&list) {
            return Ok(*number);
        }
        self.lists.push(list.clone());
        let count = self.lists.len();
        let number = u16::try_from(count).map_err(|_| CompileError::Lists { count })?;
        numbers.insert(list, number);
        Ok(number)
    }

    /// How many names all lists have.
    pub(super) fn names(&self) -> usize {
        self.lists.iter().map(Vec::len).sum()
    }

    fn iter(&self) -> impl Iterator<Item = (u16, u32, u32)> + '_ {
        (1u16..)
            .zip(&self.lists)
            .flat_map(|(list, names)| names.iter().map(move |(word, to)| (list, *word, *to)))
    }
}

/// The regions **named** and **names** of a table.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub(super) slots: Vec<Slot>,
    pub(super) words: Vec<u64>,
    pub(super) seed: u32,
}

impl Region {
    /// Number of buckets.
    pub(super) fn buckets(&self) -> usize {
        self.slots.len() / NAMED_SLOTS
    }
}

/// A name as the kernel side reads it: words in little endian, the last one with a zero byte.
pub(super) fn words(name: &[u8]) -> Vec<u64> {
    let mut bytes = name.to_vec();
    bytes.resize((name.len() / 8 + 1) * 8, 0);
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// The hash of a name, whatever list it is in.
pub(super) fn hash(seed: u32, words: &[u64]) -> u64 {
    words.iter().fold(hash::seeded(seed), |hash, word| hash::step(hash, *word))
}

/// Lays out the lists of a machine, whose states fit into 16 bits.
pub(super) fn region(machine: &Machine, lists: &Lists) -> Result<Region, CompileError> {
    let count = lists.names();
    if count == 0 {
        return Ok(Region::default());
    }
    // Word 0 is no name's.
    let mut region = Region { words: vec![0], ..Region::default() };
    let mut places: HashMap<u32, (u32, Vec<u64>)> = HashMap::new();
    for (_, word, _) in lists.iter() {
        places.entry(word).or_insert_with(|| {
            let at = region.words.len() as u32;
            let bytes = machine.words.get(word as usize).map_or(&[][..], Vec::as_slice);
            let spelled = words(bytes);
            region.words.extend(&spelled);
            (at, spelled)
        });
    }
    // Half full at most, so that buckets rarely run over; if one does, another seed or more room.
    let least = (count * 2).div_ceil(NAMED_SLOTS).next_power_of_two();
    for attempt in 0..16u32 {
        let buckets = least << (attempt / 4);
        let mut slots = vec![Slot::default(); buckets * NAMED_SLOTS];
        let mut tags = HashSet::new();
        let fits = lists.iter().all(|(list, word, to)| {
            let Some((word, spelled)) = places.get(&word) else { return false };
            let hash = hash::step(hash(attempt, spelled), list.into());
            let bucket = hash as usize & (buckets - 1);
            let tag = (hash >> 32) as u32;
            let bucket_slots = &mut slots[bucket * NAMED_SLOTS..][..NAMED_SLOTS];
            let free = bucket_slots.iter_mut().find(|slot| slot.word == 0);
            // Within a bucket a tag tells names apart before their bytes are compared.
            match (free, tags.insert((bucket, tag))) {
                (Some(slot), true) => {
                    *slot = Slot { tag, word: *word, list, to: to as u16, reserved: 0 };
                    true
                }
                _ => false,
            }
        });
        if fits {
            region.slots = slots;
            region.seed = attempt;
            return Ok(region);
        }
    }
    Err(CompileError::Names { count })
}
