//! A trie over names as an NFA over bytes.
//!
//! Input is each name's bytes followed by `/`. States `0..nodes` are the nodes of the trie; the
//! others lie inside names.
//!
//! Plain names of which many lead on from one node are left out of the automaton and listed by the
//! side: ten thousand of them would take a state for almost every byte.

use std::collections::{BTreeMap, HashMap};

use super::paths::{Edge, Trie};
use crate::pattern::{AsciiSet, Element, NamePattern};

/// A transition on a range of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) low: u8,
    pub(super) high: u8,
    pub(super) next: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) ranges: Vec<Range>,
    /// States that are reached without input.
    pub(super) free: Vec<u32>,
}

/// From how many on the plain names that lead on from a node are listed.
const LISTED_FROM: usize = 9;
/// How many bytes the plain names that are not listed may have together; if they have more, all
/// are listed.
const MAX_SPELLED: usize = 8192;

/// An NFA.
#[derive(Debug, Default)]
pub(super) struct Nfa {
    pub(super) states: Vec<State>,
    /// For each node the names that are listed, and the node after each.
    pub(super) listed: Vec<Vec<(Vec<u8>, u32)>>,
    /// If there are such names: for each node a state from which only a `/` leads on, to the node.
    pub(super) ends: Vec<u32>,
}

/// The NFA of a trie.
pub(super) fn build(trie: &Trie) -> Nfa {
    let mut writer = Writer { states: vec![State::default(); trie.nodes.len()] };
    let mut listed = vec![Vec::new(); trie.nodes.len()];
    let listed_from = if spelled_bytes(trie) > MAX_SPELLED { 1 } else { LISTED_FROM };
    for (entry, node) in (0u32..).zip(&trie.nodes) {
        if node.loops {
            // The looping name ends where it began.
            let inside = writer.add();
            writer.any_byte(entry, inside);
            writer.any_byte(inside, inside);
            writer.byte(inside, b'/', entry);
        }
        let mut names = Vec::new();
        for (edge, next) in &node.edges {
            match &trie.edges[*edge] {
                Edge::Names => writer.states[entry as usize].free.push(*next as u32),
                Edge::Name(name) => names.push((name, *next as u32)),
            }
        }
        if names.iter().filter(|(name, _)| plain(name).is_some()).count() >= listed_from {
            names.retain(|(name, next)| {
                let Some(bytes) = plain(name) else { return true };
                listed[entry as usize].push((bytes, *next));
                false
            });
        }
        writer.names(entry, &names);
    }
    let mut ends = Vec::new();
    if listed.iter().any(|names| !names.is_empty()) {
        for node in 0..trie.nodes.len() as u32 {
            let end = writer.add();
            writer.byte(end, b'/', node);
            ends.push(end);
        }
    }
    Nfa { states: writer.states, listed, ends }
}

/// Bytes of all plain names that would be in the automaton.
fn spelled_bytes(trie: &Trie) -> usize {
    let spelled = trie.nodes.iter().map(|node| {
        let lengths: Vec<usize> = node
            .edges
            .keys()
            .filter_map(|edge| match &trie.edges[*edge] {
                Edge::Name(name) => plain(name).map(|bytes| bytes.len()),
                Edge::Names => None,
            })
            .collect();
        if lengths.len() < LISTED_FROM { lengths.iter().sum() } else { 0 }
    });
    spelled.sum()
}

/// The bytes of a name without wildcards.
fn plain(name: &NamePattern) -> Option<Vec<u8>> {
    name.elements
        .iter()
        .map(|element| match element {
            Element::Byte(byte) => Some(*byte),
            _ => None,
        })
        .collect()
}

/// A step within a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    Byte(u8),
    /// Any byte of a name.
    AnyByte,
    OneOf(AsciiSet),
    /// A character that is none of these.
    NoneOf(AsciiSet),
    Star,
}

fn steps(name: &NamePattern) -> Vec<Step> {
    if name.is_any() {
        return vec![Step::AnyByte, Step::Star];
    }
    name.elements
        .iter()
        .map(|element| match element {
            Element::Byte(byte) => Step::Byte(*byte),
            Element::Char => Step::NoneOf(AsciiSet::new()),
            Element::OneOf(set) => Step::OneOf(set.clone()),
            Element::NoneOf(set) => Step::NoneOf(set.clone()),
            Element::Star => Step::Star,
        })
        .collect()
}

/// A node of the trie over the steps of names.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct StepNode {
    /// Where each step leads: a node, later a state.
    steps: BTreeMap<Step, usize>,
    /// Reached by a star: any byte leads back.
    star: bool,
    /// Nodes of the trie over names that a name which ends here leads to.
    ends: Vec<u32>,
}

