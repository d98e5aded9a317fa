//! Compiled tables against the reference evaluator.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::net::IpAddr;

use common::{borrow, path, policy, preopens};
use proptest::prelude::*;
use wasi_guard_abi::operation::Operation;
use wasi_guard_abi::table::Linked;
use wasi_guard_policy::evaluate::{Peer, rights, same_rights_below};
use wasi_guard_policy::network::{Action, Protocol};
use wasi_guard_policy::{Addresses, Attempt, Name, Policy, Source, compile, evaluate, load};

proptest! {
    // 256 cases each; more with PROPTEST_CASES.
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn a_table_gives_every_name_the_rights_that_the_policy_says(
        lists in preopens(),
        paths in prop::collection::vec(path(), 1..40),
    ) {
        let policy = policy(&lists);
        let table = compile(&policy, &Addresses::new()).unwrap();
        for path in std::iter::once(Vec::new()).chain(paths) {
            let path = borrow(&path);
            for preopen in 0..=policy.preopens.len() {
                let meant = rights(&policy, preopen, &path);
                let packed = table.rights(preopen, &path);
                prop_assert_eq!(
                    (packed.rights, packed.deny_rule),
                    (meant.rights, meant.deny_rule),
                    "preopen {} path {:?}", preopen, path
                );
            }
        }
    }

    #[test]
    fn directories_are_alike_exactly_if_all_names_below_have_equal_rights(
        lists in preopens(),
        dirs in prop::collection::vec(path(), 2..6),
        below in prop::collection::vec(path(), 1..20),
    ) {
        let policy = policy(&lists);
        let table = compile(&policy, &Addresses::new()).unwrap();
        let places: Vec<Name> = dirs
            .iter()
            .flat_map(|dir| (0..lists.len()).map(|preopen| Name { preopen, components: dir.clone() }))
            .collect();
        for a in &places {
            for b in &places {
                let number = |name: &Name| table.below(name.preopen, &borrow(&name.components));
                let alike = number(a) == number(b);
                // Too large for the evaluator: nothing to compare with.
                let Ok(same) = same_rights_below(&policy, a, b) else { continue };
                prop_assert_eq!(alike, same, "{:?} {:?}", a, b);
                if !same {
                    continue;
                }
                for path in below.iter().filter(|path| !path.is_empty()) {
                    let at = |name: &Name| {
                        let whole = [name.components.clone(), path.clone()].concat();
                        rights(&policy, name.preopen, &borrow(&whole)).rights
                    };
                    prop_assert_eq!(at(a), at(b), "{:?} {:?} below {:?}", a, b, path);
                }
            }
        }
    }

    #[test]
    fn a_difference_below_is_found(
        lists in preopens(),
        dirs in prop::collection::vec(path(), 2..5),
        below in prop::collection::vec(path(), 10..40),
    ) {
        let policy = policy(&lists);
        let table = compile(&policy, &Addresses::new()).unwrap();
        for a in &dirs {
            for b in &dirs {
                let differ = below.iter().filter(|path| !path.is_empty()).any(|path| {
                    let at = |dir: &Vec<Vec<u8>>| {
                        rights(&policy, 0, &borrow(&[dir.clone(), path.clone()].concat())).rights
                    };
                    at(a) != at(b)
                });
                let states = [a, b].map(|dir| table.below(0, &borrow(dir)));
                prop_assert!(!differ || states[0] != states[1], "{:?} {:?}", a, b);
            }
        }
    }

    #[test]
    fn a_table_grants_the_addresses_that_the_policy_grants(
        entries in prop::collection::vec((any::<bool>(), endpoint()), 0..6),
        attempts in prop::collection::vec((any::<bool>(), protocol(), address(), port()), 1..30),
    ) {
        let policy = network_policy(&entries);
        let resolved = ["127.0.0.1", "::1", "::ffff:10.0.0.1"].map(|text| text.parse().unwrap());
        let addresses = Addresses::from([("a.test".to_owned(), resolved.to_vec())]);
        let table = compile(&policy, &addresses).unwrap();
        for (connect, protocol, address, port) in attempts {
            let peer = Peer { protocol, address, port };
            let (action, attempt) = match connect {
                true => (Action::Connect, Attempt::Connect(peer)),
                false => (Action::Bind, Attempt::Bind(peer)),
            };
            let meant = wasi_guard_policy::evaluate::evaluate_with(&policy, &addresses, &attempt);
            prop_assert_eq!(
                table.network_rule(action, protocol, address, port), meant.granted_by,
                "{:?}", attempt
            );
        }
    }
}

