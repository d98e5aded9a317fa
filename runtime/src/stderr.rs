//! Writing to standard error. Relied on by everything that has something to tell there.

use std::io::Write as _;

/// Prints a warning to stderr.
pub(crate) fn warning(text: &str) {
    write(&format!("warning: {}\n", printable(text)));
}

/// Writes text that is already in its final form to stderr.
pub(crate) fn write(text: &str) {
    // Nothing is left to be done if stderr is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Control characters do not reach the terminal: paths, and names that a guest chose, stand in
/// messages.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}
