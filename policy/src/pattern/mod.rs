//! Patterns over names below a preopen.
//!
//! The text of a pattern becomes a [`Pattern`]: a few [`PathPattern`]s (one for each way to
//! choose from its `{a,b}` groups), each a list of [`Part`]s, one a name. Validation, compiler
//! and evaluator share this syntax tree and nothing else: how it is matched is written twice on
//! purpose, once as automata in [`mod@crate::compile`] and once piece by piece in
//! [`mod@crate::evaluate`], and tests hold the two against each other.

pub(crate) mod cover;
mod expand;
mod parse;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

pub use parse::PatternError;

/// Longest pattern text, in bytes (the kernel's PATH_MAX).
pub const MAX_PATTERN_BYTES: usize = 4096;
/// Longest name of a file, in bytes (the kernel's NAME_MAX).
pub const MAX_NAME_BYTES: usize = 255;
/// Most names in one pattern.
pub const MAX_PATTERN_NAMES: usize = 128;
/// Most patterns that the `{a,b}` groups of one pattern may stand for.
pub const MAX_ALTERNATIVES: usize = 256;

/// A checked pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    alternatives: Vec<PathPattern>,
}

impl Pattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// Every text that is not in the language of `docs/policy-reference.md`; the error names the
    /// bytes of `text` that it is about.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let alternatives = parse::parse(text)?;
        Ok(Self { text: text.to_owned(), alternatives })
    }

    /// `**`: the preopen and everything below it.
    pub fn everything() -> Self {
        let alternatives = vec![PathPattern { parts: vec![Part::Names] }];
        Self { text: "**".into(), alternatives }
    }

    /// `.`: the preopen itself.
    pub(crate) fn root() -> Self {
        Self { text: ".".into(), alternatives: vec![PathPattern { parts: Vec::new() }] }
    }

    /// The same text, but about the preopen itself only.
    pub(crate) fn only_root(self) -> Self {
        Self { text: self.text, ..Self::root() }
    }

    /// The pattern that matches one path only, given by its names.
    pub(crate) fn literal<'n>(names: impl IntoIterator<Item = &'n [u8]>) -> Self {
        let names: Vec<&[u8]> = names.into_iter().collect();
        let text = String::from_utf8_lossy(&names.join(&b'/')).into_owned();
        let part = |name: &&[u8]| {
            let elements = name.iter().map(|byte| Element::Byte(*byte)).collect();
            Part::Name(NamePattern { elements })
        };
        Self { text, alternatives: vec![PathPattern { parts: names.iter().map(part).collect() }] }
    }

    /// The pattern as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The patterns without groups that it stands for: a name matches if one of them does.
    pub fn alternatives(&self) -> &[PathPattern] {
        &self.alternatives
    }

    /// Whether it matches the name or path of something that lies below no preopen, such as
    /// `sched/sched_switch` or `eth0`. `/` separates names; `.` alone is what the pattern `.` stands
    /// for. No other text with an empty name, `.` or `..` matches, nor one with NUL or of more than
    /// [`MAX_PATTERN_BYTES`] bytes.
    pub fn matches(&self, text: &str) -> bool {
        crate::evaluate::text_matches(self, text)
    }

    /// Whether it matches the preopen itself.
    pub fn matches_root(&self) -> bool {
        self.alternatives.iter().any(PathPattern::matches_root)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A pattern without groups: what each name of a path must look like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern {
    /// From the preopen down. Empty: the preopen itself (`.`).
    pub parts: Vec<Part>,
}

impl PathPattern {
    /// `**` alone, or `.`.
    pub fn matches_root(&self) -> bool {
        self.parts.is_empty() || self.is_everything()
    }

    /// The names of the only path that matches, or of the directory below which everything
    /// matches (`a/b/**`); none for the preopen itself and everything below it.
    pub fn literal_names(&self) -> Option<Vec<Vec<u8>>> {
        let named = match &self.parts[..] {
            [named @ .., Part::Names] => named,
            named => named,
        };
        named
            .iter()
            .map(|part| match part {
                Part::Name(name) => name.literal(),
                Part::Names => None,
            })
            .collect()
    }

    /// Whether no file can have such a path, because of one of its names.
    pub(crate) fn is_impossible(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Name(name) if name.is_impossible()))
    }

    /// Whether a path of this many names can match.
    pub(crate) fn can_have(&self, names: &RangeInclusive<usize>) -> bool {
        let named = self.parts.iter().filter(|part| **part != Part::Names).count();
        let least = match self.parts.last() {
            Some(Part::Names) if !self.is_everything() => named + 1,
            _ => named,
        };
        least <= *names.end() && (named != self.parts.len() || *names.start() <= named)
    }

    /// `**` alone.
    pub fn is_everything(&self) -> bool {
        self.parts == [Part::Names]
    }
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Exactly one name.
    Name(NamePattern),
    /// `**`: zero or more names in front or in the middle, one or more at the end; alone
    /// everything, the preopen included. Never next to another one.
    Names,
}

/// What a single name must look like. Never empty; matches no empty name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePattern {
    /// In order.
    pub elements: Vec<Element>,
}

impl NamePattern {
    /// The name, if it is the only one that matches.
    pub fn literal(&self) -> Option<Vec<u8>> {
        self.elements
            .iter()
            .map(|element| match element {
                Element::Byte(byte) => Some(*byte),
                _ => None,
            })
            .collect()
    }

    /// Whether it matches only names that no file has: longer than [`MAX_NAME_BYTES`], `.` or
    /// `..`.
    fn is_impossible(&self) -> bool {
        let dot = AsciiSet::from([b'.']);
        let least = self.elements.iter().filter(|it| **it != Element::Star).count();
        let only_dots = self.elements.len() <= 2
            && self.elements.iter().all(|element| match element {
                Element::Byte(byte) => *byte == b'.',
                Element::OneOf(set) => *set == dot,
                _ => false,
            });
        least > MAX_NAME_BYTES || only_dots
    }

    /// `*`: every name.
    pub fn is_any(&self) -> bool {
        self.elements == [Element::Star]
    }
}

/// A piece of a name's pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// This byte.
    Byte(u8),
    /// One character in UTF-8 that is neither `/` nor NUL (`?`).
    Char,
    /// One of these ASCII characters (`[a-z]`); never `/` or NUL. Not empty.
    OneOf(AsciiSet),
    /// One character in UTF-8 that is neither `/` nor NUL nor one of these (`[!a-z]`).
    NoneOf(AsciiSet),
    /// Any number of bytes that are neither `/` nor NUL (`*`). Never next to another one.
    Star,
}

/// A set of ASCII characters.
pub type AsciiSet = BTreeSet<u8>;