fn endpoint() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec![
        "127.0.0.1",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "[::1]",
        "[::]/0",
        "[fe80::/10]",
        "*",
        "a.test",
        "[::ffff:10.0.0.1]",
    ]);
    let port = prop::sample::select(vec!["80", "1-100", "*", "65535"]);
    (protocol(), host, port)
        .prop_map(|(protocol, host, port)| format!("{protocol}://{host}:{port}"))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(Protocol::EVERY.to_vec())
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(vec![
        "127.0.0.1",
        "127.0.0.2",
        "10.0.0.1",
        "10.255.0.0",
        "11.0.0.0",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::ffff:11.0.0.1",
        "fe80::1",
        "febf::1",
        "fec0::1",
    ])
    .prop_map(|text| text.parse().unwrap())
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![0, 1, 80, 100, 101, 65535])
}

fn network_policy(entries: &[(bool, String)]) -> Policy {
    let list = |connect| {
        let chosen: Vec<String> = entries
            .iter()
            .filter(|(kind, _)| *kind == connect)
            .map(|(_, text)| format!("{text:?}"))
            .collect();
        chosen.join(", ")
    };
    let text =
        format!("version = 1\n[network]\nconnect = [{}]\nbind = [{}]\n", list(true), list(false));
    load(&Source::new("network", text)).unwrap().0
}

/// So many rules over directories and files that resemble each other.
fn many_rules(count: usize) -> Policy {
    let texts = |make: &dyn Fn(usize) -> String| (0..count / 5).map(make).collect::<Vec<_>>();
    policy(&[[
        texts(&|n| format!("srv/app{n}/**/*.html")),
        texts(&|n| format!("var/spool/app{n}/out/**")),
        texts(&|n| format!("var/log/app-{n}.log")),
        texts(&|n| format!("tmp/{n}-*")),
        // Rules that may match anywhere cost most: every state has to remember the first.
        texts(&|n| match n {
            0..20 => format!("**/private{n}/*.key"),
            n => format!("srv/app{n}/private/**"),
        }),
    ]])
}

#[test]
fn ten_hundred_and_thousand_rules_compile_and_agree_with_the_evaluator() {
    for count in [10, 100, 1000] {
        let policy = many_rules(count);
        assert_eq!(policy.rules.len(), count);
        let table = compile(&policy, &Addresses::new()).unwrap();
        let last = count / 5 - 1;
        for text in [
            format!("srv/app{last}/a/b/index.html"),
            format!("srv/app{last}x/a/b/index.html"),
            format!("srv/app{last}/private0/index.html"),
            format!("srv/app{last}/private1/x.key/index.html"),
            format!("srv/app{last}/private1/private0/x.key/index.html"),
            format!("srv/app{last}/private/index.html"),
            format!("var/spool/app{last}/out/new"),
            format!("var/spool/app{last}/out"),
            format!("var/log/app-{last}.log"),
            "tmp/0-x".into(),
        ] {
            let path: Vec<&[u8]> = text.split('/').map(str::as_bytes).collect();
            let (meant, packed) = (rights(&policy, 0, &path), table.rights(0, &path));
            assert_eq!(
                (packed.rights, packed.deny_rule),
                (meant.rights, meant.deny_rule),
                "{text}"
            );
        }
    }
}

