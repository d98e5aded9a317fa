//! A deterministic automaton as plain numbers.

use std::collections::HashMap;
use std::hash::Hash;

use super::Automaton;

/// States count from 0; state 0 is dead and its output is number 0.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Which one, for messages.
    pub(super) automaton: Automaton,
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

    /// Moves each output from the state to which a `/` leads to the state before the `/`.
    pub(super) fn outputs_before_slash(&mut self) {
        self.output = (0..self.states()).map(|state| self.output[self.next(state, b'/')]).collect();
    }
}

/// A deterministic automaton and the sets of labels that are its outputs; set 0 is empty.
pub(super) type Labelled = (Machine, Vec<Vec<usize>>);
