//! The rooms behind `cargo xtask`: everything but the command line itself.
//!
//! `bench` measures, `vm` boots virtual machines, `bpf` builds the BPF object, `docs` writes generated pages,
//! `guests` compiles guest programs, `pypi` fetches ready-made ones, `fuzz` tries hostile inputs,
//! `suites` is the list of all tests, `host` knows which packages a task needs and `tools` which
//! programs from crates.io, `project` knows the tree and runs cargo, `process` runs programs with
//! clear errors.

pub mod bench;
pub mod bpf;
pub mod docs;
pub mod fuzz;
pub mod guests;
pub mod host;
pub mod process;
pub mod project;
pub mod pypi;
pub mod suites;
pub mod tools;
pub mod vm;
