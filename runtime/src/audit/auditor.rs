//! Turns what happens in a run into lines.

use wasi_guard_enforce::guest::Counts;
use wasi_guard_enforce::records::{Denial, Name};
use wasi_guard_policy::{Mode, Origin, Policy, Rule};

use super::line::{self, Body, Head, Line};
use super::{Sink, clock, text};
use crate::protocol::Layers;

/// What all lines of a run say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The policy's file name, or `(command line)`.
    pub policy: String,
    /// blake3 of the policy's text, in hexadecimal.
    pub policy_digest: String,
    /// The module's path as the caller gave it.
    pub module: String,
    /// blake3 of the module's bytes, in hexadecimal.
    pub module_digest: String,
    /// Whether denials are errors or only recorded.
    pub mode: Mode,
}

/// How a guest's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// What became of a call that the seccomp list does not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered EACCES.
    Denied,
    /// Audit mode let it through.
    WouldDeny,
    /// It ended the worker.
    Killed,
}

/// A system call that the worker's seccomp list does not let through.
#[derive(Clone, Copy, Debug)]
pub struct Syscall<'a> {
    /// Its name, or `number N`.
    pub name: &'a str,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// What became of it.
    pub verdict: Verdict,
    /// The worker.
    pub process: u32,
    /// Its thread.
    pub thread: u32,
}

/// A call of a guest's to an import of `wasm_bpf` that is not granted.
#[derive(Clone, Copy, Debug)]
pub struct WasmBpf<'a> {
    /// The import.
    pub import: &'static str,
    /// The object's size, as the guest says, where that is all that is known.
    pub bytes: Option<u32>,
    /// The program of the object that it is about.
    pub program: Option<&'a str>,
    /// The key of `[bpf]` that does not list it; `None` if no policy can grant it.
    pub key: Option<&'static str>,
    /// What was asked for, as a policy would write it.
    pub asked: Option<&'a str>,
    /// Audit mode let it through.
    pub passed: bool,
    /// The worker.
    pub worker: u32,
}

/// Writes the audit of one run.
#[derive(Debug)]
pub struct Auditor {
    sink: Sink,
    head: Head,
    unwritten: u64,
}

impl Auditor {
    /// An auditor. Nothing is written yet.
    #[must_use]
    pub fn new(sink: Sink, about: About) -> Self {
        let About { policy, policy_digest, module, module_digest, mode } = about;
        let head = Head {
            guest: String::new(),
            policy,
            policy_digest,
            module,
            module_digest,
            mode: mode.name(),
            layers: Vec::new(),
        };
        Self { sink, head, unwritten: 0 }
    }

    /// Names the guest: by its cgroup, which is unique while it lives.
    pub fn set_guest(&mut self, name: &str) {
        name.clone_into(&mut self.head.guest);
    }

    /// The guest is about to run; `layers` are in force around its worker, besides BPF. The
    /// records that follow name them.
    pub fn start(&mut self, layers: &Layers) {
        // The supervisor starts no guest before the canary was denied by the BPF programs, or, in
        // audit mode, recorded by them.
        self.head.layers = std::iter::once("bpf-lsm".to_owned()).chain(layers.names()).collect();
        let version = env!("CARGO_PKG_VERSION");
        self.write("start", clock::now(), Body::Start { version });
    }

    /// Something was denied, or in audit mode would have been. `policy` is the one in force.
    pub fn denial(&mut self, denial: &Denial, policy: &Policy) {
        let body = Body::Denial(Box::new(body(denial, policy)));
        self.write("denial", clock::of_boot(denial.time), body);
    }

