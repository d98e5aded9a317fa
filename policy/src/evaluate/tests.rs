use super::*;
use crate::{Source, load};

const TEXT: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "data"
read = ["**"]
write = ["out/**"]
create = ["out/**", "in/new"]
delete = ["out/tmp-*", "in/**"]
deny = ["secret/**", "**/*.pem"]
[[preopen]]
guest = "/scratch"
host = "scratch"
read = ["**"]
write = ["**"]
create = ["**"]
delete = ["**"]
[network]
connect = ["tcp://127.0.0.1:5432", "udp://[::1]:53"]
bind = ["tcp://0.0.0.0:8080"]
"#;

fn policy() -> Policy {
    load(&Source::new("test", TEXT)).unwrap().0
}

fn data(path: &str) -> Place {
    Place::under(0, path)
}

fn open(path: Place, read: bool, write: bool, truncate: bool) -> Attempt {
    Attempt::Open { path, read, write, truncate }
}

fn rename(from: Place, to: Place, target: Target) -> Attempt {
    Attempt::Rename { from, to, from_is_dir: false, target, exchange: false }
}

fn rename_dir(from: Place, to: Place) -> Attempt {
    let target = Target::Absent;
    Attempt::Rename { from, to, from_is_dir: true, target, exchange: false }
}

fn verdict(attempt: Attempt) -> Verdict {
    evaluate(&policy(), &attempt)
}

fn reason(attempt: Attempt) -> Option<Reason> {
    verdict(attempt).reason
}

#[test]
fn open_needs_read_write_or_both() {
    assert_eq!(reason(open(data("a"), true, false, false)), None);
    assert_eq!(reason(open(data("a"), false, false, false)), None, "neither needs read");
    assert_eq!(reason(open(data("a"), false, true, false)), Some(Reason::NotGranted));
    assert_eq!(reason(open(data("a"), true, false, true)), Some(Reason::NotGranted));
    assert_eq!(reason(open(data("out/a"), true, true, true)), None);
}

#[test]
fn a_denial_names_the_deny_rule_and_a_grant_its_rule() {
    let denied = verdict(open(data("out/key.pem"), true, false, false));
    let policy = policy();
    assert_eq!(denied.reason, Some(Reason::Deny));
    assert_eq!(policy.rule(denied.rule).unwrap().text, "**/*.pem");
    assert_eq!(denied.rights, 0);
    let granted = verdict(open(data("out/a"), false, true, false));
    assert_eq!(policy.rule(granted.granted_by).unwrap().line(), Some(6));
}

#[test]
fn deny_covers_everything_below_and_metadata_too() {
    assert_eq!(reason(Attempt::Stat { path: data("x.pem/a/b") }), Some(Reason::Deny));
    assert_eq!(reason(Attempt::Stat { path: data("secret/a") }), Some(Reason::Deny));
    assert_eq!(reason(Attempt::Stat { path: data("secret") }), None);
}

#[test]
fn a_preopen_itself_can_be_neither_created_nor_removed() {
    let root = || Place::under(1, "");
    assert_eq!(reason(open(root(), true, true, false)), None);
    assert_eq!(reason(Attempt::Rmdir { path: root() }), Some(Reason::NotGranted));
    assert_eq!(reason(Attempt::Mkdir { path: root() }), Some(Reason::NotGranted));
    assert_eq!(
        reason(rename(root(), Place::under(1, "x"), Target::Absent)),
        Some(Reason::NotGranted)
    );
}

#[test]
fn what_lies_outside_is_denied_as_such() {
    assert_eq!(reason(Attempt::Stat { path: Place::Outside }), Some(Reason::Outside));
    let to = Place::under(1, "x");
    assert_eq!(reason(Attempt::Link { from: Place::Outside, to }), Some(Reason::Outside));
}

