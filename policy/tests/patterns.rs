//! The pattern language has one meaning everywhere: parser, evaluator, compiled table and the
//! search for covered rules against a matcher that reads the text of the pattern.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;
mod naive;

use common::{borrow, policy};
use proptest::prelude::*;
use wasi_guard_abi::operation::right;
use wasi_guard_policy::evaluate::rights;
use wasi_guard_policy::pattern::Pattern;
use wasi_guard_policy::{Addresses, Diagnostic, Source, compile, load};

/// Pieces of patterns with everything that the language has.
const PIECES: &[&str] = &[
    "a",
    "b",
    "c",
    "ab",
    "ä",
    "€",
    ".",
    "-",
    "!",
    ",",
    "*",
    "**",
    "?",
    "/",
    "/",
    "/**/",
    "\\*",
    "\\?",
    "\\\\",
    "\\[",
    "\\{",
    "\\,",
    "\\a",
    "\\ä",
    "[ab]",
    "[a-c]",
    "[!a]",
    "[^a-c]",
    "[]a]",
    "[^]]",
    "[a-]",
    "[\\]-a]",
    "[.]",
    "[!\\!]",
    "{a,b}",
    "{a,}",
    "{,ab}",
    "{a,b/c}",
    "{a/**,b}",
    "{**,a}",
    "{*,b}",
    "{a,{b,c}?}",
    "{[,],\\,}",
    "{\\},a}",
];

/// A pattern that the parser takes.
fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::collection::vec(prop::sample::select(PIECES), 1..6)
            .prop_map(|pieces| pieces.concat()),
        3 => common::pattern(),
    ]
    .prop_filter("a pattern", |text| Pattern::parse(text).is_ok())
}

/// Any bytes that a name may have.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(b"abc.-]*?{\\,!".to_vec()),
        2 => 1..=u8::MAX,
        1 => prop::sample::select(vec![0xc3, 0xa4, 0xe2, 0x82, 0xac, 0xed, 0xa0, 0xf0, 0xf4, 0x80]),
    ];
    prop::collection::vec(byte.prop_filter("no name has it", |byte| *byte != b'/'), 1..5)
        .prop_filter("a name", |name| name != b"." && name != b"..")
}