    /// seccomp did not let a system call through.
    pub fn syscall(&mut self, syscall: &Syscall<'_>) {
        let denied = syscall.verdict == Verdict::Denied;
        let body = Body::Denial(Box::new(line::Denial {
            operation: "syscall",
            names: None,
            socket: None,
            syscall: Some(line::Syscall {
                syscall: syscall.name,
                arguments: syscall.arguments.map(|value| format!("{value:#x}")),
            }),
            wasm_bpf: None,
            wanted: Vec::new(),
            rights: Vec::new(),
            verdict: match syscall.verdict {
                Verdict::Denied => "denied",
                Verdict::WouldDeny => "would_deny",
                Verdict::Killed => "killed",
            },
            reason: "seccomp",
            rule: None,
            errno: denied.then_some("EACCES"),
            errno_number: denied.then_some(libc::EACCES),
            pid: syscall.process,
            tid: syscall.thread,
        }));
        self.write("denial", clock::now(), body);
    }

    /// A guest's BPF object of so many bytes was not loaded, in audit mode neither.
    pub fn bpf_load(&mut self, bytes: u32, worker: u32) {
        self.wasm_bpf(&WasmBpf {
            import: "wasm_load_bpf_object",
            bytes: Some(bytes),
            program: None,
            key: None,
            asked: None,
            passed: false,
            worker,
        });
    }

    /// A call of a guest's to an import of `wasm_bpf` was denied, or in audit mode would have been.
    pub fn wasm_bpf(&mut self, call: &WasmBpf<'_>) {
        let denied = !call.passed;
        let body = Body::Denial(Box::new(line::Denial {
            operation: "wasm_bpf",
            names: None,
            socket: None,
            syscall: None,
            wasm_bpf: Some(line::WasmBpf {
                import: call.import,
                bytes: call.bytes,
                program: call.program,
                key: call.key,
                asked: call.asked,
            }),
            wanted: Vec::new(),
            rights: Vec::new(),
            verdict: if denied { "denied" } else { "would_deny" },
            reason: if call.key.is_some() { "not_granted" } else { "never_granted" },
            rule: None,
            errno: denied.then_some("EPERM"),
            errno_number: denied.then_some(libc::EPERM),
            pid: call.worker,
            tid: call.worker,
        }));
        self.write("denial", clock::now(), body);
    }

    /// Samples of a guest's BPF program found no room in the buffer of this map.
    pub fn samples_lost(&mut self, map: &str, count: u64) {
        self.write("samples_lost", clock::now(), Body::SamplesLost { map, count });
    }

    /// The policy that the lines from here on are about, in place of the one of [`About`].
    pub fn set_policy(&mut self, name: &str, digest: &str) {
        if self.head.policy_digest != digest || self.head.policy != name {
            name.clone_into(&mut self.head.policy);
            digest.clone_into(&mut self.head.policy_digest);
        }
    }

    /// The policy of [`Auditor::set_policy`] has come into force in place of another. `by` is
    /// `command` or `signal`.
    pub fn reloaded(&mut self, by: &str, previous_policy: &str, previous_digest: &str) {
        let body = Body::Reload { by, previous_policy, previous_digest };
        self.write("reload", clock::now(), body);
    }

    /// Somebody asked for the policy `offered`, which was refused: `error` says why. `by` as in
    /// [`Auditor::reloaded`].
    pub fn reload_refused(&mut self, by: &str, offered: &str, error: &str) {
        let body = Body::ReloadRefused { by, offered, error };
        self.write("reload_refused", clock::now(), body);
    }

    /// Lines go to `sink` from here on, unless it is where they go already. Answers whether it is
    /// another place.
    pub fn move_to(&mut self, sink: Sink) -> bool {
        let other = !sink.is_same_as(&self.sink);
        if other {
            self.sink = sink;
        }
        other
    }

    /// `count` records were lost: for want of room in the kernel's buffer, or because they could
    /// not be read.
    pub fn loss(&mut self, count: u64) {
        self.write("loss", clock::now(), Body::Loss { count });
    }

    /// The guest was ended or held up by a limit, which is named as in `[limits]`.
    pub fn limit(&mut self, limit: &str, detail: &str) {
        self.write("limit", clock::now(), Body::Limit { limit, detail });
    }

