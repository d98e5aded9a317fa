//! Do all names below one directory have the rights of the same names below another?
//!
//! Both directories are followed side by side, byte by byte, through every input that could make
//! a difference. Where a directory stands is the set of positions in the patterns at which
//! matching can go on; the comparison ends when no new pair of sets turns up.

use std::collections::{BTreeSet, HashSet, VecDeque};

use wasi_guard_abi::operation::right;

use crate::guest_path::Name;
use crate::model::Policy;
use crate::pattern::{AsciiSet, Element, Part};

/// Pairs of sets that a comparison may look at.
pub(super) const MAX_PAIRS: usize = 50_000;

/// The comparison is too large for the evaluator (more than 50,000 pairs of positions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("comparing the two directories takes more than {MAX_PAIRS} steps")]
pub struct SubtreeError;

/// Whether every name strictly below `a` has the same rights as the same name below `b`.
///
/// # Errors
/// [`SubtreeError`], for policies with very many overlapping patterns. Callers deny then.
pub fn same_rights_below(policy: &Policy, a: &Name, b: &Name) -> Result<bool, SubtreeError> {
    let sides = [Side::of(policy, a), Side::of(policy, b)];
    let start = [sides[0].standing(a), sides[1].standing(b)];
    let bytes: Vec<u8> =
        sides.iter().flat_map(Side::bytes).collect::<BTreeSet<u8>>().into_iter().collect();

    let mut seen: HashSet<[Standing; 2]> = HashSet::from([start.clone()]);
    let mut work = VecDeque::from([start]);
    while let Some([left, right]) = work.pop_front() {
        if left == right && a.preopen == b.preopen {
            continue;
        }
        for byte in &bytes {
            let next = [sides[0].step(&left, *byte), sides[1].step(&right, *byte)];
            if *byte == b'/' && sides[0].rights(&next[0]) != sides[1].rights(&next[1]) {
                return Ok(false);
            }
            if next.iter().all(Standing::is_empty) || seen.contains(&next) {
                continue;
            }
            if seen.len() == MAX_PAIRS {
                return Err(SubtreeError);
            }
            seen.insert(next.clone());
            work.push_back(next);
        }
    }
    Ok(true)
}

/// A pattern and what it does.
struct Listed<'p> {
    effect: Effect,
    pattern: &'p [Part],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Grant(u16),
    Deny,
}

/// The patterns of one preopen.
struct Side<'p> {
    patterns: Vec<Listed<'p>>,
}

/// Where matching can go on, for every pattern of a preopen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Standing {
    positions: BTreeSet<Position>,
    /// A deny pattern matched this name or one above.
    denied: bool,
    /// At least one byte of the current name has been read.
    inside: bool,
}

impl Standing {
    fn is_empty(&self) -> bool {
        self.denied || self.positions.is_empty()
    }
}

/// A place in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Position {
    /// Index of the pattern.
    pattern: usize,
    /// Part that comes next or is being read.
    part: usize,
    /// Element of the part that comes next.
    element: usize,
    /// Inside a character of several bytes.
    character: Option<Rest>,
    /// For `**`: how many names it has taken, 0 or 1 (for any more).
    taken: u8,
}

/// What is missing of a character: the bounds of its next byte, and how many follow that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Rest {
    low: u8,
    high: u8,
    more: u8,
}

impl<'p> Side<'p> {
    fn of(policy: &'p Policy, name: &Name) -> Self {
        let Some(preopen) = policy.preopens.get(name.preopen) else {
            return Self { patterns: Vec::new() };
        };
        let grants = preopen
            .grants()
            .into_iter()
            .flat_map(|(bit, rules)| rules.iter().map(move |rule| (Effect::Grant(bit), rule)));
        let denies = preopen.deny.iter().map(|rule| (Effect::Deny, rule));
        let patterns = grants
            .chain(denies)
            .flat_map(|(effect, rule)| {
                rule.pattern
                    .alternatives()
                    .iter()
                    .map(move |pattern| Listed { effect, pattern: &pattern.parts })
            })
            .collect();
        Self { patterns }
    }

    /// Where a directory stands.
    fn standing(&self, name: &Name) -> Standing {
        let all = (0..self.patterns.len()).map(|pattern| Position {
            pattern,
            part: 0,
            element: 0,
            character: None,
            taken: 0,
        });
        let mut standing = self.boundary(all, false);
        for component in &name.components {
            for byte in component.iter().chain(b"/") {
                standing = self.step(&standing, *byte);
            }
        }
        standing
    }

    /// Bytes that stand for every input: each that some pattern tells apart from others.
    fn bytes(&self) -> BTreeSet<u8> {
        // One of every kind that UTF-8 tells apart, and one that patterns rarely name.
        let mut bytes = BTreeSet::from([
            b'/', 0x01, 0x80, 0x90, 0xa0, 0xc0, 0xc2, 0xe0, 0xe1, 0xed, 0xee, 0xf0, 0xf1, 0xf4,
            0xf5,
        ]);
        let mut add = |byte: u8| {
            bytes.extend(
                [byte.checked_sub(1), Some(byte), byte.checked_add(1)].into_iter().flatten(),
            );
        };
        for part in self.patterns.iter().flat_map(|list| list.pattern) {
            let Part::Name(name) = part else { continue };
            for element in &name.elements {
                match element {
                    Element::Byte(byte) => add(*byte),
                    Element::OneOf(set) | Element::NoneOf(set) => {
                        set.iter().for_each(|byte| add(*byte));
                    }
                    Element::Char | Element::Star => {}
                }
            }
        }
        bytes.remove(&0);
        bytes
    }

