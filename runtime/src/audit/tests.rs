//! The audit's claims: what its lines say, that they fit the schema, and what happens when they
//! cannot be written.

mod schema;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use wasi_guard_abi::operation::{Operation, Reason, Subject, right};
use wasi_guard_enforce::guest::Counts;
use wasi_guard_enforce::records::{Denial, Name, Socket};
use wasi_guard_policy::{Grants, Mode, Policy, Source};

use super::{About, Auditor, End, Sink, WasmBpf, inherited};
use crate::protocol::{Layers, Seccomp};

const POLICY: &str = r#"version = 1
[[preopen]]
guest = "/data"
host = "./data"
read = ["**"]
deny = ["secret/**"]
[network]
connect = ["tcp://10.0.0.0/8:5432"]
"#;

fn policy() -> Policy {
    wasi_guard_policy::load(&Source::new("app.toml", POLICY)).unwrap().0
}

fn about(mode: Mode) -> About {
    About {
        policy: "app.toml".into(),
        policy_digest: blake3::hash(POLICY.as_bytes()).to_hex().to_string(),
        module: "app.wasm".into(),
        module_digest: blake3::hash(b"module").to_hex().to_string(),
        mode,
    }
}

fn layers() -> Layers {
    Layers { no_new_privs: true, capabilities: true, landlock: Some(7), seccomp: Seccomp::Enforce }
}

fn denial(operation: Operation) -> Denial {
    Denial {
        time: 1_000_000_000,
        process: 11,
        thread: 12,
        operation,
        reason: Reason::NotGranted,
        wanted: right::WRITE,
        rights: right::READ | right::STAT,
        rule: 0,
        audit: false,
        cut: false,
        directory: false,
        second: false,
        names: Vec::new(),
        socket: None,
    }
}

fn name(preopen: Option<u16>, path: &[u8]) -> Name {
    Name { preopen, path: path.to_vec() }
}

/// Takes lines; refuses writes while it has errors to give.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Room left; `None` is no bound.
    room: Option<usize>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        let count = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.room = state.room.map(|room| room - count);
        state.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().bytes.clone()).unwrap()
    }

    fn set_room(&self, room: Option<usize>) {
        self.0.lock().unwrap().room = room;
    }

    /// Every line, parsed and held against the schema.
    fn lines(&self) -> Vec<Value> {
        let schema = schema::Schema::of_the_audit();
        self.text()
            .lines()
            .map(|line| {
                let value = serde_json::from_str(line).unwrap();
                schema.check(&value);
                value
            })
            .collect()
    }
}

/// An auditor that has started.
fn auditor(mode: Mode) -> (Disk, Auditor) {
    let disk = Disk::default();
    let mut auditor = Auditor::new(Sink::test(disk.clone()), about(mode));
    auditor.set_guest("guest-7-0");
    auditor.start(&layers());
    (disk, auditor)
}

/// The line that a denial makes.
fn line(denial: &Denial) -> Value {
    let (disk, mut auditor) = auditor(Mode::Enforce);
    auditor.denial(denial, &policy());
    disk.lines().pop().unwrap()
}

