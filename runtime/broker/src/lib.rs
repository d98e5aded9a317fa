//! The broker: loads, attaches and reads BPF objects for guests, within their policies.
//!
//! ```text
//!  worker (no rights)                 broker (the supervisor's rights)          parser (no rights)
//!  wasm_bpf imports ── Request ────►  policy, kernel  ── the object's bytes ──►  aya-obj
//!                   ◄── Reply ──────                  ◄── Image ───────────────
//! ```
//!
//! * [`protocol`], [`window`]: between worker and broker.
//! * [`image`]: what the parser makes of an object. [`mod@parse`] is that parser; it runs in a
//!   process of its own that can reach nothing ([`parser`]).
//! * [`section`]: what a section's name says about a program.
//! * [`check`]: holds an image against a policy.
//! * [`kernel`]: makes maps, loads and attaches programs, reads buffers. All `unsafe` is in
//!   `kernel::sys`.
//! * [`broker`]: the objects of one guest, and the answers to its worker's questions.

pub mod broker;
pub mod check;
pub mod image;
pub mod kernel;
pub mod parse;
pub mod parser;
pub mod protocol;
pub mod section;
pub mod window;
