//! The audit: one JSON line for each denial and for what else an operator must know about a run.
//!
//! Relied on by the supervisor. docs/audit.md explains every field, docs/audit.schema.json is the
//! schema; a test holds the lines made here against it.
//!
//! Nothing here fails a run: a line that cannot be written is counted, and the kernel's verdicts
//! do not wait for it.

mod auditor;
mod clock;
mod line;
mod sink;
mod sys;
mod text;

pub use auditor::{About, Auditor, End, Syscall, Verdict, WasmBpf};
pub use sink::Sink;
pub use sys::inherited;

#[cfg(test)]
mod tests;
