//! What a reload may change, and what it says about the rest.

use std::{fs, path::Path};

use super::*;
use crate::protocol::write_sealed;

const POLICY: &str = "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \"data\"\n\
                      read = [\"**\"]\n";

/// A directory with the preopen, and what the start of a guest has fixed under [`POLICY`].
fn place() -> (tempfile::TempDir, Fixed) {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("data")).unwrap();
    fs::create_dir(place.path().join("other")).unwrap();
    let root = plan::open_root(&place.path().join("data"), "/data", false).unwrap();
    let identity = Some(identity(&root.fd).unwrap());
    let fixed = Fixed {
        asked_mode: None,
        mode: Mode::Enforce,
        directories: vec![Directory { guest: "/data".into(), identity, root: 77 }],
        memory: None,
        time: None,
        fuel: None,
        open_files: None,
        disks: Default::default(),
        ring: wasi_guard_policy::DEFAULT_RING,
        bpf: None,
        without_network: false,
    };
    (place, fixed)
}

fn sent(place: &Path, text: &str) -> Offer {
    let directory = place.as_os_str().as_encoded_bytes().to_vec();
    let text = write_sealed("test", text.as_bytes()).unwrap();
    Offer::Sent(Request::new("new.toml".into(), directory), text)
}

fn look(place: &Path, text: &str, fixed: &Fixed) -> Result<Checked, Error> {
    check(sent(place, text), fixed, false)
}

/// The causes of the refusal, which is about what is fixed.
fn refused(place: &Path, text: &str, fixed: &Fixed) -> Vec<String> {
    let error = look(place, text, fixed).unwrap_err();
    assert!(error.step.contains("fixed at the start") && error.hint.is_some(), "{error:?}");
    error.causes
}

#[test]
fn rules_network_audit_and_limits_of_the_cgroup_may_change() {
    let (place, fixed) = place();
    let text = "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \"./data\"\n\
                write = [\"a\"]\ncreate = [\"a\"]\ndeny = [\"b\"]\n\
                [network]\nconnect = [\"tcp://127.0.0.1:80\"]\n\
                [limits]\nmemory = \"1MiB\"\ncpu = 0.5\npids = 3\n\
                [audit]\nfile = \"audit.jsonl\"\n";
    let checked = look(place.path(), text, &fixed).unwrap();
    assert_eq!(checked.table.root(0), 77);
    assert_eq!(checked.name, "new.toml");
    assert_eq!(checked.digest, blake3::hash(text.as_bytes()).to_hex().to_string());
    assert_eq!(checked.limits.memory, Some(1 << 20));
    assert_eq!(checked.audit_file, Some(place.path().join("audit.jsonl")));
}

#[test]
fn a_guest_that_started_without_network_gets_none() {
    let (place, mut fixed) = place();
    fixed.without_network = true;
    assert!(look(place.path(), &format!("{POLICY}[network]\n"), &fixed).is_ok());
    let text = format!("{POLICY}[network]\nconnect = [\"tcp://127.0.0.1:80\"]\n");
    let causes = refused(place.path(), &text, &fixed);
    assert_eq!(
        causes,
        ["[network]: none at the start, some now; a guest without network has a network \
          namespace of its own"]
    );
}

#[test]
fn a_file_is_read_anew_each_time() {
    let (place, fixed) = place();
    let path = place.path().join("app.toml");
    fs::write(&path, POLICY).unwrap();
    let first = check(Offer::File(path.clone()), &fixed, false).unwrap();
    fs::write(&path, format!("{POLICY}deny = [\"x\"]\n")).unwrap();
    let second = check(Offer::File(path.clone()), &fixed, true).unwrap();
    assert_eq!((first.policy.rules.len(), second.policy.rules.len()), (1, 2));
    assert!(second.marked && second.table.rights(0, &[b"x"]).deny_rule > 2);
    fs::remove_file(&path).unwrap();
    let error = check(Offer::File(path), &fixed, true).unwrap_err();
    assert!(error.step.starts_with("read the policy"), "{error:?}");
}