#[test]
fn a_denial_names_the_rule_and_its_line() {
    let denial = Denial {
        reason: Reason::Deny,
        rule: 2,
        wanted: right::READ,
        rights: 0,
        names: vec![name(Some(0), b"secret/key")],
        ..denial(Operation::Open)
    };
    let line = line(&denial);
    let expected = json!({
        "record": "denial",
        "guest": "guest-7-0",
        "policy": "app.toml",
        "module": "app.wasm",
        "mode": "enforce",
        "layers": ["bpf-lsm", "no-new-privs", "no-capabilities", "landlock-7", "seccomp"],
        "operation": "open",
        "path": "/data/secret/key",
        "preopen": "/data",
        "cut": false,
        "directory": false,
        "wanted": ["read"],
        "rights": [],
        "verdict": "denied",
        "reason": "deny_rule",
        "rule": {"number": 2, "kind": "deny", "text": "secret/**", "line": 6, "column": 9},
        "errno": "EACCES",
        "errno_number": 13,
        "pid": 11,
        "tid": 12,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(line.get(key), Some(value), "{key}");
    }
    assert_eq!(line["policy_digest"], blake3::hash(POLICY.as_bytes()).to_hex().as_str());
    // The digests and the time beside what is listed above, and nothing else.
    assert_eq!(line.as_object().unwrap().len(), expected.as_object().unwrap().len() + 3);
}

#[test]
fn every_operation_and_reason_fits_the_schema() {
    for operation in Operation::EVERY {
        for reason in Reason::EVERY {
            let mut denial = Denial { reason: *reason, ..denial(*operation) };
            match operation.subject() {
                Subject::Nothing => {}
                Subject::Socket => {
                    denial.socket =
                        Some(Socket { family: 16, kind: 3, protocol: 99, address: None });
                }
                Subject::Address => {
                    let address: SocketAddr = "[::1]:53".parse().unwrap();
                    denial.socket =
                        Some(Socket { family: 10, kind: 2, protocol: 17, address: Some(address) });
                }
                Subject::TwoNames => {
                    denial.names = vec![name(Some(0), b"a"), name(None, b"\xff")];
                    denial.second = true;
                }
                Subject::Name => denial.names = vec![name(Some(0), b"\xfe")],
            }
            assert_eq!(line(&denial)["operation"], operation.name());
        }
    }
}

#[test]
fn both_names_of_a_rename_are_there_and_which_one_was_denied() {
    let denial = Denial {
        names: vec![name(Some(0), b"a"), name(None, b"etc/b")],
        second: true,
        cut: true,
        ..denial(Operation::Rename)
    };
    let line = line(&denial);
    assert_eq!(line["path"], "/data/\u{2026}a");
    assert_eq!(line["path2"], "/\u{2026}etc/b");
    assert_eq!(line["preopen2"], Value::Null);
    assert_eq!(line["denied"], "path2");
}

#[test]
fn bytes_that_are_no_text_stand_beside_it() {
    let line = line(&Denial { names: vec![name(Some(0), b"\xff")], ..denial(Operation::Stat) });
    assert_eq!(line["path"], "/data/\u{fffd}");
    assert_eq!(line["path_bytes"], "2f646174612fff");
}

#[test]
fn a_socket_has_its_address() {
    let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
    let socket = Socket { family: 2, kind: 1, protocol: 6, address: Some(address) };
    let line = line(&Denial { socket: Some(socket), ..denial(Operation::Connect) });
    assert_eq!(line["address"], "192.0.2.1");
    assert_eq!(line["port"], 443);
    assert_eq!(
        (&line["family"], &line["type"], &line["protocol"]),
        (&json!("inet"), &json!("stream"), &json!("tcp"))
    );
}

#[test]
fn audit_mode_has_a_verdict_of_its_own_and_no_errno() {
    let (disk, mut auditor) = auditor(Mode::Audit);
    let names = vec![name(Some(0), b"x")];
    auditor.denial(&Denial { audit: true, names, ..denial(Operation::Open) }, &policy());
    let line = disk.lines().pop().unwrap();
    assert_eq!(line["mode"], "audit");
    assert_eq!(line["verdict"], "would_deny");
    assert_eq!((&line["errno"], &line["errno_number"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_bpf_object_that_is_not_loaded_has_its_size_in_audit_mode_too() {
    for mode in [Mode::Enforce, Mode::Audit] {
        let (disk, mut auditor) = auditor(mode);
        auditor.bpf_load(u32::MAX, 7);
        let line = disk.lines().pop().unwrap();
        assert_eq!(line["operation"], "wasm_bpf");
        assert_eq!(line["bytes"], u32::MAX);
        assert_eq!((&line["verdict"], &line["errno"]), (&"denied".into(), &"EPERM".into()));
        assert_eq!(line["pid"], 7);
    }
}

#[test]
fn what_a_bpf_program_may_not_be_names_the_key_that_would_grant_it() {
    let (disk, mut auditor) = auditor(Mode::Audit);
    let call = WasmBpf {
        import: "wasm_attach_bpf_program",
        bytes: None,
        program: Some("handle_exec"),
        key: Some("tracepoints"),
        asked: Some("sched/sched_process_exec"),
        passed: true,
        worker: 7,
    };
    auditor.wasm_bpf(&call);
    let pinned = WasmBpf { key: None, program: None, passed: false, ..call };
    auditor.wasm_bpf(&pinned);
    auditor.samples_lost("events", 3);
    let lines = disk.lines();
    let (granted, never, lost) = (&lines[1], &lines[2], &lines[3]);
    assert_eq!(
        (&granted["key"], &granted["asked"]),
        (&"tracepoints".into(), &"sched/sched_process_exec".into())
    );
    assert_eq!(
        (&granted["verdict"], &granted["reason"]),
        (&"would_deny".into(), &"not_granted".into())
    );
    assert_eq!(granted["errno"], Value::Null);
    assert_eq!((&never["verdict"], &never["reason"]), (&"denied".into(), &"never_granted".into()));
    assert_eq!(
        (&lost["record"], &lost["map"], &lost["count"]),
        (&"samples_lost".into(), &"events".into(), &3.into())
    );
}

#[test]
fn a_rule_of_the_command_line_names_its_option() {
    let policy = Policy::from_grants(&Grants {
        dirs: vec![("./data".into(), "/data".into())],
        ..Grants::default()
    });
    let (disk, mut auditor) = auditor(Mode::Enforce);
    let names = vec![name(Some(0), b"x")];
    auditor.denial(&Denial { rule: 1, names, ..denial(Operation::Open) }, &policy);
    let rule = &disk.lines()[1]["rule"];
    assert_eq!(rule["option"], "--dir ./data::/data");
    assert_eq!(rule.get("line"), None);
}

#[test]
fn a_run_is_told_from_its_start_to_its_end() {
    let (disk, mut auditor) = auditor(Mode::Enforce);
    auditor.loss(3);
    auditor.limit("memory", "268435456 bytes");
    auditor.end(End::Killed(9), Counts { denied: 5, lost: 3, errors: 1 });
    auditor.end(End::Exited(-1), Counts::default());
    let lines = disk.lines();
    let kinds: Vec<&str> = lines.iter().map(|line| line["record"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["start", "loss", "limit", "end", "end"]);
    assert_eq!(lines[1]["count"], 3);
    assert_eq!(lines[2]["limit"], "memory");
    assert_eq!((&lines[3]["signal"], &lines[3]["denied"]), (&json!(9), &json!(5)));
    assert_eq!(lines[4]["exit_code"], -1);
}

#[test]
fn a_reload_names_both_policies_and_the_lines_after_it_the_new_one() {
    let (disk, mut auditor) = auditor(Mode::Enforce);
    let old = about(Mode::Enforce);
    let new = blake3::hash(b"new").to_hex().to_string();
    auditor.set_policy("new.toml", &new);
    auditor.reloaded("signal", &old.policy, &old.policy_digest);
    auditor.reload_refused("command", "bad\u{1b}.toml", "error: could not read\n  it\n");
    auditor.loss(1);
    let lines = disk.lines();
    assert_eq!(
        (&lines[0]["policy"], &lines[0]["policy_digest"]),
        (&json!("app.toml"), &json!(old.policy_digest))
    );
    for line in &lines[1..] {
        assert_eq!((&line["policy"], &line["policy_digest"]), (&json!("new.toml"), &json!(new)));
    }
    assert_eq!((&lines[1]["record"], &lines[1]["by"]), (&json!("reload"), &json!("signal")));
    assert_eq!(lines[1]["previous_policy"], "app.toml");
    assert_eq!(lines[1]["previous_digest"], old.policy_digest);
    assert_eq!(lines[2]["record"], "reload_refused");
    assert_eq!(lines[2]["offered"], "bad\u{1b}.toml");
    assert_eq!(lines[2]["error"], "error: could not read\n  it\n");
}

#[test]
fn lines_move_to_another_place_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let read = |name| std::fs::read_to_string(path(name)).unwrap();
    let mut auditor = Auditor::new(Sink::file(&path("one")).unwrap(), about(Mode::Enforce));
    assert!(!auditor.move_to(Sink::file(&path("one")).unwrap()), "it is there already");
    auditor.loss(1);
    assert!(auditor.move_to(Sink::file(&path("two")).unwrap()));
    auditor.loss(2);
    // Put aside, as log rotation does.
    std::fs::rename(path("two"), path("three")).unwrap();
    assert!(auditor.move_to(Sink::file(&path("two")).unwrap()));
    auditor.loss(3);
    for (name, count) in [("one", 1), ("three", 2), ("two", 3)] {
        let line: Value = serde_json::from_str(&read(name)).unwrap();
        assert_eq!(line["count"], count, "{name}");
    }
    assert!(auditor.move_to(Sink::stderr()) && !auditor.move_to(Sink::stderr()));
}

#[test]
fn a_full_disk_costs_lines_and_counts_them() {
    let (disk, mut auditor) = auditor(Mode::Enforce);
    disk.set_room(Some(10));
    auditor.loss(1);
    auditor.loss(2);
    assert_eq!(auditor.unwritten(), 2);
    disk.set_room(None);
    auditor.end(End::Exited(0), Counts::default());
    let text = disk.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "start, the torn line, end: {text}");
    assert_eq!(lines[1].len(), 10);
    let end: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(end["unwritten"], 2);
}

#[test]
fn a_line_that_left_nothing_behind_leaves_no_empty_line() {
    let (disk, mut auditor) = auditor(Mode::Enforce);
    disk.set_room(Some(0));
    auditor.loss(1);
    disk.set_room(None);
    auditor.loss(2);
    assert_eq!(disk.lines().len(), 2);
}

#[test]
fn a_file_is_appended_to_private_and_no_link() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    for _ in 0..2 {
        let mut auditor = Auditor::new(Sink::file(&path).unwrap(), about(Mode::Enforce));
        auditor.start(&layers());
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    let error = Sink::file(&link).unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert!(Sink::file(directory.path()).is_err());
}

#[test]
fn a_descriptor_is_written_to_and_a_closed_one_refused() {
    use std::os::fd::AsRawFd as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    let copy: OwnedFd = inherited(file.as_file().as_raw_fd()).unwrap();
    let mut auditor = Auditor::new(Sink::descriptor(copy), about(Mode::Enforce));
    auditor.start(&layers());
    assert_eq!(std::fs::read_to_string(file.path()).unwrap().lines().count(), 1);
    assert!(inherited(-1).is_err());
    assert!(inherited(1_000_000).is_err());
}
