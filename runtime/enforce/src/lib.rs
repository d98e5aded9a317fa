//! Brings compiled policies into force in the kernel.
//!
//! In the order of a start, as docs/architecture.md numbers it:
//!
//! 1. [`host`] looks at what the host offers and names what is missing.
//! 2. [`programs`] loads the BPF programs and pins them, or takes the pins of an earlier start.
//! 3. [`guest`] makes a cgroup, marks preopen roots, creates the guest's maps.
//! 4. [`spawn`] starts a process straight into that cgroup, where everything is denied, and into
//!    namespaces of its own ([`isolation`]).
//! 5. [`guest::Guest::arm`] puts the policy into force in one step.
//! 6. [`records`] reads what was denied.
//!
//! Relied on by the `wasi-guard` supervisor and by the kernel suite, which guards small native
//! programs with it. All raw system calls are in [`sys`], the only room here with `unsafe`.

pub mod cgroup;
pub mod collect;
pub mod error;
pub mod fault;
pub mod guest;
pub mod host;
pub mod isolation;
pub mod log;
pub mod mark;
pub mod privilege;
pub mod programs;
pub mod records;
pub mod spawn;
pub mod sys;

pub use error::{Error, Result};