    /// The standing at a component's end: `**` may also take nothing, deny takes effect.
    fn boundary(&self, positions: impl Iterator<Item = Position>, denied: bool) -> Standing {
        let mut all = BTreeSet::new();
        let mut work: Vec<Position> = positions.collect();
        while let Some(position) = work.pop() {
            if !all.insert(position) {
                continue;
            }
            let pattern = self.patterns[position.pattern].pattern;
            let last = position.part + 1 == pattern.len();
            if pattern.get(position.part) == Some(&Part::Names) && !last {
                work.push(Position { part: position.part + 1, taken: 0, ..position });
            }
        }
        let denied = denied
            || all.iter().any(|position| {
                self.patterns[position.pattern].effect == Effect::Deny && self.complete(position)
            });
        if denied {
            // Everything below is denied; where the patterns stand no longer matters.
            return Standing { denied, ..Standing::default() };
        }
        Standing { positions: all, denied, inside: false }
    }

    /// Whether the pattern matches the path so far.
    fn complete(&self, position: &Position) -> bool {
        let pattern = self.patterns[position.pattern].pattern;
        match pattern.get(position.part) {
            None => true,
            // `**` alone matches the preopen too; at the end of others it needs a name.
            Some(Part::Names) if position.part + 1 == pattern.len() => {
                position.taken > 0 || pattern.len() == 1
            }
            Some(_) => false,
        }
    }

    /// The rights of the name that ends at this boundary.
    fn rights(&self, standing: &Standing) -> u16 {
        if standing.denied {
            return 0;
        }
        let mut rights = 0;
        for position in &standing.positions {
            let Effect::Grant(bit) = self.patterns[position.pattern].effect else { continue };
            if self.complete(position) {
                rights |= bit;
            }
            // The pattern can go on: the name is on the way, whatever follows.
            rights |= right::STAT;
        }
        rights
    }

    fn step(&self, standing: &Standing, byte: u8) -> Standing {
        if standing.denied {
            return standing.clone();
        }
        let mut next = BTreeSet::new();
        for position in &standing.positions {
            self.advance(*position, byte, standing.inside, &mut next);
        }
        if byte == b'/' {
            // No name is empty.
            return match standing.inside {
                true => self.boundary(next.into_iter(), false),
                false => Standing::default(),
            };
        }
        Standing { positions: next, denied: false, inside: true }
    }

    fn advance(&self, at: Position, byte: u8, inside: bool, next: &mut BTreeSet<Position>) {
        let Some(part) = self.patterns[at.pattern].pattern.get(at.part) else { return };
        let Part::Name(name) = part else {
            // `**` takes whole names. What it is at between them was settled by `boundary`.
            if byte != b'/' {
                next.insert(at);
            } else if inside {
                next.insert(Position { taken: 1, ..at });
            }
            return;
        };
        if let Some(Rest { low, high, more }) = at.character {
            if !(low..=high).contains(&byte) {
                return;
            }
            next.insert(match more.checked_sub(1) {
                None => Position { character: None, element: at.element + 1, ..at },
                Some(more) => {
                    Position { character: Some(Rest { low: 0x80, high: 0xbf, more }), ..at }
                }
            });
            return;
        }
        let Some(element) = name.elements.get(at.element) else {
            if byte == b'/' && inside {
                next.insert(Position {
                    part: at.part + 1,
                    element: 0,
                    character: None,
                    taken: 0,
                    ..at
                });
            }
            return;
        };
        let taken = Position { element: at.element + 1, ..at };
        let character = |excluded: &AsciiSet| match byte {
            b'/' | 0 => None,
            byte if byte.is_ascii() => (!excluded.contains(&byte)).then_some(taken),
            lead => rest(lead).map(|rest| Position { character: Some(rest), ..at }),
        };
        match element {
            Element::Byte(wanted) => next.extend((byte == *wanted).then_some(taken)),
            Element::OneOf(set) => next.extend(set.contains(&byte).then_some(taken)),
            Element::Char => next.extend(character(&AsciiSet::new())),
            Element::NoneOf(set) => next.extend(character(set)),
            Element::Star => {
                if byte != b'/' {
                    next.insert(at);
                }
                self.advance(taken, byte, inside, next);
            }
        }
    }
}

/// What must follow the first byte of a character of several bytes (Unicode, table 3-7).
fn rest(lead: u8) -> Option<Rest> {
    let (low, high, more) = match lead {
        0xc2..=0xdf => (0x80, 0xbf, 0),
        0xe0 => (0xa0, 0xbf, 1),
        0xed => (0x80, 0x9f, 1),
        0xe1..=0xef => (0x80, 0xbf, 1),
        0xf0 => (0x90, 0xbf, 2),
        0xf1..=0xf3 => (0x80, 0xbf, 2),
        0xf4 => (0x80, 0x8f, 2),
        _ => return None,
    };
    Some(Rest { low, high, more })
}
