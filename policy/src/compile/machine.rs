//! A deterministic automaton as plain numbers.

use std::collections::HashMap;
use std::hash::Hash;

/// States count from 0; state 0 is dead and its output is number 0.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Byte to class.
    pub(super) class: [u8; 256],
    /// How many classes there are.
    pub(super) classes: usize,
    /// Row by row, `classes` entries each.
    pub(super) next: Vec<u32>,
    /// For each state the number of its output: at first of a set of labels, after
    /// [`Machine::set_outputs`] of what that means.
    pub(super) output: Vec<u32>,
    /// Where each start leads.
    pub(super) starts: Vec<u32>,
    /// Names that lead from a state at which a name begins somewhere else than their bytes do,
    /// ordered by state and word.
    pub(super) named: Vec<Named>,
    /// The names' bytes, by the number of the word.
    pub(super) words: Vec<Vec<u8>>,
}

/// A transition on a whole name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) from: u32,
    pub(super) word: u32,
    pub(super) to: u32,
    /// The name is listed behind a `**`, so other states have it too.
    pub(super) anywhere: bool,
}

impl Machine {
    pub(super) fn states(&self) -> usize {
        self.output.len()
    }

    /// The state after `byte`.
    pub(super) fn next(&self, state: usize, byte: u8) -> usize {
        let class = usize::from(self.class[usize::from(byte)]);
        self.next.get(state * self.classes + class).map_or(0, |next| *next as usize)
    }

    /// The state after the bytes of `name`, whatever names lead elsewhere.
    pub(super) fn spell(&self, state: usize, name: &[u8]) -> usize {
        name.iter().fold(state, |state, byte| self.next(state, *byte))
    }

    /// The names that lead elsewhere from `state`.
    pub(super) fn named_from(&self, state: u32) -> &[Named] {
        let first = self.named.partition_point(|named| named.from < state);
        let count = self.named[first..].partition_point(|named| named.from == state);
        &self.named[first..first + count]
    }

    /// Drops names that lead where their bytes lead. True if there were any.
    pub(super) fn drop_needless_names(&mut self) -> bool {
        let mut named = std::mem::take(&mut self.named);
        let before = named.len();
        named.retain(|named| {
            let word = self.words.get(named.word as usize).map_or(&[][..], Vec::as_slice);
            self.spell(named.from as usize, word) != named.to as usize
        });
        self.named = named;
        self.named.len() != before
    }

    /// Makes `values`, one for each number of an output, the outputs: equal ones get the same
    /// number. Gives the values by number; number 0 stays number 0.
    pub(super) fn set_outputs<V: Clone + Eq + Hash>(&mut self, values: &[V]) -> Vec<V> {
        let mut numbers: HashMap<&V, u32> = HashMap::new();
        let mut by_number = Vec::new();
        let new: Vec<u32> = values
            .iter()
            .map(|value| {
                *numbers.entry(value).or_insert_with(|| {
                    by_number.push(value.clone());
                    by_number.len() as u32 - 1
                })
            })
            .collect();
        for output in &mut self.output {
            *output = new.get(*output as usize).copied().unwrap_or(0);
        }
        by_number
    }

    /// Moves each output from the state to which a `/` leads to the state before the `/`, and
    /// puts a state before each start from which a `/` leads there.
    pub(super) fn outputs_before_slash(&mut self) {
        let slash = usize::from(self.class[usize::from(b'/')]);
        for start in &mut self.starts {
            self.next
                .extend((0..self.classes).map(|class| if class == slash { *start } else { 0 }));
            self.output.push(0);
            *start = self.output.len() as u32 - 1;
        }
        self.output = (0..self.states()).map(|state| self.output[self.next(state, b'/')]).collect();
    }
}

/// A deterministic automaton and the sets of labels that are its outputs; set 0 is empty.
pub(super) type Labelled = (Machine, Vec<Vec<usize>>);
