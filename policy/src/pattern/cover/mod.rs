//! Does one pattern deny, or match, everything that another one matches?
//!
//! Answers "yes" only where it can prove it, and so serves for errors and warnings: a rule that
//! lies wholly in the shadow of a deny rule can never match, and one that a wider rule of the same
//! list covers grants nothing. It looks at one pair of patterns; a rule that only several others
//! together shadow is not found.

use std::cell::Cell;
use std::collections::HashMap;

use super::{Element, MAX_PATTERN_NAMES, NamePattern, Part, PathPattern, Pattern};

/// How far a pattern reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To the names that it matches: a rule that grants.
    Names,
    /// To these and everything below them: a deny rule.
    Below,
}

/// Patterns of one kind, arranged so that those that could cover another one are found without
/// looking at each: a policy may have thousands of both.
pub(crate) struct Shadows<'p> {
    reach: Reach,
    /// By the literal names with which an alternative begins.
    by_beginning: HashMap<Vec<&'p [Element]>, Vec<usize>>,
    patterns: Vec<&'p Pattern>,
    /// Comparisons that may still be made.
    left: Cell<usize>,
}

/// Comparisons of two patterns for one list. Only thousands of patterns that begin alike ask for
/// more; to look for what can be left out of these is not worth the time.
const MAX_COMPARISONS: usize = 5_000_000;

impl<'p> Shadows<'p> {
    /// The shadows of these patterns, which count from 0.
    pub(crate) fn of(reach: Reach, patterns: impl IntoIterator<Item = &'p Pattern>) -> Self {
        let patterns: Vec<&Pattern> = patterns.into_iter().collect();
        let mut by_beginning: HashMap<_, Vec<usize>> = HashMap::new();
        for (number, pattern) in patterns.iter().enumerate() {
            for alternative in pattern.alternatives() {
                by_beginning.entry(literal_beginning(alternative)).or_default().push(number);
            }
        }
        Self { reach, by_beginning, patterns, left: Cell::new(MAX_COMPARISONS) }
    }

    /// The first pattern that alone covers all of `inner`, as far as that can be proven.
    pub(crate) fn first_over(&self, inner: &Pattern) -> Option<usize> {
        self.over(inner).next()
    }

    /// The first other pattern that alone covers pattern `number`. Of two that cover each other
    /// only the earlier one counts.
    pub(crate) fn first_over_own(&self, number: usize) -> Option<usize> {
        let inner = *self.patterns.get(number)?;
        self.over(inner).find(|other| {
            let wider = *other > number && covers_all(self.reach, inner, self.patterns[*other]);
            *other != number && !wider
        })
    }

    fn over(&self, inner: &Pattern) -> impl Iterator<Item = usize> {
        // A pattern that covers all alternatives covers the first; and where its beginning is
        // literal, so is that of what it covers.
        let beginning = inner.alternatives().first().map(literal_beginning).unwrap_or_default();
        let mut candidates: Vec<usize> = (0..=beginning.len())
            .filter_map(|length| self.by_beginning.get(&beginning[..length]))
            .flatten()
            .copied()
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.into_iter().filter(move |number| {
            let left = self.left.get();
            self.left.set(left.saturating_sub(1));
            left > 0 && covers_all(self.reach, self.patterns[*number], inner)
        })
    }
}

fn literal_beginning(pattern: &PathPattern) -> Vec<&[Element]> {
    pattern
        .parts
        .iter()
        .map_while(|part| match part {
            Part::Name(name) if name.literal().is_some() => Some(name.elements.as_slice()),
            _ => None,
        })
        .collect()
}

/// Whether `outer` reaches every name that `inner` matches. False if in doubt.
fn covers_all(reach: Reach, outer: &Pattern, inner: &Pattern) -> bool {
    inner
        .alternatives()
        .iter()
        .all(|inner| outer.alternatives().iter().any(|outer| covers(reach, outer, inner)))
}

