//! Random policies and names over a small alphabet, in which patterns meet often.

#![allow(dead_code, reason = "each test program uses a part")]

use proptest::prelude::*;
use wasi_guard_policy::pattern::Pattern;
use wasi_guard_policy::{
    Audit, Limits, Mode, Origin, PathRule, Policy, Preopen, PreopenKind, Rule, RuleKind, RuleNumber,
};

/// One preopen's lists: read, write, create, delete, deny.
pub(crate) type Lists = [Vec<String>; 5];

const KINDS: [RuleKind; 5] =
    [RuleKind::Read, RuleKind::Write, RuleKind::Create, RuleKind::Delete, RuleKind::Deny];

/// A policy with these lists, rules numbered in order.
pub(crate) fn policy(preopens: &[Lists]) -> Policy {
    let mut rules: Vec<Rule> = Vec::new();
    let preopens = preopens
        .iter()
        .enumerate()
        .map(|(index, lists)| {
            let mut made = lists.iter().zip(KINDS).map(|(texts, kind)| {
                texts
                    .iter()
                    .map(|text| {
                        let number = rules.len() as RuleNumber + 1;
                        let origin = Origin::Policy { line: number, column: 1 };
                        let text = text.clone();
                        let pattern = Pattern::parse(&text).unwrap();
                        rules.push(Rule { number, kind, preopen: Some(index), text, origin });
                        PathRule { number, pattern }
                    })
                    .collect::<Vec<_>>()
            });
            let mut next = || made.next().unwrap();
            Preopen {
                guest: format!("/{index}"),
                host: format!("./{index}").into(),
                kind: PreopenKind::Directory,
                read: next(),
                write: next(),
                create: next(),
                delete: next(),
                deny: next(),
                line: Some(1),
            }
        })
        .collect();
    Policy {
        mode: Mode::Enforce,
        preopens,
        network: Vec::new(),
        limits: Limits::default(),
        audit: Audit::default(),
        bpf: None,
        rules,
    }
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "a", "b", "ab", "ba", "ä", "*", "**", "a*", "*b", "*a*", "?", "a?", "??", "[ab]",
            "[!a]", "[^ab]?", "{a,b}", "{a,b*}", "{a/b,b}", "{**,a}", ".*", "a*b", "é?",
        ]).prop_map(str::to_owned),
        1 => "[ab?*]{1,4}".prop_filter("two stars are another thing", |text| !text.contains("**")),
    ]
}

/// A pattern that the parser takes.
pub(crate) fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/")),
        1 => Just("**".to_owned()),
        1 => Just(".".to_owned()),
    ]
    .prop_filter("a pattern", |text| Pattern::parse(text).is_ok())
}

/// One to three preopens.
pub(crate) fn preopens() -> impl Strategy<Value = Vec<Lists>> {
    let list = |most| prop::collection::vec(pattern(), 0..=most);
    let lists = (list(3), list(2), list(2), list(2), list(2))
        .prop_map(|(read, write, create, delete, deny)| [read, write, create, delete, deny]);
    prop::collection::vec(lists, 1..=3)
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "a".as_bytes(), b"b", b"ab", b"ba", b"aab", b"abb", b"c", b".a", "ä".as_bytes(),
            "éa".as_bytes(), b"\xff", b"\xc3", b"\xe2\x82", "\u{10ffff}".as_bytes(), b"*", b"?",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(
            prop::sample::select(vec![b'a', b'b', b'c', 0xc3, 0xa4, 0xff, b'.', b'\n']), 1..5),
    ]
    .prop_filter("a name", |name| name != b"." && name != b"..")
}

/// The components of a path, none included.
pub(crate) fn path() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(name(), 0..5)
}

/// Components as the evaluator and the table take them.
pub(crate) fn borrow(path: &[Vec<u8>]) -> Vec<&[u8]> {
    path.iter().map(Vec::as_slice).collect()
}
