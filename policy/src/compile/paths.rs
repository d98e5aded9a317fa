//! Patterns as a trie over names.
//!
//! Rules of one policy resemble each other: thousands may share a directory, and every one may
//! begin or end in `**`. Sharing beginnings and ends keeps the sets small that the subset
//! construction works with; with a loop of its own for each of twenty rules `**/x/**`, it would
//! remember for every one of them whether it matched, in a million states.

use std::collections::{BTreeMap, HashMap};

use wasi_guard_abi::operation::right;

use crate::model::{PathRule, Preopen, RuleNumber};
use crate::pattern::{Element, NamePattern, Part};

/// A step from one node of the trie to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Edge {
    /// One name that matches.
    Name(NamePattern),
    /// Any number of names, none included.
    Names,
}

/// What it means to stand at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label {
    /// The preopen in whose rules it stands.
    pub(super) preopen: usize,
    pub(super) effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// A right is granted.
    Grant(u16),
    /// A rule denies.
    Deny(RuleNumber),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// Where each edge leads; edges by their number in [`Trie::edges`].
    pub(super) edges: BTreeMap<usize, usize>,
    /// The node was reached by [`Edge::Names`]: any name leads back to it.
    pub(super) loops: bool,
    /// Indices into [`Trie::labels`], ascending.
    pub(super) labels: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Trie {
    pub(super) nodes: Vec<Node>,
    pub(super) labels: Vec<Label>,
    /// Different edges.
    pub(super) edges: Vec<Edge>,
    pub(super) starts: Vec<usize>,
    label_numbers: HashMap<Label, usize>,
    edge_numbers: HashMap<Edge, usize>,
}

impl Trie {
    fn new(starts: usize) -> Self {
        Self {
            nodes: vec![Node::default(); starts],
            labels: Vec::new(),
            edges: Vec::new(),
            starts: (0..starts).collect(),
            label_numbers: HashMap::new(),
            edge_numbers: HashMap::new(),
        }
    }

    fn add<'e>(&mut self, start: usize, edges: impl IntoIterator<Item = &'e Edge>, label: Label) {
        let mut at = start;
        for edge in edges {
            let number = match self.edge_numbers.get(edge) {
                Some(number) => *number,
                None => {
                    self.edges.push(edge.clone());
                    self.edge_numbers.insert(edge.clone(), self.edges.len() - 1);
                    self.edges.len() - 1
                }
            };
            at = match self.nodes[at].edges.get(&number) {
                Some(next) => *next,
                None => {
                    let loops = *edge == Edge::Names;
                    self.nodes.push(Node { loops, ..Node::default() });
                    let next = self.nodes.len() - 1;
                    self.nodes[at].edges.insert(number, next);
                    next
                }
            };
        }
        let number = *self.label_numbers.entry(label).or_insert_with(|| {
            self.labels.push(label);
            self.labels.len() - 1
        });
        let labels = &mut self.nodes[at].labels;
        if let Err(place) = labels.binary_search(&number) {
            labels.insert(place, number);
        }
    }

    /// Makes nodes from which the same paths lead to the same labels one node.
    fn share_ends(mut self) -> Self {
        let mut same: HashMap<Node, usize> = HashMap::new();
        let mut number = vec![0; self.nodes.len()];
        let mut nodes: Vec<Node> = Vec::new();
        // A node is made after the one that leads to it, so this meets children first.
        for (at, mut node) in std::mem::take(&mut self.nodes).into_iter().enumerate().rev() {
            for next in node.edges.values_mut() {
                *next = number[*next];
            }
            number[at] = *same.entry(node).or_insert_with_key(|node| {
                nodes.push(node.clone());
                nodes.len() - 1
            });
        }
        self.nodes = nodes;
        for start in &mut self.starts {
            *start = number[*start];
        }
        self
    }
}

/// The patterns of all preopens from the last name to the first. With `joined`, the first deny
/// rule of a preopen stands for all of them.
pub(super) fn leaf_first(preopens: &[Preopen], joined: bool) -> Trie {
    let mut trie = Trie::new(1);
    for (index, preopen) in preopens.iter().enumerate() {
        let first = preopen.deny.iter().map(|rule| rule.number).min().filter(|_| joined);
        for_each_path(preopen, |edges, effect| {
            let effect = match (effect, first) {
                (Effect::Deny(_), Some(first)) => Effect::Deny(first),
                (effect, _) => effect,
            };
            trie.add(0, edges.iter().rev(), Label { preopen: index, effect });
        });
    }
    trie.share_ends()
}

/// The patterns of each preopen from the first name to the last, with a start for each preopen.
/// Which rule denies makes no difference here.
pub(super) fn root_first(preopens: &[Preopen]) -> Trie {
    let mut trie = Trie::new(preopens.len());
    for (start, preopen) in preopens.iter().enumerate() {
        for_each_path(preopen, |edges, effect| {
            let effect = match effect {
                Effect::Deny(_) => Effect::Deny(0),
                grant => grant,
            };
            trie.add(start, edges, Label { preopen: 0, effect });
        });
    }
    trie.share_ends()
}

/// Calls `path` with every sequence of names that has an effect, root first.
fn for_each_path(preopen: &Preopen, mut path: impl FnMut(&[Edge], Effect)) {
    for (bit, rules) in preopen.grants() {
        for parts in all_parts(rules) {
            granted(parts, bit, &mut path);
            // Directories on the way to a name that could match have STAT.
            for length in 0..parts.len() {
                path(&inner_edges(&parts[..length]), Effect::Grant(right::STAT));
            }
        }
    }
    for rule in &preopen.deny {
        for pattern in rule.pattern.alternatives() {
            let mut edges = whole_edges(&pattern.parts);
            // What lies below a denied name is denied; `**` at the end says so already.
            if pattern.parts.last() != Some(&Part::Names) {
                edges.push(Edge::Names);
            }
            path(&edges, Effect::Deny(rule.number));
        }
    }
}

fn all_parts(rules: &[PathRule]) -> impl Iterator<Item = &[Part]> {
    rules
        .iter()
        .flat_map(|rule| rule.pattern.alternatives())
        .map(|pattern| pattern.parts.as_slice())
}

fn granted(parts: &[Part], bit: u16, path: &mut impl FnMut(&[Edge], Effect)) {
    let never_root = bit == right::CREATE || bit == right::DELETE;
    match parts {
        // The preopen itself can be neither created nor deleted.
        [] if never_root => {}
        [Part::Names] if never_root => path(&below(), Effect::Grant(bit)),
        _ => path(&whole_edges(parts), Effect::Grant(bit)),
    }
}

/// A whole pattern; `**` at its end, unless alone, is one or more names.
fn whole_edges(parts: &[Part]) -> Vec<Edge> {
    match parts {
        [upper @ .., Part::Names] if !upper.is_empty() => {
            let mut edges = inner_edges(upper);
            edges.extend(below());
            edges
        }
        _ => inner_edges(parts),
    }
}

/// The beginning of a pattern; `**` is zero or more names.
fn inner_edges(parts: &[Part]) -> Vec<Edge> {
    parts
        .iter()
        .map(|part| match part {
            Part::Name(name) => Edge::Name(name.clone()),
            Part::Names => Edge::Names,
        })
        .collect()
}

/// One or more names.
fn below() -> [Edge; 2] {
    [Edge::Names, Edge::Name(NamePattern { elements: vec![Element::Star] })]
}