struct Writer {
    states: Vec<State>,
}

impl Writer {
    fn add(&mut self) -> u32 {
        self.states.push(State::default());
        self.states.len() as u32 - 1
    }

    fn range(&mut self, from: u32, low: u8, high: u8, next: u32) {
        self.states[from as usize].ranges.push(Range { low, high, next });
    }

    fn byte(&mut self, from: u32, byte: u8, next: u32) {
        self.range(from, byte, byte, next);
    }

    /// The ASCII bytes that are wanted, in as few ranges as can be: each end of a range divides
    /// a class of bytes, and all later steps take time by the classes.
    fn bytes(&mut self, from: u32, wanted: impl Fn(u8) -> bool, next: u32) {
        let mut low = None;
        for byte in 0..=0x80u8 {
            match (low, byte < 0x80 && wanted(byte)) {
                (None, true) => low = Some(byte),
                (Some(first), false) => {
                    self.range(from, first, byte - 1, next);
                    low = None;
                }
                _ => {}
            }
        }
    }

    /// Any byte that a name may contain.
    fn any_byte(&mut self, from: u32, next: u32) {
        self.range(from, 1, b'/' - 1, next);
        self.range(from, b'/' + 1, u8::MAX, next);
    }

    /// The names that lead on from a node, as a trie over their steps in which equal ends are
    /// shared, so that after `1-*` and `2-*` only one star is open.
    fn names(&mut self, entry: u32, names: &[(&NamePattern, u32)]) {
        let mut trie = vec![StepNode::default()];
        for (name, next) in names {
            let mut at = 0;
            for step in steps(name) {
                at = match trie[at].steps.get(&step) {
                    Some(found) => *found,
                    None => {
                        trie.push(StepNode { star: step == Step::Star, ..StepNode::default() });
                        let added = trie.len() - 1;
                        trie[at].steps.insert(step, added);
                        added
                    }
                };
            }
            trie[at].ends.push(*next);
        }
        let mut same: HashMap<StepNode, u32> = HashMap::new();
        let mut states = vec![entry; trie.len()];
        // A node is made after the one that leads to it, so this meets children first.
        for (at, mut node) in trie.into_iter().enumerate().rev() {
            for next in node.steps.values_mut() {
                *next = states[*next] as usize;
            }
            node.ends.sort_unstable();
            let known = same.get(&node).copied().filter(|_| at != 0);
            states[at] = match known {
                Some(state) => state,
                None => {
                    let state = if at == 0 { entry } else { self.add() };
                    self.step_node(state, &node);
                    same.insert(node, state);
                    state
                }
            };
        }
    }

    fn step_node(&mut self, state: u32, node: &StepNode) {
        if node.star {
            self.any_byte(state, state);
        }
        for (step, next) in &node.steps {
            self.step(state, step, *next as u32);
        }
        for end in &node.ends {
            self.byte(state, b'/', *end);
        }
    }

    fn step(&mut self, from: u32, step: &Step, to: u32) {
        match step {
            Step::Byte(byte) => self.byte(from, *byte, to),
            Step::AnyByte => self.any_byte(from, to),
            Step::OneOf(set) => self.bytes(from, |byte| set.contains(&byte), to),
            Step::NoneOf(set) => self.character(from, set, to),
            Step::Star => self.states[from as usize].free.push(to),
        }
    }

    /// One character in UTF-8 (RFC 3629, section 4) but `/`, NUL and those of `excluded`.
    fn character(&mut self, from: u32, excluded: &AsciiSet, to: u32) {
        self.bytes(from, |byte| byte != b'/' && byte != 0 && !excluded.contains(&byte), to);
        let last = self.add();
        self.range(last, 0x80, 0xbf, to);
        let last_two = self.add();
        self.range(last_two, 0x80, 0xbf, last);
        let last_three = self.add();
        self.range(last_three, 0x80, 0xbf, last_two);
        for (low, high, next) in [
            (0xc2, 0xdf, last),
            (0xe1, 0xec, last_two),
            (0xee, 0xef, last_two),
            (0xf1, 0xf3, last_three),
        ] {
            self.range(from, low, high, next);
        }
        // First bytes whose second byte is bounded further.
        for (first, low, high, next) in [
            (0xe0, 0xa0, 0xbf, last),
            (0xed, 0x80, 0x9f, last),
            (0xf0, 0x90, 0xbf, last_two),
            (0xf4, 0x80, 0x8f, last_two),
        ] {
            let second = self.add();
            self.byte(from, first, second);
            self.range(second, low, high, next);
        }
    }
}
