//! A policy that is too large is refused with its size and the limit, never cut.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use common::policy;
use wasi_guard_abi::table::{MAX_NET_RULES, MAX_PREOPENS};
use wasi_guard_policy::bpf::MAX_ENTRIES;
use wasi_guard_policy::network::{Action, Protocol};
use wasi_guard_policy::{
    Addresses, Grants, MAX_SOURCE_BYTES, Policy, Source, compile, load, render_all,
};

fn loaded(text: String) -> Result<Policy, String> {
    let source = Source::new("large", text);
    load(&source).map(|(policy, _)| policy).map_err(|errors| render_all(&errors, &source))
}

fn refused(policy: &Policy, addresses: &Addresses) -> String {
    compile(policy, addresses).unwrap_err().to_string()
}

#[test]
fn preopens() {
    let text = |count: usize| {
        (0..count).fold(String::from("version = 1\n"), |mut text, n| {
            let _ = writeln!(text, "[[preopen]]\nguest = '/{n}'\nhost = '{n}'\nread = ['f{n}']");
            text
        })
    };
    let policy = loaded(text(MAX_PREOPENS)).unwrap();
    let table = compile(&policy, &Addresses::new()).unwrap();
    for n in 0..MAX_PREOPENS {
        let rights = [n, (n + 1) % MAX_PREOPENS]
            .map(|file| table.rights(n, &[format!("f{file}").as_bytes()]).rights);
        assert!(rights[0] != 0 && rights[1] == 0, "preopen {n}");
    }
    let error = loaded(text(MAX_PREOPENS + 2)).unwrap_err();
    assert!(error.starts_with("error: 66 preopens; a policy may have 64\n"), "{error}");
    assert!(error.contains("large:258:1"), "{error}");
    let grants = Grants {
        dirs: (0..=MAX_PREOPENS).map(|n| (format!("{n}").into(), format!("/{n}"))).collect(),
        ..Grants::default()
    };
    let error = refused(&Policy::from_grants(&grants), &Addresses::new());
    assert_eq!(error, "65 preopens; a table holds 64");
}

#[test]
fn network_rules() {
    let text = |count: usize| {
        let rules: String = (1..=count).map(|n| format!("'tcp://127.0.0.1:{n}',\n")).collect();
        format!("version = 1\n[network]\nconnect = [\n{rules}]\n")
    };
    let table = compile(&loaded(text(MAX_NET_RULES)).unwrap(), &Addresses::new()).unwrap();
    let rule = |port: usize| {
        let port = u16::try_from(port).unwrap();
        table.network_rule(Action::Connect, Protocol::Tcp, Ipv4Addr::LOCALHOST.into(), port)
    };
    assert_eq!((rule(1), rule(MAX_NET_RULES), rule(MAX_NET_RULES + 1)), (1, 256, 0));
    let error = loaded(text(MAX_NET_RULES + 3)).unwrap_err();
    assert!(error.starts_with("error: 259 network rules; a policy may have 256\n"), "{error}");
    assert!(error.contains("large:260:1"), "{error}");
}

#[test]
fn network_rules_after_names_became_addresses() {
    let policy =
        loaded("version = 1\n[network]\nconnect = ['tcp://a.test:1', 'tcp://a.test:2']\n".into());
    let policy = policy.unwrap();
    let addresses = |count: u8| -> Addresses {
        let found = (0..count).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        Addresses::from([("a.test".to_owned(), found)])
    };
    let table = compile(&policy, &addresses(128)).unwrap();
    assert_eq!(table.stats().network_rules, MAX_NET_RULES);
    assert_eq!(table.network_rule(Action::Connect, Protocol::Tcp, [10, 0, 0, 127].into(), 2), 2);
    let error = refused(&policy, &addresses(129));
    assert!(error.starts_with("258 network rules once host names are resolved;"), "{error}");
    assert!(error.contains("a table holds 256"), "{error}");
}

/// Names without anything in common take a state for almost every byte.
#[test]
fn states() {
    let mut number = 1u64;
    let names: Vec<String> = (0..7000)
        .map(|_| {
            // xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            format!("{number:016x}")
        })
        .collect();
    // Plain names would be listed.
    let names: Vec<String> = names.iter().map(|name| format!("{name}*")).collect();
    let lists = |count: usize| [names[..count].to_vec(), vec![], vec![], vec![], vec![]];
    assert!(compile(&policy(&[lists(1000)]), &Addresses::new()).is_ok());
    let error = refused(&policy(&[lists(7000)]), &Addresses::new());
    let size = error.strip_prefix("the automaton has ").unwrap();
    let (size, rest) = size.split_once(' ').unwrap();
    assert!((65_536..100_000).contains(&size.parse::<usize>().unwrap()), "{error}");
    assert!(rest.starts_with("states; a table holds 65535. "), "{error}");
}

/// What cannot even be made is not tried to the end.
#[test]
fn states_on_the_way() {
    let texts = (0..10).map(|n| format!("*{n}*{n}*{n}*")).collect();
    let error = refused(&policy(&[[texts, vec![], vec![], vec![], vec![]]]), &Addresses::new());
    assert!(
        error.starts_with("the automaton needs more than 400000 states while it is made"),
        "{error}"
    );
}

