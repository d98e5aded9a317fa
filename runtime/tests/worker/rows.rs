//! Is every row of the seccomp lists needed? The tests of this program run once more, with each
//! worker under strace, and each row must have let some call through.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::harness::{EXECUTABLE, INSTEAD};

/// The parts of a list that matter here.
#[derive(Deserialize)]
struct List {
    allow: Vec<Row>,
    #[serde(default)]
    load: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    syscall: String,
    #[serde(default)]
    args: Vec<Condition>,
    /// Why the row is there although no workload here makes the call.
    unseen: Option<String>,
}

#[derive(Deserialize)]
struct Condition {
    index: usize,
    mask: Option<u64>,
    value: toml::Value,
    width: String,
}

/// A call that a worker made after its filter was in force.
struct Call {
    name: String,
    args: Vec<u64>,
    process: u64,
}

#[test]
fn every_row_is_needed() {
    let place = tempfile::tempdir().unwrap();
    trace(place.path());
    let lists = [
        ("run.toml", Role::Run, 100),
        ("compile.toml", Role::Compile, 100),
        ("parse.toml", Role::Parse, 30),
    ];
    let mut wrong = Vec::new();
    for (file, role, least) in lists {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/seccomp").join(file);
        let list: List = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let calls = made(place.path(), role);
        assert!(calls.len() > least, "{file}: only {} calls", calls.len());
        let mut rows: Vec<&Row> = list.load.iter().collect();
        rows.extend(&list.allow);
        for row in rows {
            let seen = calls.iter().any(|call| row.matches(call));
            match (&row.unseen, seen) {
                (None, false) => wrong.push(format!("{file}: nothing needs {}", row.name())),
                // What only builds for developers do is no reason for a row to be there.
                (Some(_), true) if !cfg!(debug_assertions) => {
                    wrong.push(format!("{file}: {} is seen", row.name()))
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Runs the tests of this program with workers under strace, whose output goes to `place`.
fn trace(place: &Path) {
    // strace starts the worker under the name that the worker wants to have.
    symlink(EXECUTABLE, place.join("wasi-guard-worker")).unwrap();
    let script = format!(
        "#!/bin/sh\nexec /usr/bin/env PATH={0} /usr/bin/strace -f -qq -X raw -e raw=all \
         -o {0}/trace.$$ wasi-guard-worker \"$@\"\n",
        place.display()
    );
    let wrapper = place.join("worker");
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(
        Path::new("/usr/bin/strace").exists(),
        "this test needs strace: `cargo xtask test unit` installs it"
    );
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["running::", "sockets::", "compiling::the_compiler", "parsing::"])
        .env(INSTEAD, wrapper)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}

/// What a worker was started for.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Run,
    Compile,
    Parse,
}

/// The calls in all traces of workers with this role: that of a guest has a filter that asks, and
/// of the others only a parser waits for messages under its filter.
fn made(place: &Path, wanted: Role) -> Vec<Call> {
    let traces = fs::read_dir(place).unwrap().map(|entry| entry.unwrap());
    let traces = traces.filter(|it| it.file_name().as_encoded_bytes().starts_with(b"trace."));
    let mut calls = Vec::new();
    for trace in traces {
        let text = fs::read_to_string(trace.path()).unwrap();
        let all: Vec<Call> = text.lines().filter_map(call).collect();
        // SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER.
        let filters = |it: &Call| it.name == "seccomp" && it.args[0] == 1;
        let asks = |it: &Call| filters(it) && it.args[1] & 8 != 0;
        let last = all.iter().rposition(filters);
        let Some(last) = last else { continue };
        let role = match (asks(&all[last]), &all[last + 1..]) {
            (true, _) => Role::Run,
            (false, rest) if rest.iter().any(|it| it.name == "recvfrom") => Role::Parse,
            (false, _) => Role::Compile,
        };
        if role == wanted {
            calls.extend(all.into_iter().skip(last + 1));
        }
    }
    calls
}

/// A line of strace: `PID  name(0x1, 0x2) = 0x0`, cut where another thread is quicker.
fn call(line: &str) -> Option<Call> {
    let (process, rest) = line.split_once(' ')?;
    let (name, rest) = rest.trim_start().split_once('(')?;
    let args = rest.split([')', '<']).next()?;
    let number = |text: &str| match text.trim().strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.trim().parse().ok(),
    };
    let args = args.split(',').filter(|it| !it.trim().is_empty());
    Some(Call {
        name: name.to_owned(),
        args: args.map(number).collect::<Option<_>>()?,
        process: process.parse().ok()?,
    })
}

impl Row {
    fn matches(&self, call: &Call) -> bool {
        self.syscall == call.name
            && self.args.iter().all(|it| {
                let cut = if it.width == "dword" { u64::from(u32::MAX) } else { u64::MAX };
                // The worker's own process, which in these tests has one thread or leads them.
                let value = it.value.as_integer().map_or(call.process, |value| value as u64);
                call.args
                    .get(it.index)
                    .is_some_and(|arg| arg & it.mask.unwrap_or(u64::MAX) & cut == value & cut)
            })
    }

    fn name(&self) -> String {
        let args: BTreeSet<_> =
            self.args.iter().map(|it| format!("{} = {}", it.index, it.value)).collect();
        format!("{} {args:?}", self.syscall)
    }
}
