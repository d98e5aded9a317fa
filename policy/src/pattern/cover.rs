//! Does one pattern deny everything that another one could grant?
//!
//! Answers "yes" only where it can prove it, and so serves for errors: a rule that lies wholly
//! in the shadow of a deny rule can never match. It looks at one pair of patterns; a rule that
//! only several deny rules together shadow is not found.

use std::collections::HashMap;

use super::{Element, NamePattern, Part, PathPattern, Pattern};

/// Deny patterns, arranged so that those that could cover a pattern are found without looking at
/// each: a policy may have thousands of both.
#[derive(Default)]
pub(crate) struct Shadows<'p> {
    /// By the literal names with which an alternative begins.
    by_beginning: HashMap<Vec<&'p [Element]>, Vec<usize>>,
    patterns: Vec<&'p Pattern>,
}

impl<'p> Shadows<'p> {
    /// Adds a pattern; patterns count from 0.
    pub(crate) fn add(&mut self, pattern: &'p Pattern) {
        let number = self.patterns.len();
        for alternative in pattern.alternatives() {
            let beginning = literal_beginning(alternative);
            self.by_beginning.entry(beginning).or_default().push(number);
        }
        self.patterns.push(pattern);
    }

    /// The first pattern that alone denies all of `inner`, as far as that can be proven.
    pub(crate) fn first_over(&self, inner: &Pattern) -> Option<usize> {
        // A pattern that covers all alternatives covers the first; and where its beginning is
        // literal, so is that of what it covers.
        let beginning = literal_beginning(inner.alternatives().first()?);
        let mut candidates: Vec<usize> = (0..=beginning.len())
            .filter_map(|length| self.by_beginning.get(&beginning[..length]))
            .flatten()
            .copied()
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.into_iter().find(|number| denies_all_of(self.patterns[*number], inner))
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

/// Whether every name that `inner` matches is matched by `outer` or lies below a name that
/// `outer` matches. False if in doubt.
fn denies_all_of(outer: &Pattern, inner: &Pattern) -> bool {
    inner
        .alternatives()
        .iter()
        .all(|inner| outer.alternatives().iter().any(|outer| covers(outer, inner)))
}

fn covers(outer: &PathPattern, inner: &PathPattern) -> bool {
    let (outer, inner) = (&outer.parts[..], &inner.parts[..]);
    if outer.is_empty() || outer == [Part::Names] {
        // `.` and `**` deny the preopen itself, and so everything.
        return true;
    }
    // Most pairs of a large policy part ways here.
    if let (Some(Part::Name(a)), Some(Part::Name(b))) = (outer.first(), inner.first())
        && start_differently(a, b)
    {
        return false;
    }
    // Every path that the inner parts from `i` on stand for has at least one name. A `**` at
    // the end of a longer pattern stands for at least one; alone it may stand for none.
    let some_name = |i: usize| {
        inner[i..].iter().any(|part| matches!(part, Part::Name(_)))
            || (i > 0 && inner[i..].last() == Some(&Part::Names))
    };
    // `covered[i]` for the outer parts from `o` on: the inner parts from `i` on are covered.
    let mut covered = vec![true; inner.len() + 1];
    for o in (0..outer.len()).rev() {
        let last = o + 1 == outer.len();
        let mut row = vec![false; inner.len() + 1];
        for i in (0..=inner.len()).rev() {
            row[i] = match (&outer[o], inner.get(i)) {
                // One or more names below.
                (Part::Names, _) if last => some_name(i),
                (Part::Names, part) => covered[i] || (part.is_some() && row[i + 1]),
                // `*` takes whatever name comes first, and what is below is denied too.
                (Part::Name(wide), Some(_)) if last && wide.is_any() => some_name(i),
                (Part::Name(wide), Some(Part::Name(narrow))) => {
                    covers_name(wide, narrow) && covered[i + 1]
                }
                (Part::Name(_), _) => false,
            };
        }
        covered = row;
    }
    covered[0]
}

/// Whether the literal beginnings of two patterns show that no name matches both.
fn start_differently(a: &NamePattern, b: &NamePattern) -> bool {
    a.elements
        .iter()
        .zip(&b.elements)
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
                (wide, Some(narrow)) => covers_element(wide, narrow) && covered[n + 1],
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
mod tests {
    use super::*;

    /// Also: the arrangement by beginnings finds what the comparison finds.
    fn denies(outer: &str, inner: &str) -> bool {
        let [outer, inner] = [outer, inner].map(|text| Pattern::parse(text).unwrap());
        let other = Pattern::parse("other/x").unwrap();
        let mut shadows = Shadows::default();
        shadows.add(&other);
        shadows.add(&outer);
        let found = shadows.first_over(&inner) == Some(1);
        assert_eq!(found, denies_all_of(&outer, &inner), "{outer} {inner}");
        found
    }

    #[test]
    fn proven_shadows() {
        for (outer, inner) in [
            ("**", "a/b"),
            (".", "**"),
            ("secret", "secret/a/b"),
            ("secret", "secret/**"),
            ("secret/**", "secret/**"),
            ("secret/**", "secret/a"),
            ("secret/*", "secret/**"),
            ("**/*.pem", "keys/a.pem"),
            ("**/*.pem", "a.pem/b"),
            ("**/*.pem", "**/a*.pem"),
            ("*", "a"),
            ("*", "**/a"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/*/b/c"),
            ("a/**/b", "a/**/b"),
            ("{a,b}", "{b,a}/c"),
            ("[a-f]?", "[b-c]x"),
        ] {
            assert!(denies(outer, inner), "{outer} denies all of {inner}");
        }
    }

    #[test]
    fn no_shadow_where_a_name_stays_free() {
        for (outer, inner) in [
            ("secret/**", "secret"),
            ("secret/**", "**"),
            ("*", "**"),
            ("a/*", "a"),
            ("a/*/*", "a/**"),
            ("**/*.pem", "**"),
            ("a/**/b", "a/**/c"),
            ("a/**", "**/a"),
            ("a", "{a,b}"),
            ("?", "*"),
            ("a?", "a"),
            ("[!a]", "?"),
            ("**/x", "**"),
            ("a/**/b", "a/**"),
        ] {
            assert!(!denies(outer, inner), "{outer} does not deny all of {inner}");
        }
    }
}
