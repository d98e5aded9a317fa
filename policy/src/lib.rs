//! The policy language of wasi-guard.
//!
//! * [`load`] reads the text of a policy, with every error at once, into a [`Policy`];
//!   [`Policy::from_grants`] makes one from command line options.
//! * [`mod@compile`] turns a policy into the table that the kernel side reads.
//! * [`mod@evaluate`] says what a policy means, in plain Rust: the oracle of the tests.
//! * [`mod@explain`] says it to people.
//! * [`mod@assertions`] holds a policy against what somebody expects of it.
//! * [`mod@bpf`] says what a guest may load into the kernel through the `wasm_bpf` imports.
//! * [`mod@show`] shows what a policy was compiled to.
//! * [`mod@reference`] writes the reference of the language from the schema.
//!
//! There is no unsafe code here and no system call: host names come in as [`Addresses`], roots as
//! numbers.

#![forbid(unsafe_code)]

pub mod assertions;
pub mod bpf;
pub mod compile;
pub mod diagnostic;
pub mod evaluate;
pub mod explain;
mod files;
mod grants;
mod guest_path;
mod model;
pub mod network;
mod parse;
pub mod pattern;
pub mod quantity;
pub mod reference;
pub mod schema;
pub mod show;
mod source;

pub use assertions::Assertions;
pub use bpf::Bpf;
pub use compile::{CompileError, Stats, Table, compile};
pub use diagnostic::{Diagnostic, Severity, render_all};
pub use evaluate::{Attempt, Decision, Verdict, evaluate};
pub use explain::explain;
pub use files::FileError;
pub use grants::Grants;
pub use guest_path::{GuestPathError, Name, Place};
pub use model::{
    Addresses, Audit, DEFAULT_RING, DiskLimits, Limits, Mode, Origin, PathRule, Policy, Preopen,
    PreopenKind, Rule, RuleKind, RuleNumber, rights_text,
};
pub use parse::load;
pub use source::{MAX_SOURCE_BYTES, Source, Span};
