//! Makes the NFA of a trie deterministic: the subset construction, with two things that a general
//! library does not know.
//!
//! Once a name is denied, all below it is, by the same rule. A plain subset construction goes on to
//! remember what else might match, where nothing counts any more. So at each end of a name every
//! position is dropped that cannot change the verdict ([`Outlook`]).
//!
//! Names that are listed beside the NFA become transitions on whole names: to what their bytes
//! lead to, and what follows the listed name.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::machine::{Labelled, Machine, Named};
use super::nfa::{self, State};
use super::paths::{Edge, Effect, Trie};
use super::{CompileError, MAX_WORK_POSITIONS, MAX_WORK_STATES};
use crate::model::RuleNumber;
use wasi_guard_abi::operation::right;

/// The automaton of a trie.
pub(super) fn build(trie: &Trie) -> Result<Labelled, CompileError> {
    let nfa = nfa::build(trie);
    let states = &nfa.states;
    let (class, inputs) = classes(states);
    let mut builder = Builder {
        outlooks: outlooks(trie),
        denied: &trie.denied,
        numbers: HashMap::from([(Rc::default(), 0)]),
        found: vec![Rc::default()],
        positions: 0,
    };
    let mut starts = Vec::new();
    for start in &trie.starts {
        let mut set = vec![*start as u32];
        builder.prune(&mut set);
        starts.push(builder.number(&set)?);
    }
    let mut machine = Machine {
        class,
        classes: inputs.len(),
        next: vec![0; inputs.len()],
        output: vec![0],
        starts,
        named: Vec::new(),
        words: Vec::new(),
    };
    let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
    let mut set_numbers: HashMap<Vec<usize>, u32> = HashMap::from([(Vec::new(), 0)]);
    let mut seen = vec![false; states.len()];
    let mut targets: Vec<Vec<u32>> = vec![Vec::new(); inputs.len()];
    let slash = usize::from(class[usize::from(b'/')]);
    let mut words = Words::default();
    let mut at = 1;
    while let Some(kernel) = builder.found.get(at).cloned() {
        let closure = closure(states, &kernel, &mut seen);
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
            machine.next.push(number);
            targets.clear();
        }
        let labels = labels(trie, &closure);
        machine.output.push(*set_numbers.entry(labels).or_insert_with_key(|labels| {
            sets.push(labels.clone());
            sets.len() as u32 - 1
        }));
        words.note(at as u32, &nfa, trie, &closure);
        at += 1;
        // Where the bytes of a name lead is known once every state so far has its row.
        if at == builder.found.len() {
            words.resolve(&nfa, &mut seen, &mut machine, &mut builder)?;
        }
    }
    machine.words = words.words;
    machine.named.sort_unstable();
    Ok((machine, sets))
}

