//! The worker process with a harness in the supervisor's place. Needs no BPF; the canary must be
//! denied by something else, so run it as any user, root included.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes functions outside #[test] for production code"
)]

mod compiling;
mod guests;
mod harness;
mod parsing;
mod refusing;
mod rows;
mod running;
mod sockets;
#[cfg(feature = "test-unchecked-host")]
mod unchecked;
