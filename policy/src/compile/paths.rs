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
    pub(super) labels: Vec<Effect>,
    /// Different edges.
    pub(super) edges: Vec<Edge>,
    pub(super) starts: Vec<usize>,
    /// For each deny rule a node from which nothing leads but back to it: below a name that the
    /// rule denies.
    pub(super) denied: HashMap<RuleNumber, usize>,
    label_numbers: HashMap<Effect, usize>,
    edge_numbers: HashMap<Edge, usize>,
}

impl Trie {
    fn new(starts: usize) -> Self {
        Self {
            nodes: vec![Node::default(); starts],
            labels: Vec::new(),
            edges: Vec::new(),
            starts: (0..starts).collect(),
            denied: HashMap::new(),
            label_numbers: HashMap::new(),
            edge_numbers: HashMap::new(),
        }
    }

    fn add<'e>(&mut self, start: usize, edges: impl IntoIterator<Item = &'e Edge>, label: Effect) {
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

/// The patterns of each preopen from the first name to the last, with a start for each preopen.
pub(super) fn trie(preopens: &[Preopen]) -> Trie {
    let mut trie = Trie::new(preopens.len());
    for (start, preopen) in preopens.iter().enumerate() {
        for_each_path(preopen, |edges, effect| trie.add(start, edges, effect));
    }
    let mut trie = trie.share_ends();
    for (number, label) in trie.labels.iter().enumerate() {
        if let Effect::Deny(rule) = label {
            trie.nodes.push(Node { loops: true, labels: vec![number], ..Node::default() });
            trie.denied.insert(*rule, trie.nodes.len() - 1);
        }
    }
    trie
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
            // What lies below a denied name is denied. `**` at the end, unless alone, is one or
            // more names: the first of them is denied, and with it what lies below.
            let edges = match pattern.parts.as_slice() {
                [Part::Names] => vec![Edge::Names],
                [upper @ .., Part::Names] => {
                    let mut edges = inner_edges(upper);
                    edges.extend(below().into_iter().rev());
                    edges
                }
                parts => {
                    let mut edges = inner_edges(parts);
                    edges.push(Edge::Names);
                    edges
                }
            };
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