fn covers(reach: Reach, outer: &PathPattern, inner: &PathPattern) -> bool {
    let (outer, inner) = (&outer.parts[..], &inner.parts[..]);
    let below = reach == Reach::Below;
    if outer == [Part::Names] || outer.is_empty() && (below || inner.is_empty()) {
        // `**` is everything; `.` denies the preopen itself, and so everything.
        return true;
    }
    // Most pairs of a large policy part ways here.
    if let (Some(Part::Name(a)), Some(Part::Name(b))) = (outer.first(), inner.first())
        && part_ways(a.elements.iter().zip(&b.elements))
    {
        return false;
    }
    // The parser makes no pattern of more names.
    const LENGTH: usize = MAX_PATTERN_NAMES + 1;
    if inner.len() >= LENGTH {
        return false;
    }
    // Every path that the inner parts from `i` on stand for has at least one name. A `**` at
    // the end of a longer pattern stands for at least one; alone it may stand for none.
    let some_name = |i: usize| {
        inner[i..].iter().any(|part| matches!(part, Part::Name(_)))
            || (i > 0 && inner[i..].last() == Some(&Part::Names))
    };
    // `covered[i]` for the outer parts from `o` on: the inner parts from `i` on are covered.
    let mut covered = [below; LENGTH];
    covered[inner.len()] = true;
    for o in (0..outer.len()).rev() {
        let last = o + 1 == outer.len();
        let mut row = [false; LENGTH];
        for i in (0..=inner.len()).rev() {
            row[i] = match (&outer[o], inner.get(i)) {
                // One or more names.
                (Part::Names, _) if last => some_name(i),
                (Part::Names, part) => covered[i] || (part.is_some() && row[i + 1]),
                // `*` takes whatever name comes first, and what is below is denied too.
                (Part::Name(wide), Some(_)) if below && last && wide.is_any() => some_name(i),
                (Part::Name(wide), Some(Part::Name(narrow))) => {
                    covered[i + 1] && covers_name(wide, narrow)
                }
                (Part::Name(_), _) => false,
            };
        }
        covered = row;
    }
    covered[0]
}

/// Whether literal bytes show that no name matches both patterns. The pairs are those of their
/// elements from one end on.
fn part_ways<'e>(pairs: impl Iterator<Item = (&'e Element, &'e Element)>) -> bool {
    pairs
        .map_while(|pair| match pair {
            (Element::Byte(a), Element::Byte(b)) => Some(a != b),
            _ => None,
        })
        .any(|differ| differ)
}

/// Whether every name that `narrow` matches is matched by `wide`. False if in doubt.
fn covers_name(wide: &NamePattern, narrow: &NamePattern) -> bool {
    if wide.is_any() {
        return true;
    }
    let (wide, narrow) = (&wide.elements[..], &narrow.elements[..]);
    if part_ways(wide.iter().zip(narrow)) || part_ways(wide.iter().rev().zip(narrow.iter().rev())) {
        return false;
    }
    // `covered[n]` for the wide elements from `w` on: the narrow ones from `n` on are covered.
    let mut covered: Vec<bool> = vec![false; narrow.len() + 1];
    covered[narrow.len()] = true;
    for element in wide.iter().rev() {
        let mut row = vec![false; narrow.len() + 1];
        for n in (0..=narrow.len()).rev() {
            row[n] = match (element, narrow.get(n)) {
                (Element::Star, None) => covered[n],
                (Element::Star, Some(_)) => covered[n] || row[n + 1],
                (_, None) => false,
                (wide, Some(narrow)) => covered[n + 1] && covers_element(wide, narrow),
            };
        }
        covered = row;
    }
    covered[0]
}

fn covers_element(wide: &Element, narrow: &Element) -> bool {
    match (wide, narrow) {
        (Element::Byte(a), Element::Byte(b)) => a == b,
        (Element::Char, Element::Byte(byte)) => byte.is_ascii(),
        (Element::Char, Element::Char | Element::OneOf(_) | Element::NoneOf(_)) => true,
        (Element::OneOf(set), Element::Byte(byte)) => set.contains(byte),
        (Element::OneOf(wide), Element::OneOf(narrow)) => narrow.is_subset(wide),
        (Element::Byte(byte), Element::OneOf(set)) => set.len() == 1 && set.contains(byte),
        (Element::NoneOf(set), Element::Byte(byte)) => byte.is_ascii() && !set.contains(byte),
        (Element::NoneOf(wide), Element::OneOf(narrow)) => wide.is_disjoint(narrow),
        (Element::NoneOf(wide), Element::NoneOf(narrow)) => wide.is_subset(narrow),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
