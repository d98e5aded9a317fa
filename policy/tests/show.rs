//! The compiled form of a policy as people read it: a golden text.
//!
//! `UPDATE_GOLDEN=1` writes it anew; look at the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::Path;

use wasi_guard_policy::show::show;
use wasi_guard_policy::{Addresses, Grants, Policy, Source, compile, load};

const TEXT: &str = r#"version = 1
mode = "audit"
[[preopen]]
guest = "/data"
host = "./data"
deny = ["**/*.pem", "secret/**"]
read = ["**"]
write = ["out/{a,b{c,d}}"]
[[preopen]]
guest = "/logs\u001b[2J"
host = "/var/log/app"
create = ["*.log"]
[[preopen]]
guest = "/empty"
host = "/empty"
[network]
connect = ["tcp://db.test:5432", "udp://*:53", "tcp://gone.test:1"]
bind = ["tcp://[::1]:8000-8080"]
[limits]
memory = "1GiB"
cpu = 0.5
time = "90s"
fuel = 0
[audit]
ring = "1MiB"
[bpf]
profile = "net-observe"
scope = "host"
programs = ["uprobe", "sock_ops"]
uprobes = ["/usr/lib/**/libssl.so*:SSL_*"]
helpers = ["bpf_send_signal"]
map_bytes = "1MiB"
"#;

fn policy() -> Policy {
    load(&Source::new("test", TEXT)).unwrap().0
}

fn unknown(policy: &Policy) -> Addresses {
    policy.host_names().into_iter().map(|name| (name.to_owned(), Vec::new())).collect()
}

#[test]
fn the_text_is_the_golden_one() {
    let policy = policy();
    let nowhere = unknown(&policy);
    let mut somewhere = nowhere.clone();
    let found = ["10.0.0.7", "::ffff:10.0.0.8", "fd00::7"].map(|text| text.parse().unwrap());
    somewhere.insert("db.test".into(), found.to_vec());
    let without = show(&policy, &compile(&policy, &nowhere).unwrap(), None);
    let with = show(&policy, &compile(&policy, &somewhere).unwrap(), Some(&somewhere));
    let options = Policy::from_grants(&Grants {
        dirs: vec![("./data".into(), "/data".into())],
        tcp: true,
        ..Grants::default()
    });
    let options = show(&options, &compile(&options, &Addresses::new()).unwrap(), None);
    let text = [without, with, options].join("----\n");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/show.out");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, text).unwrap();
        return;
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}

/// What the text says about sizes adds up to the table.
#[test]
fn the_parts_fit_into_the_whole() {
    let policy = policy();
    let stats = compile(&policy, &unknown(&policy)).unwrap().stats();
    let parts = stats.rows_bytes + stats.names_bytes + stats.verdict_bytes;
    assert!(stats.rows_bytes >= 2 * stats.states * stats.classes);
    assert!(parts < stats.bytes && stats.verdict_bytes == 8 * stats.verdicts);
}