#[test]
fn what_is_fixed_is_named_with_its_key() {
    let (place, fixed) = place();
    let at = |text: &str| refused(place.path(), text, &fixed);
    assert_eq!(
        at(&format!("mode = \"audit\"\n{POLICY}")),
        ["mode: enforce at the start, audit now"]
    );
    assert_eq!(at("version = 1\n"), ["[[preopen]] guest: /data at the start, none now"]);
    let more = format!("{POLICY}[[preopen]]\nguest = \"/x\"\nhost = \"other\"\nread = [\"a\"]\n");
    assert_eq!(at(&more), ["[[preopen]] guest: /data at the start, /data, /x now"]);
    let rest = format!(
        "{POLICY}[limits]\ntime = \"5s\"\nfuel = 7\nread_bps = \"1MiB\"\n[audit]\nring = \"4KiB\"\n"
    );
    assert_eq!(
        at(&rest),
        [
            "[limits] time: none at the start, 5s now",
            "[limits] fuel: none at the start, 7 now",
            "[limits] of disks: none at the start, read_bps 1MiB now",
            "[audit] ring: 16KiB at the start, 4KiB now",
        ]
    );
    let bpf = format!("{POLICY}[bpf]\nprograms = [\"sock_ops\"]\n");
    assert_eq!(at(&bpf), ["[bpf]: not as at the start; what is loaded may rest on it"]);
    let same = Fixed { bpf: bpf_of(&bpf), ..fixed };
    assert!(look(place.path(), &bpf, &same).is_ok());
}

/// What `[bpf]` of a policy says.
fn bpf_of(text: &str) -> Option<Bpf> {
    let source = Source::new("new.toml", text.as_bytes().to_vec());
    wasi_guard_policy::load(&source).unwrap().0.bpf
}

#[test]
fn the_mode_of_the_command_line_beats_this_policy_too() {
    let (place, mut fixed) = place();
    fixed.asked_mode = Some(Mode::Enforce);
    let checked = look(place.path(), &format!("mode = \"audit\"\n{POLICY}"), &fixed).unwrap();
    assert_eq!(checked.policy.mode, Mode::Enforce);
}

#[test]
fn memory_may_become_less_but_not_more_than_at_the_start() {
    let (place, mut fixed) = place();
    fixed.memory = Some(8 << 20);
    let with = |memory: &str| format!("{POLICY}[limits]\nmemory = \"{memory}\"\n");
    for good in ["8MiB", "1MiB"] {
        assert!(look(place.path(), &with(good), &fixed).is_ok(), "{good}");
    }
    for (text, now) in [(with("9MiB"), "9MiB"), (POLICY.to_owned(), "none")] {
        assert_eq!(
            refused(place.path(), &text, &fixed),
            [format!(
                "[limits] memory: 8MiB at the start, {now} now; it can become less, not more"
            )]
        );
    }
}

#[test]
fn another_directory_under_the_same_name_is_refused() {
    let (place, fixed) = place();
    let with = |host: &str| POLICY.replace("host = \"data\"", &format!("host = \"{host}\""));
    let path = place.path().display();
    assert_eq!(
        refused(place.path(), &with("other"), &fixed),
        [format!(
            "[[preopen]] host of /data (line 2): {path}/other is not the directory that the guest has"
        )]
    );
    let missing = refused(place.path(), &with("missing"), &fixed);
    assert!(missing[0].contains("/missing: No such file"), "{missing:?}");
    // The same name, but something else is there now.
    fs::rename(place.path().join("data"), place.path().join("away")).unwrap();
    fs::create_dir(place.path().join("data")).unwrap();
    assert_eq!(refused(place.path(), POLICY, &fixed).len(), 1);
    assert!(look(place.path(), &with("away"), &fixed).is_ok(), "where it is now");
}

#[test]
fn a_bad_policy_is_refused_as_check_refuses_it() {
    let (place, fixed) = place();
    let error = look(place.path(), "version = 1\nmoed = \"audit\"\n", &fixed).unwrap_err();
    assert!(error.rendered && error.step.contains("new.toml:2:1"), "{}", error.step);
    let name = format!("{POLICY}[network]\nconnect = [\"tcp://no.such.name.invalid:80\"]\n");
    let error = look(place.path(), &name, &fixed).unwrap_err();
    assert!(error.step.contains("look up no.such.name.invalid"), "{error:?}");
}

#[test]
fn what_is_sent_must_be_sealed_and_its_directory_absolute() {
    let (place, fixed) = place();
    let file = tempfile::tempfile().unwrap();
    let directory = place.path().as_os_str().as_encoded_bytes().to_vec();
    let open = Offer::Sent(Request::new("new.toml".into(), directory), file.into());
    let error = check(open, &fixed, false).unwrap_err();
    assert!(error.causes[0].contains("no sealed memfd"), "{error:?}");
    let error = check(sent(Path::new("data"), POLICY), &fixed, false).unwrap_err();
    assert!(error.step.contains("not absolute"), "{error:?}");
}