#[test]
fn simple_operations_need_their_right() {
    for (allowed, attempt) in [
        (true, Attempt::Create { path: data("out/n") }),
        (true, Attempt::Mkdir { path: data("in/new") }),
        (false, Attempt::Mkdir { path: data("in/other") }),
        (false, Attempt::Mkdir { path: data("out") }),
        (true, Attempt::Symlink { path: data("out/n") }),
        (true, Attempt::Unlink { path: data("out/tmp-1") }),
        (false, Attempt::Unlink { path: data("out/n") }),
        (true, Attempt::Rmdir { path: data("in/d") }),
        (false, Attempt::Rmdir { path: data("in") }),
        (true, Attempt::Truncate { path: data("out/n") }),
        (false, Attempt::Truncate { path: data("n") }),
        (true, Attempt::SetAttr { path: data("out/n") }),
        (false, Attempt::SetAttr { path: data("n") }),
        (false, Attempt::Never(Operation::Exec)),
        (false, Attempt::Never(Operation::Fork)),
    ] {
        assert_eq!(verdict(attempt.clone()).allowed, allowed, "{attempt:?}");
    }
}

#[test]
fn a_rename_must_not_widen_rights() {
    // in/** gives read and delete; out/tmp-* gives write as well.
    let widening = verdict(rename(data("in/a"), data("out/a"), Target::Absent));
    assert_eq!((widening.reason, widening.second), (Some(Reason::Widens), true));
    // From read, write, delete to read, delete.
    assert_eq!(reason(rename(data("out/tmp-1"), data("in/new"), Target::Absent)), None);
    assert_eq!(
        reason(rename(data("out/tmp-1"), data("out/n"), Target::File)),
        Some(Reason::NotGranted),
        "replacing needs delete"
    );
    assert_eq!(reason(rename(data("out/tmp-1"), data("out/tmp-2"), Target::File)), None);
    assert_eq!(
        reason(rename(data("secret/a"), Place::under(1, "a"), Target::Absent)),
        Some(Reason::Deny)
    );
}

#[test]
fn an_exchange_needs_both_rights_at_both_names() {
    let exchange = |from, to| Attempt::Rename {
        from,
        to,
        from_is_dir: false,
        target: Target::File,
        exchange: true,
    };
    assert_eq!(reason(exchange(data("out/tmp-1"), data("out/tmp-2"))), None);
    assert_eq!(reason(exchange(data("out/tmp-1"), data("out/n"))), Some(Reason::NotGranted));
    let widening = verdict(exchange(data("out/tmp-1"), data("in/new")));
    assert_eq!((widening.reason, widening.second), (Some(Reason::Widens), false));
}

#[test]
fn a_directory_moves_only_between_equal_rights_below() {
    assert_eq!(reason(rename_dir(Place::under(1, "a"), Place::under(1, "b/c"))), None);
    assert_eq!(reason(rename_dir(data("out/tmp-1"), data("out/tmp-2"))), None);
    // Less rights below than before: refused as well.
    assert_eq!(reason(rename_dir(data("out/tmp-1"), data("in/new"))), Some(Reason::Widens));
    // A file named *.pem below would come out of its denial.
    assert_eq!(reason(rename_dir(data("out/tmp-1"), Place::under(1, "x"))), Some(Reason::Widens));
}

#[test]
fn a_link_needs_create_and_must_not_widen() {
    let link = |from, to| reason(Attempt::Link { from, to });
    assert_eq!(link(data("out/a"), data("in/new")), Some(Reason::Widens), "delete is gained");
    assert_eq!(link(data("out/tmp-1"), data("in/new")), None);
    assert_eq!(link(data("a"), data("out/a")), Some(Reason::Widens));
    assert_eq!(link(data("out/tmp-1"), data("b")), Some(Reason::NotGranted));
    assert_eq!(link(data("secret/a"), data("out/a")), Some(Reason::Widens));
}

