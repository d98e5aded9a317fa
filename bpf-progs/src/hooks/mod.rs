//! The hooks, by family. Each hook here reads its arguments and asks for a decision; a hook of
//! its own file is a family of the kernel's LSM hook names.
//!
//! To add one: its program here, its [`wasi_guard_abi::operation::Operation`], its row in
//! `runtime/enforce/src/programs/hooks.rs`, the reference evaluator, a kernel test, a row in
//! docs/architecture.md.

mod attribute;
mod file;
mod inode;
mod memory;
mod never;
mod path;
mod process;
mod socket;
