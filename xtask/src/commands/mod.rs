//! One file per command.

pub(crate) mod bench;
pub(crate) mod bpf;
pub(crate) mod demo;
pub(crate) mod docs;
pub(crate) mod fuzz;
pub(crate) mod test;
pub(crate) mod vm;