/// The labels of the nodes among states of the NFA.
fn labels(trie: &Trie, states: &[u32]) -> Vec<usize> {
    let mut labels: Vec<usize> = states
        .iter()
        .filter_map(|state| trie.nodes.get(*state as usize))
        .flat_map(|node| node.labels.iter().copied())
        .collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

/// Listed names on their way to transitions.
#[derive(Default)]
struct Words {
    words: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
    /// States and their names, to be resolved.
    pending: Vec<(u32, BTreeMap<u32, Listed>)>,
}

/// A name at a state.
#[derive(Default)]
struct Listed {
    /// The nodes that it leads to.
    nodes: Vec<u32>,
    /// It is listed at a node that was not reached by `**`.
    here: bool,
}

impl Words {
    /// Notes the names that are listed at one of the positions of a state.
    fn note(&mut self, state: u32, nfa: &nfa::Nfa, trie: &Trie, closure: &[u32]) {
        let mut names: BTreeMap<u32, Listed> = BTreeMap::new();
        let listed = closure.iter().filter_map(|position| {
            let at = *position as usize;
            Some((trie.nodes.get(at)?.loops, nfa.listed.get(at)?))
        });
        for (loops, (name, node)) in
            listed.flat_map(|(loops, names)| names.iter().map(move |name| (loops, name)))
        {
            let number = match self.numbers.get(name) {
                Some(number) => *number,
                None => {
                    let number = self.words.len() as u32;
                    self.words.push(name.clone());
                    self.numbers.insert(name.clone(), number);
                    number
                }
            };
            let listed = names.entry(number).or_default();
            listed.nodes.push(*node);
            listed.here |= !loops;
        }
        if !names.is_empty() {
            self.pending.push((state, names));
        }
    }

    /// Makes the noted names transitions; may find new states. From these only a `/` leads on:
    /// nothing else is asked of them.
    fn resolve(
        &mut self,
        nfa: &nfa::Nfa,
        seen: &mut [bool],
        machine: &mut Machine,
        builder: &mut Builder<'_>,
    ) -> Result<(), CompileError> {
        let mut spelled_ends: HashMap<usize, Vec<u32>> = HashMap::new();
        for (from, names) in std::mem::take(&mut self.pending) {
            for (word, listed) in names {
                let name = self.words.get(word as usize).map_or(&[][..], Vec::as_slice);
                let spelled = machine.spell(from as usize, name);
                let ends = spelled_ends.entry(spelled).or_insert_with(|| {
                    closure(&nfa.states, &builder.found[spelled], seen)
                        .iter()
                        .flat_map(|state| &nfa.states[*state as usize].ranges)
                        .filter(|range| (range.low..=range.high).contains(&b'/'))
                        .map(|range| nfa.ends[range.next as usize])
                        .collect()
                });
                let mut positions = ends.clone();
                positions.extend(listed.nodes.iter().map(|node| nfa.ends[*node as usize]));
                positions.sort_unstable();
                positions.dedup();
                let to = builder.number(&positions)?;
                machine.named.push(Named { from, word, to, anywhere: !listed.here });
            }
        }
        Ok(())
    }
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

struct Builder<'t> {
    /// The nodes below denied names.
    denied: &'t HashMap<RuleNumber, usize>,
    outlooks: Vec<Outlook>,
    numbers: HashMap<Rc<[u32]>, u32>,
    found: Vec<Rc<[u32]>>,
    /// Length of all sets together.
    positions: usize,
}

impl Builder<'_> {
    /// The number of the state for a sorted set.
    fn number(&mut self, set: &[u32]) -> Result<u32, CompileError> {
        if let Some(number) = self.numbers.get(set) {
            return Ok(*number);
        }
        self.positions += set.len();
        if self.found.len() == MAX_WORK_STATES || self.positions > MAX_WORK_POSITIONS {
            return Err(CompileError::Determinize);
        }
        let number = self.found.len() as u32;
        let set: Rc<[u32]> = set.into();
        self.found.push(Rc::clone(&set));
        self.numbers.insert(set, number);
        Ok(number)
    }

    /// Drops nodes that cannot change a verdict, because of what others decided for good. Of
    /// several rules that deny a name the first one counts, and below it nothing else.
    fn prune(&self, nodes: &mut Vec<u32>) {
        let outlook = |node: &u32| &self.outlooks[*node as usize];
        let mut decided = Prospect::default();
        for node in nodes.iter() {
            decided.merge(outlook(node).decided);
        }
        match decided {
            Prospect { deny: Some(rule), .. } => {
                nodes.clear();
                nodes.extend(self.denied.get(&rule).map(|node| *node as u32));
            }
            Prospect { rights: 0, .. } => {}
            // Any right brings STAT with it.
            Prospect { rights, .. } => nodes.retain(|node| {
                let Outlook { decided, possible } = outlook(node);
                let new = possible.rights & !(rights | right::STAT) != 0;
                decided.rights != 0 || possible.deny.is_some() || new
            }),
        }
    }
}

/// What can still come of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Outlook {
    /// What holds there and at every end of a name from there on.
    decided: Prospect,
    /// What may hold somewhere from there on.
    possible: Prospect,
}

/// Effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Prospect {
    /// The first deny rule.
    deny: Option<RuleNumber>,
    /// The rights.
    rights: u16,
}

impl Prospect {
    fn merge(&mut self, other: Self) {
        self.rights |= other.rights;
        self.deny = match (self.deny, other.deny) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// The outlook of each node of a trie.
fn outlooks(trie: &Trie) -> Vec<Outlook> {
    let mut outlooks: Vec<Outlook> = Vec::with_capacity(trie.nodes.len());
    // Ends were shared from the leaves on, so every edge leads to a node with a lower number.
    for node in &trie.nodes {
        let mut own = Prospect::default();
        for label in &node.labels {
            own.merge(match trie.labels[*label] {
                Effect::Grant(rights) => Prospect { deny: None, rights },
                Effect::Deny(rule) => Prospect { deny: Some(rule), rights: 0 },
            });
        }
        let mut outlook =
            Outlook { decided: if node.loops { own } else { Prospect::default() }, possible: own };
        for (edge, next) in &node.edges {
            // `**` may stand for no name at all: what holds behind it holds here.
            if trie.edges[*edge] == Edge::Names {
                outlook.decided.merge(outlooks[*next].decided);
            }
            outlook.possible.merge(outlooks[*next].possible);
        }
        outlooks.push(outlook);
    }
    outlooks
}
