//! Matches names against patterns by trying, in the order of the definition.

use crate::pattern::{Element, NamePattern, Part, PathPattern};

/// Whether a pattern matches a path.
pub(super) fn matches(pattern: &PathPattern, path: &[&[u8]]) -> bool {
    if pattern.is_everything() {
        return true;
    }
    parts(&pattern.parts, path, true)
}

/// Whether a path is on the way to a name that the pattern could match: some proper beginning of
/// the pattern, cut between two names, matches it, where `**` is any number of names.
pub(super) fn leads_to(pattern: &PathPattern, path: &[&[u8]]) -> bool {
    (0..pattern.parts.len()).any(|length| parts(&pattern.parts[..length], path, false))
}

/// `whole`: a `**` at the end is one or more names; otherwise any number.
fn parts(pattern: &[Part], path: &[&[u8]], whole: bool) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return path.is_empty();
    };
    match first {
        Part::Name(wanted) => match path.split_first() {
            Some((name, below)) => name_matches(wanted, name) && parts(rest, below, whole),
            None => false,
        },
        Part::Names if rest.is_empty() => !whole || !path.is_empty(),
        Part::Names => (0..=path.len()).any(|skipped| parts(rest, &path[skipped..], whole)),
    }
}

pub(super) fn name_matches(pattern: &NamePattern, name: &[u8]) -> bool {
    // No name is empty, and none contains `/` or NUL.
    !name.is_empty()
        && !name.contains(&b'/')
        && !name.contains(&0)
        && elements(&pattern.elements, name)
}

fn elements(pattern: &[Element], name: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return name.is_empty();
    };
    match first {
        Element::Byte(byte) => name.first() == Some(byte) && elements(rest, &name[1..]),
        Element::Char => {
            first_character(name).is_some_and(|(_, length)| elements(rest, &name[length..]))
        }
        Element::OneOf(set) => {
            name.first().is_some_and(|byte| set.contains(byte)) && elements(rest, &name[1..])
        }
        Element::NoneOf(set) => first_character(name).is_some_and(|(character, length)| {
            let excluded = u8::try_from(character).is_ok_and(|byte| set.contains(&byte));
            !excluded && elements(rest, &name[length..])
        }),
        Element::Star => (0..=name.len()).any(|skipped| elements(rest, &name[skipped..])),
    }
}

/// The character in UTF-8 that a name starts with, and its length in bytes.
fn first_character(name: &[u8]) -> Option<(char, usize)> {
    (1..=name.len().min(4)).find_map(|length| {
        let text = std::str::from_utf8(&name[..length]).ok()?;
        text.chars().next().map(|character| (character, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;

    fn check(pattern: &str, yes: &[&[u8]], no: &[&[u8]]) {
        let parsed = Pattern::parse(pattern).unwrap();
        let matched = |path: &[u8]| {
            let path = crate::guest_path::names(path);
            parsed.alternatives().iter().any(|pattern| matches(pattern, &path))
        };
        for path in yes {
            assert!(matched(path), "{pattern} matches {}", path.escape_ascii());
        }
        for path in no {
            assert!(!matched(path), "{pattern} does not match {}", path.escape_ascii());
        }
    }

    #[test]
    fn the_examples_of_the_reference() {
        check("*", &[b"a", b".hidden", b"\xff"], &[b"", b"a/b"]);
        check("*.csv", &[b"a.csv", b".csv"], &[b"a.csv/b", b"x/a.csv", b"a.csvx"]);
        check("?", &[b"a", "ä".as_bytes(), "\u{10ffff}".as_bytes()], &[b"ab", b"\xff", b""]);
        check("[a-c]", &[b"b"], &[b"d", b"ab"]);
        check("[!a-c]", &[b"d", "ä".as_bytes()], &[b"a", b"\xff", b"dd"]);
        check("[^a]", &[b"b"], &[b"a"]);
        check("{a,b}.txt", &[b"a.txt", b"b.txt"], &[b"c.txt", b"ab.txt"]);
        check(r"\*", &[b"*"], &[b"a"]);
        check("**", &[b"", b"a", b"a/b/c"], &[]);
        check("a/**", &[b"a/b", b"a/b/c"], &[b"a", b"", b"ab/c"]);
        check("**/a", &[b"a", b"x/a", b"x/y/a"], &[b"a/x", b""]);
        check("a/**/b", &[b"a/b", b"a/x/b", b"a/x/y/b"], &[b"a", b"b", b"a/x"]);
        check(".", &[b""], &[b"a"]);
        check("**/x/**", &[b"x/a", b"y/x/a/b"], &[b"x", b"y/x"]);
    }

    #[test]
    fn surrogates_and_overlong_forms_are_no_characters() {
        check("?", &["\u{d7ff}".as_bytes()], &[b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"]);
    }

    #[test]
    fn what_leads_to_a_name() {
        let leads = |pattern: &str, path: &str| {
            let parsed = Pattern::parse(pattern).unwrap();
            let path = crate::guest_path::names(path.as_bytes());
            parsed.alternatives().iter().any(|pattern| leads_to(pattern, &path))
        };
        assert!(leads("a/b", "") && leads("a/b", "a") && !leads("a/b", "a/b"));
        assert!(!leads("a/b", "b"));
        assert!(leads("a/**/b", "a") && leads("a/**/b", "a/x/y"));
        assert!(leads("a/**", "a") && leads("a/**", ""));
        assert!(leads("**", "") && !leads(".", ""));
    }
}
