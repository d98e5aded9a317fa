//! Runs WASI guests under file-level policies that the Linux kernel enforces.
//!
//! The library is what the `wasi-guard` executable is made of; docs/architecture.md tells how the
//! parts work together.

pub mod audit;
pub mod cache;
pub mod cli;
pub mod compile;
pub mod protocol;
pub mod supervisor;
pub mod worker;