/// Names that have nothing in common, in one directory and in directories of their own, beside
/// patterns that match some of them.
#[test]
fn ten_thousand_names_without_anything_in_common_agree_with_the_evaluator() {
    let name = |n: u64| format!("{:016x}", (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for spread in [false, true] {
        let file = |n: u64| {
            if spread { format!("{}/{}", name(n), name(n + 500_000)) } else { name(n) }
        };
        let policy = policy(&[[
            (0..9000).map(file).collect(),
            vec!["**/0*".into(), "*/9*/**".into(), file(7)],
            (0..8).map(|n| format!("{}/*", name(n))).collect(),
            vec![],
            (9000..9900).map(file).chain(["**/*f".into(), "**/*e/x".into()]).collect(),
        ]]);
        let table = compile(&policy, &Addresses::new()).unwrap();
        assert!(table.stats().names >= 9000, "{:?}", table.stats());
        let mut different = std::collections::BTreeSet::new();
        for n in (0..10_000).step_by(211) {
            let file = file(n);
            for text in [
                file.clone(),
                format!("{file}x"),
                format!("x{file}"),
                file[..file.len() - 1].to_owned(),
                format!("{file}/x"),
                format!("{}/{file}", name(n)),
                name(n),
            ] {
                let path: Vec<&[u8]> = text.split('/').map(str::as_bytes).collect();
                let (meant, packed) = (rights(&policy, 0, &path), table.rights(0, &path));
                let meant = (meant.rights, meant.deny_rule);
                assert_eq!((packed.rights, packed.deny_rule), meant, "{text}");
                different.insert(meant);
            }
        }
        assert!(different.len() > 8, "{}", different.len());
    }
}

/// Names that are listed although their bytes lead to the same keep no directories apart.
#[test]
fn directories_are_alike_whatever_is_listed_in_vain() {
    let names = (0..100).map(|n| format!("a/f{n}"));
    let policy = policy(&[[
        names.chain(["**".into()]).collect(),
        vec!["**".into()],
        vec!["**".into()],
        vec!["**".into()],
        vec![],
    ]]);
    let table = compile(&policy, &Addresses::new()).unwrap();
    assert_eq!((table.stats().names, table.below(0, &[b"a"])), (0, table.below(0, &[b"b"])));
}

/// What a plain subset construction takes two to the power of the rules for.
#[test]
fn a_hundred_rules_that_match_in_any_directory_compile() {
    for make in [|n| format!("**/private{n}"), |n| format!("**/*.extension{n}")] {
        let denies: Vec<String> = (0..100).map(make).collect();
        let policy = policy(&[[vec!["**".into()], vec![], vec![], vec![], denies]]);
        let table = compile(&policy, &Addresses::new()).unwrap();
        for path in [
            "a/private99/private7/x",
            "private7/b/private99",
            "x.extension99/x.extension1/a",
            "x.extension1/a/x.extension99",
            "a/b",
        ] {
            let path: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            let (meant, packed) = (rights(&policy, 0, &path), table.rights(0, &path));
            assert_eq!((packed.rights, packed.deny_rule), (meant.rights, meant.deny_rule));
        }
    }
}

#[test]
fn the_same_policy_gives_the_same_bytes() {
    let policy = many_rules(50);
    let tables = [(); 2].map(|()| compile(&policy, &Addresses::new()).unwrap());
    assert!(tables[0] == tables[1]);
}

#[test]
fn an_empty_policy_compiles_and_grants_nothing() {
    let policy = policy(&[]);
    let table = compile(&policy, &Addresses::new()).unwrap();
    assert_eq!(table.rights(0, &[]), Default::default());
    assert_eq!(table.below(0, &[]), 0);
    assert_eq!(table.stats().bytes, table.bytes().len());
    let attempt = Attempt::Never(Operation::Exec);
    assert!(!evaluate(&policy, &attempt).allowed);
}

#[test]
fn roots_are_set_for_existing_preopens_only() {
    let lists = || [vec!["**".to_owned()], vec![], vec![], vec![], vec![]];
    let mut table = compile(&policy(&[lists(), lists()]), &Addresses::new()).unwrap();
    assert_eq!((table.root(0), table.root(1)), (0, 0));
    table.set_root(1, 7).unwrap();
    assert_eq!((table.root(0), table.root(1), table.root(2)), (0, 7, 0));
    assert!(table.set_root(2, 8).is_err());
    assert_eq!(table.chunks().len(), table.stats().chunks);
}

#[test]
fn linked_files_are_found_by_their_id_and_can_be_replaced() {
    let mut table = compile(&many_rules(10), &Addresses::new()).unwrap();
    let plain = table.clone();
    // Fibonacci hashing: ids as spread as random ones.
    let links: Vec<Linked> = (1..20_000u64)
        .map(|n| Linked {
            id: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            rights: (n & 0x1f) as u16,
            reserved: 0,
            deny_rule: n as u32,
        })
        .collect();
    for count in [1, 7, 8, 100, links.len()] {
        table.set_links(&links[..count]).unwrap();
        assert_eq!(table.stats().bytes, table.bytes().len());
        for linked in &links[..count] {
            assert_eq!(table.link(linked.id), Some(*linked));
        }
        for linked in &links[count..] {
            assert_eq!(table.link(linked.id), None);
        }
    }
    // Nine in a bucket of eight, however many buckets there are.
    let same: Vec<Linked> = (1..=9).map(|n| Linked { id: n << 40, ..links[0] }).collect();
    assert_eq!(table.set_links(&same).unwrap_err().0, 9);
    table.set_links(&[]).unwrap();
    assert_eq!(table.bytes(), plain.bytes());
    assert_eq!(table.link(links[0].id), None);
}

#[test]
fn an_unresolved_host_name_is_an_error() {
    let policy = network_policy(&[(true, "tcp://a.test:80".into())]);
    let error = compile(&policy, &Addresses::new()).unwrap_err().to_string();
    assert!(error.contains("a.test"), "{error}");
}
