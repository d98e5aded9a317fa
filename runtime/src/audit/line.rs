//! The shape of a line: what serde makes of these types is what docs/audit.schema.json describes.

use serde::Serialize;

/// One line.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    pub(super) time: String,
    /// `denial`, `start`, `reload`, `reload_refused`, `loss`, `samples_lost`, `limit` or `end`.
    pub(super) record: &'static str,
    #[serde(flatten)]
    pub(super) head: &'a Head,
    #[serde(flatten)]
    pub(super) body: Body<'a>,
}

/// What all lines of a run have in common.
#[derive(Debug, Serialize)]
pub(super) struct Head {
    pub(super) guest: String,
    pub(super) policy: String,
    pub(super) policy_digest: String,
    pub(super) module: String,
    pub(super) module_digest: String,
    pub(super) mode: &'static str,
    pub(super) layers: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Body<'a> {
    Denial(Box<Denial<'a>>),
    Start { version: &'static str },
    Reload { by: &'a str, previous_policy: &'a str, previous_digest: &'a str },
    ReloadRefused { by: &'a str, offered: &'a str, error: &'a str },
    Loss { count: u64 },
    SamplesLost { map: &'a str, count: u64 },
    Limit { limit: &'a str, detail: &'a str },
    End(End),
}

#[derive(Debug, Serialize)]
pub(super) struct Denial<'a> {
    pub(super) operation: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<Names<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<Socket>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) syscall: Option<Syscall<'a>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) wasm_bpf: Option<WasmBpf<'a>>,
    pub(super) wanted: Vec<&'static str>,
    pub(super) rights: Vec<&'static str>,
    pub(super) verdict: &'static str,
    pub(super) reason: &'static str,
    pub(super) rule: Option<Rule<'a>>,
    pub(super) errno: Option<&'static str>,
    pub(super) errno_number: Option<i32>,
    pub(super) pid: u32,
    pub(super) tid: u32,
}

/// Names of an operation on files.
#[derive(Debug, Serialize)]
pub(super) struct Names<'a> {
    pub(super) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_bytes: Option<String>,
    pub(super) preopen: Option<&'a str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) second: Option<Second<'a>>,
    pub(super) cut: bool,
    pub(super) directory: bool,
}

/// The new name of a rename or link.
#[derive(Debug, Serialize)]
pub(super) struct Second<'a> {
    pub(super) path2: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path2_bytes: Option<String>,
    pub(super) preopen2: Option<&'a str>,
    /// `path` or `path2`.
    pub(super) denied: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Socket {
    pub(super) family: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
}

/// A call that the seccomp list does not let through.
#[derive(Debug, Serialize)]
pub(super) struct Syscall<'a> {
    pub(super) syscall: &'a str,
    pub(super) arguments: [String; 6],
}

/// A call of the guest's to an import of `wasm_bpf`.
#[derive(Debug, Serialize)]
pub(super) struct WasmBpf<'a> {
    pub(super) import: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) program: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct Rule<'a> {
    pub(super) number: u32,
    pub(super) kind: &'static str,
    pub(super) text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) option: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct End {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signal: Option<i32>,
    pub(super) denied: u64,
    pub(super) lost: u64,
    pub(super) errors: u64,
    pub(super) unwritten: u64,
}
