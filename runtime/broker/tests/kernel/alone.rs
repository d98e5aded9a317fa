//! Tests that need a process of their own: the test program starts itself for them.

use std::process::{Command, Stdio};

const MARK: &str = "WASI_GUARD_BROKER_TEST_ALONE";

/// Is this that process?
pub(crate) fn is_alone() -> bool {
    std::env::var_os(MARK).is_some()
}

/// A command that runs one test of this program, with nothing else in its process.
pub(crate) fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--test-threads=1", "--nocapture"])
        .env(MARK, "1")
        .stdin(Stdio::null());
    command
}
