//! Runs WASI guests under file-level policies that the Linux kernel enforces.
//!
//! The library is what the `wasi-guard` executable is made of; docs/architecture.md tells how the
//! parts work together.

pub mod audit;
#[cfg(feature = "run")]
pub mod cache;
#[cfg(feature = "run")]
pub mod cli;
#[cfg(feature = "run")]
pub mod compile;
#[cfg(feature = "run")]
mod confined;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "run")]
mod names;
pub mod protocol;
mod stderr;
#[cfg(feature = "run")]
pub mod supervisor;
#[cfg(feature = "run")]
pub mod worker;
