//! What the programs of this crate share: the actor, which does what a hostile worker could do,
//! and the little around it.
//!
//! The kernel suite and the kernel bench both start themselves again as the actor, inside a
//! guarded cgroup and outside of one, and ask it for one operation at a time.

pub mod actor;
pub mod measure;
pub mod operation;
pub mod perform;
pub mod random;
pub mod report;
pub mod scale;
pub mod single_files;
pub mod suite;
pub mod sys;
