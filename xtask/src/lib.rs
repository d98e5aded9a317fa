//! The rooms behind `cargo xtask`: everything but the command line itself.
//!
//! `bench` measures, `vm` boots virtual machines, `bpf` builds the BPF object, `docs` writes generated pages,
//! `guests` compiles guest programs, `pypi` fetches ready-made ones, `suites` is the list of all
//! tests, `host` knows which packages a task needs, `project` knows the tree and runs cargo,
//! `process` runs programs with clear errors.

pub mod bench;
pub mod bpf;
pub mod docs;
pub mod guests;
pub mod host;
pub mod process;
pub mod project;
pub mod pypi;
pub mod suites;
pub mod vm;