    /// The guest ended. `counts` are the kernel's.
    pub fn end(&mut self, end: End, counts: Counts) {
        let (exit_code, signal) = match end {
            End::Exited(code) => (Some(code), None),
            End::Killed(signal) => (None, Some(signal)),
        };
        let Counts { denied, lost, errors } = counts;
        let unwritten = self.unwritten;
        let body = line::End { exit_code, signal, denied, lost, errors, unwritten };
        self.write("end", clock::now(), Body::End(body));
        if self.unwritten > 0 {
            say(&format!(
                "{} audit records could not be written to {}",
                self.unwritten,
                self.sink.name()
            ));
        }
    }

    /// Lines that could not be written so far.
    #[must_use]
    pub const fn unwritten(&self) -> u64 {
        self.unwritten
    }

    fn write(&mut self, record: &'static str, time: String, body: Body<'_>) {
        let line = Line { time, record, head: &self.head, body };
        let result = text::json(&line)
            .map_err(std::io::Error::from)
            .and_then(|line| self.sink.write_line(&line));
        if let Err(error) = result {
            // Once is enough; the end tells how many there were.
            if self.unwritten == 0 {
                say(&format!("an audit record is lost: {}: {error}", self.sink.name()));
            }
            self.unwritten += 1;
        }
    }
}

/// Audit trouble goes to stderr, which may be the very thing that is broken.
fn say(text: &str) {
    crate::stderr::warning(text);
}

fn body<'a>(denial: &Denial, policy: &'a Policy) -> line::Denial<'a> {
    let let_through = denial.audit;
    line::Denial {
        operation: denial.operation.name(),
        names: names(denial, policy),
        socket: denial.socket.map(|socket| line::Socket {
            family: text::family(socket.family),
            kind: text::socket_type(socket.kind),
            protocol: text::protocol(socket.protocol),
            address: socket.address.map(|address| address.ip().to_string()),
            port: socket.address.map(|address| address.port()),
        }),
        syscall: None,
        wasm_bpf: None,
        wanted: text::rights(denial.wanted),
        rights: text::rights(denial.rights),
        verdict: if let_through { "would_deny" } else { "denied" },
        reason: denial.reason.name(),
        rule: policy.rule(denial.rule).map(rule),
        // What every hook of ours answers; see bpf-progs/src/main.rs.
        errno: (!let_through).then_some("EACCES"),
        errno_number: (!let_through).then_some(libc::EACCES),
        pid: denial.process,
        tid: denial.thread,
    }
}

fn names<'a>(denial: &Denial, policy: &'a Policy) -> Option<line::Names<'a>> {
    let (first, second) = match denial.names.as_slice() {
        [] => return None,
        [first] => (first, None),
        [first, second, ..] => (first, Some(second)),
    };
    let shown = |name: &Name| text::path(name, denial.cut, policy);
    let path = shown(first);
    let second = second.map(|name| {
        let path = shown(name);
        line::Second {
            path2: path.text,
            path2_bytes: path.bytes,
            preopen2: text::preopen(name, policy),
            denied: if denial.second { "path2" } else { "path" },
        }
    });
    Some(line::Names {
        path: path.text,
        path_bytes: path.bytes,
        preopen: text::preopen(first, policy),
        second,
        cut: denial.cut,
        directory: denial.directory,
    })
}

fn rule(rule: &Rule) -> line::Rule<'_> {
    let (line, column, option) = match &rule.origin {
        Origin::Policy { line, column } => (Some(*line), Some(*column), None),
        Origin::CommandLine(option) => (None, None, Some(option.as_str())),
        Origin::Implied(_) => (None, None, None),
    };
    line::Rule {
        number: rule.number,
        kind: rule.kind.name(),
        text: &rule.text,
        line,
        column,
        option,
    }
}
