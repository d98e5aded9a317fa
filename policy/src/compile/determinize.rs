//! Makes the NFA of a trie deterministic: the subset construction, with one thing that a general
//! library does not know.
//!
//! Reading leaf first, a rule such as `**/.git` has decided once its name was read, whatever
//! directories follow. A plain subset construction remembers from then on *which* of such rules
//! have decided, in two to the power of their number of states, where only the first deny rule
//! and the granted rights count. So at each end of a name every position is dropped that cannot
//! change the verdict any more ([`Outlook`]). (regex-automata's determinisation, without this,
//! does not end for a few dozen deny rules of this kind.)

use std::collections::HashMap;
use std::rc::Rc;

use super::machine::{Labelled, Machine};
use super::nfa::{self, State};
use super::paths::{Edge, Effect, Trie};
use super::{Automaton, CompileError, MAX_WORK_POSITIONS, MAX_WORK_STATES};
use crate::model::RuleNumber;

/// The automaton of a trie.
pub(super) fn build(automaton: Automaton, trie: &Trie) -> Result<Labelled, CompileError> {
    let states = nfa::build(trie);
    let (class, inputs) = classes(&states);
    let mut builder = Builder {
        automaton,
        outlooks: outlooks(trie),
        numbers: HashMap::from([(Rc::default(), 0)]),
        found: vec![Rc::default()],
        positions: 0,
    };
    let mut starts = Vec::new();
    for start in &trie.starts {
        starts.push(builder.number(&[*start as u32])?);
    }
    let mut next = vec![0; inputs.len()];
    let mut output = vec![0];
    let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
    let mut set_numbers: HashMap<Vec<usize>, u32> = HashMap::from([(Vec::new(), 0)]);
    let mut seen = vec![false; states.len()];
    let mut targets: Vec<Vec<u32>> = vec![Vec::new(); inputs.len()];
    let slash = usize::from(class[usize::from(b'/')]);
    let mut at = 1;
    while let Some(kernel) = builder.found.get(at).cloned() {
        at += 1;
        let closure = closure(&states, &kernel, &mut seen);
        for range in closure.iter().flat_map(|state| &states[*state as usize].ranges) {
            let [low, high] =
                [range.low, range.high].map(|byte| usize::from(class[usize::from(byte)]));
            for targets in &mut targets[low..=high] {
                targets.push(range.next);
            }
        }
        let mut last: Option<(Vec<u32>, u32)> = None;
        for (class, targets) in targets.iter_mut().enumerate() {
            targets.sort_unstable();
            targets.dedup();
            // Most neighbours among the classes lead to the same state.
            let number = match &last {
                Some((same, number)) if same == targets && class != slash => *number,
                _ => {
                    let before = targets.clone();
                    if class == slash {
                        builder.prune(targets);
                    }
                    let number = builder.number(targets)?;
                    last = (class != slash).then_some((before, number));
                    number
                }
            };
            next.push(number);
            targets.clear();
        }
        let mut labels: Vec<usize> = closure
            .iter()
            .filter_map(|state| trie.nodes.get(*state as usize))
            .flat_map(|node| node.labels.iter().copied())
            .collect();
        labels.sort_unstable();
        labels.dedup();
        output.push(*set_numbers.entry(labels).or_insert_with_key(|labels| {
            sets.push(labels.clone());
            sets.len() as u32 - 1
        }));
    }
    let classes = inputs.len();
    Ok((Machine { automaton, class, classes, next, output, starts }, sets))
}

/// Classes of bytes that no transition tells apart, numbered in the order of the bytes, and the
/// first byte of each.
fn classes(states: &[State]) -> ([u8; 256], Vec<u8>) {
    let mut begins = [false; 257];
    for range in states.iter().flat_map(|state| &state.ranges) {
        begins[usize::from(range.low)] = true;
        begins[usize::from(range.high) + 1] = true;
    }
    // An end of a name is told from everything else even if no pattern reads it.
    begins[usize::from(b'/')] = true;
    begins[usize::from(b'/') + 1] = true;
    let mut class = [0; 256];
    let mut inputs = Vec::new();
    for byte in 0..=u8::MAX {
        if byte == 0 || begins[usize::from(byte)] {
            inputs.push(byte);
        }
        class[usize::from(byte)] = (inputs.len() - 1) as u8;
    }
    (class, inputs)
}

/// Everything that is reached from `kernel` without input, in ascending order. `seen` is all
/// false before and after.
fn closure(states: &[State], kernel: &[u32], seen: &mut [bool]) -> Vec<u32> {
    let mut all: Vec<u32> = Vec::with_capacity(kernel.len());
    let mut work = kernel.to_vec();
    while let Some(state) = work.pop() {
        if !std::mem::replace(&mut seen[state as usize], true) {
            all.push(state);
            work.extend(&states[state as usize].free);
        }
    }
    for state in &all {
        seen[*state as usize] = false;
    }
    all.sort_unstable();
    all
}