#[test]
fn sockets_follow_the_network_rules() {
    let peer =
        |protocol, address: &str, port| Peer { protocol, address: address.parse().unwrap(), port };
    let tcp = |address, port| peer(Protocol::Tcp, address, port);
    for (allowed, attempt) in [
        (true, Attempt::Connect(tcp("127.0.0.1", 5432))),
        (false, Attempt::Connect(tcp("127.0.0.2", 5432))),
        (false, Attempt::Connect(tcp("127.0.0.1", 5433))),
        (true, Attempt::Connect(tcp("::ffff:127.0.0.1", 5432))),
        (true, Attempt::Connect(tcp("0.0.0.0", 5432))),
        (true, Attempt::Connect(tcp("::ffff:0.0.0.0", 5432))),
        (false, Attempt::Connect(tcp("::1", 5432))),
        (true, Attempt::Send(peer(Protocol::Udp, "::", 53))),
        (false, Attempt::Send(peer(Protocol::Tcp, "::1", 53))),
        (true, Attempt::Bind(tcp("0.0.0.0", 8080))),
        (false, Attempt::Bind(tcp("127.0.0.1", 8080))),
        (true, Attempt::Listen(tcp("0.0.0.0", 8080))),
        (false, Attempt::Listen(tcp("0.0.0.0", 0))),
    ] {
        assert_eq!(verdict(attempt.clone()).allowed, allowed, "{attempt:?}");
    }
}

#[test]
fn only_tcp_and_udp_sockets_that_a_rule_is_about_can_be_made() {
    let create = |family, socket_type, protocol| {
        reason(Attempt::SocketCreate { family, socket_type, protocol })
    };
    assert_eq!(create(2, 1, 0), None);
    assert_eq!(create(10, 2, 17), None);
    assert_eq!(create(1, 1, 0), Some(Reason::Never), "unix");
    assert_eq!(create(2, 3, 6), Some(Reason::Never), "raw");
    assert_eq!(create(2, 1, 262), Some(Reason::Never), "mptcp");
    let attempt = Attempt::SocketCreate { family: 2, socket_type: 1, protocol: 0 };
    let none = load(&Source::new("test", "version = 1\n")).unwrap().0;
    assert_eq!(evaluate(&none, &attempt).reason, Some(Reason::NotGranted));
}

#[test]
fn names_in_network_rules_match_the_addresses_found_for_them() {
    let text = "version = 1\n[network]\nconnect = [\"tcp://db.test:5432\"]\n";
    let policy = load(&Source::new("test", text)).unwrap().0;
    assert_eq!(policy.host_names(), ["db.test"]);
    let address = "10.0.0.7".parse().unwrap();
    let attempt = Attempt::Connect(Peer { protocol: Protocol::Tcp, address, port: 5432 });
    assert!(!evaluate(&policy, &attempt).allowed);
    let addresses = Addresses::from([("db.test".into(), vec![address])]);
    assert!(evaluate_with(&policy, &addresses, &attempt).allowed);
}

#[test]
fn rights_that_do_not_depend_on_the_name_are_known_as_such() {
    let preopen = |guest: &str, rules: &str| {
        format!("[[preopen]]\nguest = \"/{guest}\"\nhost = \"{guest}\"\n{rules}\n")
    };
    let everything = "read = [\"**\"]\ndelete = [\"x\"]";
    for (same, text) in [
        (true, preopen("a", everything)),
        (true, preopen("a", "read = [\"{x,**}\", \"y\"]\nwrite = [\"**\"]")),
        (true, preopen("a", everything) + &preopen("b", everything)),
        (false, preopen("a", everything) + &preopen("b", "write = [\"**\"]")),
        (false, preopen("a", "read = [\"*\"]")),
        (false, preopen("a", "read = [\"**\"]\ndeny = [\"x\"]")),
        (false, preopen("a", "read = [\"**\"]\nwrite = [\"x\"]")),
    ] {
        let source = Source::new("policy.toml", format!("version = 1\n{text}"));
        let policy = load(&source).unwrap().0;
        assert_eq!(policy.same_rights_everywhere(), same, "{text}");
    }
}