#[test]
fn text() {
    let mut text = String::from("version = 1\n");
    text.push_str(&"#".repeat(MAX_SOURCE_BYTES - text.len()));
    assert!(loaded(text.clone()).is_ok());
    text.push('#');
    let error = loaded(text).unwrap_err();
    assert!(error.starts_with("error: file of 16777217 bytes\n"), "{error}");
    assert!(error.contains("hint: it may have 16777216 bytes"), "{error}");
}

/// What is too long in each list, with its place, beside what just is not.
#[test]
fn patterns() {
    let policy = |list: &str, pattern: &str| {
        loaded(format!(
            "version = 1\n[[preopen]]\nguest = '/data'\nhost = '.'\nread = ['x']\n\
             {list} = ['y', '{pattern}']\n"
        ))
    };
    let names = |count: usize| vec!["n".repeat(31); count].join("/");
    for list in ["write", "create", "delete", "deny"] {
        for (good, bad, part, message) in [
            (names(128), names(128) + "nn", 0, "pattern of more than 4096 bytes"),
            ("n/".repeat(127) + "n", "n/".repeat(128) + "n", 0, "pattern of more than 128 names"),
            (
                "n".to_owned() + &"{a,b}".repeat(8),
                "n".to_owned() + &"{a,b}".repeat(9),
                41,
                "the groups stand for more than 256 patterns",
            ),
        ] {
            assert!(policy(list, &good).is_ok(), "{list} {message}");
            let error = policy(list, &bad).unwrap_err();
            assert!(error.starts_with(&format!("error: {message}\n")), "{error}");
            let column = list.len() + 11 + part;
            assert!(error.contains(&format!(" large:6:{column}\n")), "{list} {column}: {error}");
        }
    }
}

#[test]
fn entries_of_bpf() {
    let policy = |count: usize| {
        let functions: String = (0..count).map(|n| format!("'f{n}',\n")).collect();
        format!(
            "version = 1\n[bpf]\nscope = 'host'\nprograms = ['kprobe']\nfunctions = [\n{functions}]"
        )
    };
    assert_eq!(loaded(policy(MAX_ENTRIES)).unwrap().bpf.unwrap().functions.len(), MAX_ENTRIES);
    let error = loaded(policy(MAX_ENTRIES + 1)).unwrap_err();
    assert!(error.contains("1025 entries in `functions`; there may be 1024"), "{error}");
    assert!(error.contains(":1030:1"), "{error}");
}

/// No file can have such a name, so the rule is about nothing; a warning says so.
#[test]
fn names_in_patterns() {
    let text = |list: &str, length: usize| {
        format!(
            "version = 1\n[[preopen]]\nguest = '/data'\nhost = '.'\nread = ['x']\n\
             {list} = ['a/{}/*']\n",
            "n".repeat(length)
        )
    };
    for list in ["write", "create", "delete", "deny"] {
        assert_eq!(load(&Source::new("long", text(list, 255))).unwrap().1, []);
        let warnings = load(&Source::new("long", text(list, 256))).unwrap().1;
        let [warning] = &warnings[..] else { panic!("{list}: {warnings:?}") };
        assert_eq!(warning.message, "this rule never matches: no file can have such a name");
        assert_eq!((warning.line, warning.column), (6, list.len() as u32 + 5));
    }
}

/// Behind a slash or `.` at the end the kernel would follow a symbolic link.
#[test]
fn host_directories_have_no_end_that_follows_links() {
    for (written, host) in [("link/", "link"), ("./a//link/./", "./a/link"), ("/", "/"), (".", ".")]
    {
        let text =
            format!("version = 1\n[[preopen]]\nguest = 'x'\nhost = '{written}'\nread = ['x']\n");
        let policy = loaded(text).unwrap();
        // Paths that differ in this only are equal: compare the text.
        assert_eq!(policy.preopens[0].host.to_str(), Some(host));
    }
}

/// The kernel takes no longer ones.
#[test]
fn paths() {
    let policy = |guest: &str, host: &str, file: &str| {
        loaded(format!(
            "version = 1\n[[preopen]]\nguest = '{guest}'\nhost = '{host}'\nread = ['x']\n\
             [audit]\nfile = '{file}'\n"
        ))
    };
    let name = "n".repeat(255);
    let path = vec![name.as_str(); 16].join("/");
    assert_eq!(path.len(), 4095);
    assert!(policy(&name, &path, &path).is_ok());
    for (bad, what) in [(name + "n", "a name"), (path + "/", "a path")] {
        for (error, place) in [
            (policy(&bad, "d", "f"), "`guest` is too long\n --> large:3:9"),
            (policy("d", &bad, "f"), "`host` is too long\n --> large:4:8"),
            (policy("d", "d", &bad), "`file` is too long\n --> large:7:8"),
        ] {
            let error = error.unwrap_err();
            assert!(error.starts_with(&format!("error: {place}\n")), "{what}: {error}");
        }
    }
}
