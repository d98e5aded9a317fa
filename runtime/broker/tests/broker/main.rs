//! A broker at work, over a socket and a window as a worker has them, on the kernel that runs the
//! tests: root is needed, and they fail without. Objects are parsed in this process.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

#[path = "../kernel/alone.rs"]
mod alone;
mod arbitrary;
#[path = "../parse/compile.rs"]
mod compile;
mod ends;
mod limits;
mod maps;
mod objects;
mod refusals;
mod samples;
mod worker;

use std::time::{Duration, Instant};

/// Waits until `done`, for at most ten seconds.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come about in ten seconds");
        std::thread::sleep(Duration::from_millis(5));
    }
}
