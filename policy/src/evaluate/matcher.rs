//! Matches names against patterns piece by piece, in the order of the definition.

use crate::pattern::{Element, MAX_PATTERN_BYTES, NamePattern, Part, PathPattern, Pattern};

/// Whether a pattern matches a path.
pub(super) fn matches(pattern: &PathPattern, path: &[&[u8]]) -> bool {
    if pattern.is_everything() {
        return true;
    }
    parts(&pattern.parts, path, true)
}

/// Whether a pattern matches a text that names something other than a file below a preopen.
pub(crate) fn text_matches(pattern: &Pattern, text: &str) -> bool {
    let path: Vec<&[u8]> = match text {
        "." => Vec::new(),
        text => text.split('/').map(str::as_bytes).collect(),
    };
    // `**` takes names without a look at them.
    let is_name =
        |name: &&[u8]| !name.is_empty() && !name.contains(&0) && *name != b"." && *name != b"..";
    text.len() <= MAX_PATTERN_BYTES
        && path.iter().all(is_name)
        && pattern.alternatives().iter().any(|pattern| matches(pattern, &path))
}

/// Whether a path is on the way to a name that the pattern could match: some proper beginning of
/// the pattern, cut between two names, matches it, where `**` is any number of names.
pub(super) fn leads_to(pattern: &PathPattern, path: &[&[u8]]) -> bool {
    (0..pattern.parts.len()).any(|length| parts(&pattern.parts[..length], path, false))
}

/// `whole`: a `**` at the end is one or more names; otherwise any number.
fn parts(pattern: &[Part], path: &[&[u8]], whole: bool) -> bool {
    let mut reached = Reached::start(path.len());
    for (number, part) in pattern.iter().enumerate() {
        let last = number + 1 == pattern.len();
        reached = match part {
            Part::Name(wanted) => reached.after(|at| {
                path.get(at).is_some_and(|name| name_matches(wanted, name)).then_some(1)
            }),
            Part::Names => reached.after_any(usize::from(whole && last)),
        };
    }
    reached.end()
}

pub(super) fn name_matches(pattern: &NamePattern, name: &[u8]) -> bool {
    // No name is empty, and none contains `/` or NUL.
    !name.is_empty()
        && !name.contains(&b'/')
        && !name.contains(&0)
        && elements(&pattern.elements, name)
}

fn elements(pattern: &[Element], name: &[u8]) -> bool {
    let mut reached = Reached::start(name.len());
    for element in pattern {
        reached = match element {
            Element::Star => reached.after_any(0),
            element => reached.after(|at| length(element, &name[at..])),
        };
    }
    reached.end()
}

/// How many bytes at the beginning of a name an element matches, which is not `*`.
fn length(element: &Element, name: &[u8]) -> Option<usize> {
    let first = *name.first()?;
    match element {
        Element::Byte(byte) => (first == *byte).then_some(1),
        Element::OneOf(set) => set.contains(&first).then_some(1),
        Element::Char => first_character(name).map(|(_, length)| length),
        Element::NoneOf(set) => first_character(name)
            .filter(|(character, _)| !u8::try_from(*character).is_ok_and(|it| set.contains(&it)))
            .map(|(_, length)| length),
        Element::Star => None,
    }
}

/// The places in a name or path at which what was read of a pattern can have ended. Trying them
/// one after the other would take exponential time in the number of wildcards, and the audit
/// asks about names that guests choose.
struct Reached(Vec<bool>);

impl Reached {
    fn start(length: usize) -> Self {
        let mut places = vec![false; length + 1];
        places[0] = true;
        Self(places)
    }

    /// After one more piece, of which `length` tells what it takes at a place, if it fits there.
    fn after(&self, length: impl Fn(usize) -> Option<usize>) -> Self {
        let mut next = vec![false; self.0.len()];
        for at in (0..self.0.len()).filter(|at| self.0[*at]) {
            if let Some(length) = length(at) {
                next[at + length] = true;
            }
        }
        Self(next)
    }

    /// After a piece that takes `least` or more.
    fn after_any(&self, least: usize) -> Self {
        let first = self.0.iter().position(|reached| *reached);
        let from = first.map_or(usize::MAX, |first| first + least);
        Self((0..self.0.len()).map(|at| at >= from).collect())
    }

    /// Whether everything was read.
    fn end(&self) -> bool {
        self.0.last() == Some(&true)
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
    fn texts_are_names_between_slashes() {
        let matched = |pattern: &str, text: &str| Pattern::parse(pattern).unwrap().matches(text);
        for (pattern, text) in [
            ("*", "eth0"),
            ("sched/*", "sched/sched_switch"),
            ("{net,tcp}/*", "tcp/tcp_probe"),
            ("**", "a/b/c"),
            ("**", "a"),
            (".", "."),
            ("**", "."),
            ("a/**/b", "a/b"),
            ("..a", "..a"),
        ] {
            assert!(matched(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*", ""),
            ("**", ""),
            (".", ""),
            ("*", "a/b"),
            ("*", "."),
            ("*", ".."),
            ("**", "a/../b"),
            ("**", "a//b"),
            ("**", "/a"),
            ("**", "a/"),
            ("**", "a\0"),
            ("**", "a/b\0/c"),
            ("*", "\0"),
            ("sched/*", "sched"),
            ("a", "A"),
        ] {
            assert!(!matched(pattern, text), "{pattern} {text:?}");
        }
        assert!(matched("*", &"a".repeat(MAX_PATTERN_BYTES)));
        assert!(!matched("*", &"a".repeat(MAX_PATTERN_BYTES + 1)));
    }

    #[test]
    fn surrogates_and_overlong_forms_are_no_characters() {
        check("?", &["\u{d7ff}".as_bytes()], &[b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"]);
    }

    /// Trying every way to share the name out takes years for these.
    #[test]
    fn many_wildcards_take_no_time() {
        let name = [b'a'; 255];
        check(&format!("{}b", "*a".repeat(60)), &[], &[&name]);
        check(&"*a".repeat(60), &[&name], &[b"aaa"]);
        let path = b"a/".repeat(100);
        check(&format!("{}b", "**/a/".repeat(60)), &[], &[&path]);
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
