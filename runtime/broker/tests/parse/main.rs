//! Objects as clang makes them, and what becomes of them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod compile;
mod features;
mod hostile;
mod images;
mod objects;
