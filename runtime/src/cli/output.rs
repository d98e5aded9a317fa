//! Writing to stdout without a panic when it is closed or full.

use std::io::Write as _;

use super::Result;
use crate::supervisor::Error;

/// Writes `text` to stdout.
///
/// # Errors
/// If stdout is closed or full.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::step("write to standard output", error))
}
