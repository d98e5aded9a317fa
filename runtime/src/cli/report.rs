//! How errors and warnings look on stderr.
//!
//! ```text
//! error: could not read the policy app.toml
//!   No such file or directory (os error 2)
//! hint: give the path of a policy, a TOML file
//! ```

use std::fmt::Write as _;

pub(crate) use crate::stderr::{printable, warning, write};
use crate::supervisor::Error;

/// Prints an error to stderr: the step, its causes, the hint, and with `verbose` the details.
pub fn error(error: &Error, verbose: bool) {
    write(&text(error, verbose));
}

/// The error as [`error`] prints it.
#[must_use]
pub fn text(error: &Error, verbose: bool) -> String {
    if error.rendered {
        return error.step.clone();
    }
    let mut out = format!("error: could not {}\n", printable(&error.step));
    let mut last = error.step.as_str();
    for cause in &error.causes {
        // Some errors repeat their source in their own text.
        if !last.ends_with(cause.as_str()) {
            for line in cause.lines().filter(|line| !line.trim().is_empty()) {
                let _ = writeln!(out, "  {}", printable(line.trim_end()));
            }
        }
        last = cause;
    }
    if let Some(hint) = &error.hint {
        let _ = writeln!(out, "hint: {}", printable(hint));
    }
    match &error.details {
        Some(details) if verbose => {
            out.push_str("details:\n");
            for line in details.lines() {
                let _ = writeln!(out, "  {}", printable(line));
            }
        }
        Some(_) => out.push_str("hint: -v shows the details\n"),
        None => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Error {
        let mut error = Error::new("start").hint("try again");
        error.causes = vec!["could not load it: full".into(), "full".into(), "no\n\nroom".into()];
        error
    }

    #[test]
    fn causes_are_indented_and_hints_come_last() {
        assert_eq!(
            text(&error(), false),
            "error: could not start\n  could not load it: full\n  no\n  room\nhint: try again\n"
        );
    }

    #[test]
    fn details_are_for_the_verbose() {
        let mut error = Error::new("load");
        error.details = Some("line 1\nline 2".into());
        assert_eq!(text(&error, false), "error: could not load\nhint: -v shows the details\n");
        assert_eq!(text(&error, true), "error: could not load\ndetails:\n  line 1\n  line 2\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut error = Error::new("open \u{1b}[2J").hint("\u{7f}");
        error.causes.push("\u{9b}31m\r".into());
        assert!(!text(&error, false).chars().any(|c| c.is_control() && c != '\n'));
    }
}