struct Builder {
    automaton: Automaton,
    outlooks: Vec<Outlook>,
    numbers: HashMap<Rc<[u32]>, u32>,
    found: Vec<Rc<[u32]>>,
    /// Length of all sets together.
    positions: usize,
}

impl Builder {
    /// The number of the state for a sorted set.
    fn number(&mut self, set: &[u32]) -> Result<u32, CompileError> {
        if let Some(number) = self.numbers.get(set) {
            return Ok(*number);
        }
        self.positions += set.len();
        if self.found.len() == MAX_WORK_STATES || self.positions > MAX_WORK_POSITIONS {
            return Err(CompileError::Determinize { automaton: self.automaton });
        }
        let number = self.found.len() as u32;
        let set: Rc<[u32]> = set.into();
        self.found.push(Rc::clone(&set));
        self.numbers.insert(set, number);
        Ok(number)
    }

    /// Drops nodes that cannot change a verdict, because of what others decided for good.
    fn prune(&self, nodes: &mut Vec<u32>) {
        let mut decided: Vec<Prospect> = Vec::new();
        for node in nodes.iter() {
            for prospect in &self.outlooks[*node as usize].decided {
                merge(&mut decided, *prospect);
            }
        }
        if decided.is_empty() {
            return;
        }
        nodes.retain(|node| {
            let outlook = &self.outlooks[*node as usize];
            let of = |preopen| decided.iter().find(|other| other.preopen == preopen);
            outlook.decided.iter().any(|own| of(own.preopen).is_none_or(|all| own.matters_in(all)))
                || outlook
                    .possible
                    .iter()
                    .any(|own| of(own.preopen).is_none_or(|all| own.adds_to(all)))
        });
    }
}

/// What can still come of a node.
#[derive(Clone, Debug, Default)]
struct Outlook {
    /// What holds there and at every end of a name from there on.
    decided: Vec<Prospect>,
    /// What may hold somewhere from there on.
    possible: Vec<Prospect>,
}

/// Effects on one preopen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prospect {
    preopen: usize,
    /// The first deny rule.
    deny: Option<RuleNumber>,
    /// The rights.
    rights: u16,
}

impl Prospect {
    /// Whether a possible effect could change what is decided.
    fn adds_to(&self, decided: &Prospect) -> bool {
        match (self.deny, decided.deny) {
            (Some(own), Some(decided)) => own < decided,
            (None, Some(_)) => false,
            (Some(_), None) => true,
            (None, None) => {
                // Any right brings STAT with it.
                let stat = wasi_guard_abi::operation::right::STAT;
                let implied = if decided.rights == 0 { 0 } else { stat };
                self.rights & !(decided.rights | implied) != 0
            }
        }
    }

    /// Whether an own decision is part of what is decided.
    fn matters_in(&self, decided: &Prospect) -> bool {
        match decided.deny {
            Some(rule) => self.deny == Some(rule),
            None => true,
        }
    }
}

fn merge(list: &mut Vec<Prospect>, new: Prospect) {
    match list.iter_mut().find(|known| known.preopen == new.preopen) {
        None => list.push(new),
        Some(known) => {
            known.rights |= new.rights;
            known.deny = match (known.deny, new.deny) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
}

/// The outlook of each node of a trie.
fn outlooks(trie: &Trie) -> Vec<Outlook> {
    let mut outlooks: Vec<Outlook> = Vec::with_capacity(trie.nodes.len());
    // Ends were shared from the leaves on, so every edge leads to a node with a lower number.
    for node in &trie.nodes {
        let mut own = Vec::new();
        for label in &node.labels {
            let label = trie.labels[*label];
            merge(
                &mut own,
                match label.effect {
                    Effect::Grant(rights) => {
                        Prospect { preopen: label.preopen, deny: None, rights }
                    }
                    Effect::Deny(rule) => {
                        Prospect { preopen: label.preopen, deny: Some(rule), rights: 0 }
                    }
                },
            );
        }
        let mut outlook = Outlook::default();
        if node.loops {
            outlook.decided.clone_from(&own);
        }
        outlook.possible = own;
        for (edge, next) in &node.edges {
            // `**` may stand for no name at all: what holds behind it holds here.
            if trie.edges[*edge] == Edge::Names {
                for prospect in outlooks[*next].decided.clone() {
                    merge(&mut outlook.decided, prospect);
                }
            }
            for prospect in outlooks[*next].possible.clone() {
                merge(&mut outlook.possible, prospect);
            }
        }
        outlooks.push(outlook);
    }
    outlooks
}