/// Paths for patterns: some at random, some that a pattern asks for, and neighbours of these.
fn paths(patterns: &[String], random: &[Vec<Vec<u8>>], seed: u64) -> Vec<Vec<Vec<u8>>> {
    let mut state = seed;
    let mut next = move |bound: usize| {
        // Knuth's constants (The Art of Computer Programming, volume 2, 3.3.4).
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut paths = random.to_vec();
    for pattern in patterns {
        for _ in 0..8 {
            let path = naive::example(pattern, &mut next);
            let mut longer = path.clone();
            longer.push(b"a".to_vec());
            let mut other = path.clone();
            if let Some(name) = other.last_mut() {
                name.push(*[b'a', 0xa4, 0xff].get(next(3)).unwrap_or(&b'b'));
            }
            let shorter = path[..path.len().saturating_sub(1)].to_vec();
            paths.extend([path, longer, other, shorter]);
        }
    }
    paths
}

fn random_paths() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    prop::collection::vec(prop::collection::vec(name(), 0..4), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn evaluator_and_table_match_what_the_text_says(
        text in pattern(),
        random in random_paths(),
        seed in any::<u64>(),
    ) {
        let lists = |read: &str, deny: Vec<String>| {
            [vec![read.to_owned()], vec![], vec![], vec![], deny]
        };
        // The same pattern as a grant and as a denial.
        let policy = policy(&[lists(&text, vec![]), lists("**", vec![text.clone()])]);
        let table = compile(&policy, &Addresses::new()).unwrap();
        for path in paths(std::slice::from_ref(&text), &random, seed) {
            let names = borrow(&path);
            let granted = rights(&policy, 0, &names);
            prop_assert_eq!(
                granted.rights & right::READ != 0,
                naive::matches(&text, &path),
                "{} {:?}", text, path
            );
            let denied = rights(&policy, 1, &names);
            prop_assert_eq!(
                denied.deny_rule != 0,
                naive::denies(&text, &path),
                "deny {} {:?}", text, path
            );
            for (preopen, meant) in [granted, denied].into_iter().enumerate() {
                let found = table.rights(preopen, &names);
                prop_assert_eq!(
                    (found.rights, found.deny_rule),
                    (meant.rights, meant.deny_rule),
                    "{} {:?}", text, path
                );
            }
        }
    }

    /// Every directory above a name that matches has STAT.
    #[test]
    fn what_is_on_the_way_can_be_looked_at(
        text in pattern(),
        random in random_paths(),
        seed in any::<u64>(),
    ) {
        let policy = policy(&[[vec![text.clone()], vec![], vec![], vec![], vec![]]]);
        for path in paths(std::slice::from_ref(&text), &random, seed) {
            if !naive::matches(&text, &path) {
                continue;
            }
            for length in 0..=path.len() {
                let above = rights(&policy, 0, &borrow(&path[..length]));
                prop_assert!(above.rights & right::STAT != 0, "{} {:?} {}", text, path, length);
            }
        }
    }

    /// Where loading a policy says that one rule covers another, it does.
    #[test]
    fn a_covered_rule_is_covered(
        texts in prop::collection::vec(pattern(), 2..10),
        random in random_paths(),
        seed in any::<u64>(),
    ) {
        let paths = paths(&texts, &random, seed);
        for a in &texts {
            for b in texts.iter().filter(|b| *b != a) {
                let found = diagnostics(&format!("deny = ['{a}']\nread = ['{b}']"));
                if found.iter().any(|it| it.message.contains("can never match: line")) {
                    for path in paths.iter().filter(|path| naive::matches(b, path)) {
                        prop_assert!(naive::denies(a, path), "deny {} read {} {:?}", a, b, path);
                    }
                }
                let found = diagnostics(&format!("read = [\n'{a}',\n'{b}',\n]"));
                for covered in found.iter().filter(|it| it.message.contains("already grants")) {
                    let (narrow, wide) = if covered.line == 6 { (a, b) } else { (b, a) };
                    for path in paths.iter().filter(|path| naive::matches(narrow, path)) {
                        prop_assert!(naive::matches(wide, path), "{} {} {:?}", wide, narrow, path);
                    }
                }
            }
        }
    }
}

/// What loading a policy with these lists, from line 5 on, has to say.
fn diagnostics(lists: &str) -> Vec<Diagnostic> {
    let text = format!("version = 1\n[[preopen]]\nguest = '/a'\nhost = 'a'\n{lists}\n");
    load(&Source::new("p", text)).map_or_else(|errors| errors, |(_, warnings)| warnings)
}

/// The properties above say nothing where nothing is covered and nothing matches.
#[test]
fn the_examples_match_and_covers_are_found() {
    let mut matched = 0;
    let mut all = 0;
    for text in PIECES.iter().filter(|text| Pattern::parse(text).is_ok()) {
        for path in paths(&[(*text).to_owned()], &[], 1) {
            all += 1;
            matched += usize::from(naive::matches(text, &path));
        }
    }
    assert!(matched * 4 > all && matched < all, "{matched} of {all}");
    for (lists, line, wanted) in [
        ("read = [\n'a/**',\n'{a/b,a/c}',\n]", 7, "line 6 already grants everything"),
        ("read = [\n'{a/b,a/c}',\n'a/**',\n]", 6, "line 7 already grants everything"),
        ("read = ['a/c/b']\ndeny = ['a/[!b]']", 5, "can never match: line 6"),
    ] {
        let found = diagnostics(lists);
        assert_eq!((found.len(), found[0].line), (1, line), "{lists}");
        assert!(found[0].message.contains(wanted), "{found:?}");
    }
    assert_eq!(diagnostics("read = ['a/*/b']\ndeny = ['a/[!b]']"), []);
}

/// Each row of the table in docs/policy-reference.md and each sentence below it.
#[test]
fn the_reference_says_what_the_matchers_do() {
    for (text, yes, no) in [
        ("*", &["a", ".hidden", "\u{1}"][..], &["a/b", ""][..]),
        ("?", &["a", "ä", "€"], &["ab", "", "a/b"]),
        ("[a-z_]", &["_", "q"], &["A", "ä", "ab"]),
        ("[!a-z]", &["A", "ä"], &["a", "Ab"]),
        ("[^a-z]", &["A", "ä"], &["a"]),
        ("{a,b/c,{d,e}f}", &["a", "b/c", "df", "ef"], &["b", "c", "f", "d"]),
        ("x{,.bak}", &["x", "x.bak"], &["x."]),
        (r"\*\\\[", &[r"*\["], &[r"a\["]),
        ("[]]", &["]"], &["[", "]]"]),
        ("[a-]", &["a", "-"], &["b"]),
        ("**/x", &["x", "a/x", "a/b/x"], &["x/a", ""]),
        ("a/**/x", &["a/x", "a/b/c/x"], &["x", "a"]),
        ("a/**", &["a/b", "a/b/c"], &["a", ""]),
        ("**", &["", "a", "a/b"], &[]),
        (".", &[""], &["a", ".a"]),
        ("{*,a}*", &["a", "b"], &["a/b"]),
    ] {
        let policy = policy(&[[vec![text.into()], vec![], vec![], vec![], vec![]]]);
        for (paths, wanted) in [(yes, true), (no, false)] {
            for path in paths {
                let path: Vec<Vec<u8>> =
                    path.split('/').filter(|it| !it.is_empty()).map(|it| it.into()).collect();
                let read = rights(&policy, 0, &borrow(&path)).rights & right::READ != 0;
                assert_eq!(read, wanted, "{text} {path:?}");
                assert_eq!(naive::matches(text, &path), wanted, "{text} {path:?}");
            }
        }
    }
}
