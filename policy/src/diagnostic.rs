//! Errors and warnings about a policy's text, and how they are shown.

use std::fmt;

use crate::model::{Origin, Rule};
use crate::source::{LineIndex, Source, Span};

/// How grave a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The policy cannot be used.
    Error,
    /// The policy can be used; a person should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One finding about a policy's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it, in one line.
    pub hint: Option<String>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Bytes of the source that it is about; may be empty.
    pub span: Span,
}

impl Diagnostic {
    /// A finding about `span` of the source behind `lines`.
    pub(crate) fn new(
        severity: Severity,
        lines: &LineIndex<'_>,
        span: Span,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Self {
        let (line, column) = lines.position(span.start);
        Self { severity, message: message.into(), hint, line, column, span }
    }

    /// Warnings about rules of a policy, each with its message and hint, by position. Rules that
    /// stand in no text are left out.
    pub fn warnings_about<'r>(
        source: &Source,
        findings: impl IntoIterator<Item = (&'r Rule, String, String)>,
    ) -> Vec<Self> {
        let lines = LineIndex::new(source);
        let mut warnings = Findings::new(&lines);
        for (rule, message, hint) in findings {
            let Origin::Policy { line, column } = rule.origin else { continue };
            let start = lines.offset(line, column);
            // The text stands in quotes.
            warnings.warn(start..start + rule.text.len() + 2, message, Some(hint));
        }
        warnings.finish()
    }

    /// The finding as people read it: the message, `file:line:column`, the line with carets
    /// below the place, and the hint. Ends with a line feed. Control characters of the source
    /// are shown as `\u{fffd}`, so that a policy cannot drive the terminal.
    pub fn render(&self, source: &Source) -> String {
        let (line_start, line) = source.line_at(self.span.start);
        let text = printable(&String::from_utf8_lossy(line));
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let indent = " ".repeat((self.column as usize).saturating_sub(1));
        // The place may be the line's end, which the line does not have.
        let end = self.span.end.min(line_start + line.len()).max(self.span.start);
        let marked = source.bytes.get(self.span.start..end).unwrap_or_default();
        let carets = "^".repeat(String::from_utf8_lossy(marked).chars().count().max(1));
        let mut out = format!(
            "{}: {}\n{gutter}--> {}:{}:{}\n{gutter} |\n{number} | {text}\n{gutter} | {indent}{carets}\n",
            self.severity,
            printable(&self.message),
            printable(&source.name),
            self.line,
            self.column,
        );
        if let Some(hint) = &self.hint {
            out.push_str(&format!("{gutter} = hint: {}\n", printable(hint)));
        }
        out
    }
}

/// Every finding rendered, separated by empty lines, and a last line that counts them.
/// Empty if there are none.
pub fn render_all(diagnostics: &[Diagnostic], source: &Source) -> String {
    if diagnostics.is_empty() {
        return String::new();
    }
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&diagnostic.render(source));
        out.push('\n');
    }
    let count = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let counted = |number: usize, word: &str| match number {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{number} {word}s")),
    };
    let counts: Vec<String> =
        [counted(count(Severity::Error), "error"), counted(count(Severity::Warning), "warning")]
            .into_iter()
            .flatten()
            .collect();
    out.push_str(&format!("{}: {}\n", printable(&source.name), counts.join(", ")));
    out
}

/// The text without what could drive a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Collects findings while a source is read.
pub(crate) struct Findings<'a> {
    lines: &'a LineIndex<'a>,
    list: Vec<Diagnostic>,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(lines: &'a LineIndex<'a>) -> Self {
        Self { lines, list: Vec::new() }
    }

    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.list.push(Diagnostic::new(Severity::Error, self.lines, span, message, hint));
    }

    pub(crate) fn warn(&mut self, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.list.push(Diagnostic::new(Severity::Warning, self.lines, span, message, hint));
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Drops findings for which `keep` is false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// Everything found, by position.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.list.sort_by(|a, b| {
            (a.span.start, a.span.end, a.severity, &a.message).cmp(&(
                b.span.start,
                b.span.end,
                b.severity,
                &b.message,
            ))
        });
        self.list.dedup();
        self.list
    }
}

/// The candidate that `word` was most likely meant to be, if one is near enough.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance in which two neighbours that changed places count once (optimal string
/// alignment), because that is how people mistype.
fn distance(a: &str, b: &str) -> usize {
    // A key of a policy is short; a longer word is no misspelling of one.
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_misspellings_and_leaves_other_words_alone() {
        let keys = ["read", "write", "create", "delete", "deny"];
        assert_eq!(nearest("raed", keys), Some("read"));
        assert_eq!(nearest("Write", keys), Some("write"));
        assert_eq!(nearest("crate", keys), Some("create"));
        assert_eq!(nearest("execute", keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }

    #[test]
    fn rendering_shows_place_and_hint_and_defuses_control_characters() {
        let source = Source::new("app.toml", "version = 1\n\traed = \"\u{1b}[31m\"\n");
        let diagnostic = Diagnostic::new(
            Severity::Error,
            &LineIndex::new(&source),
            13..17,
            "unknown key `raed`",
            Some("did you mean `read`?".into()),
        );
        assert_eq!(
            diagnostic.render(&source),
            "error: unknown key `raed`\n --> app.toml:2:2\n  |\n2 |  raed = \"\u{fffd}[31m\"\n  |  ^^^^\n  = hint: did you mean `read`?\n"
        );
    }

    #[test]
    fn a_place_at_the_end_of_any_line_is_shown() {
        for text in ["[[\r", "[[\r\n", "[[\n", "[[", "\r", "", "\n\r\n"] {
            let source = Source::new("app\u{1b}.toml", text);
            let lines = LineIndex::new(&source);
            for start in 0..=text.len() {
                for end in start..=text.len() {
                    let found = Diagnostic::new(Severity::Error, &lines, start..end, "bad", None);
                    let shown = found.render(&source);
                    assert!(shown.contains('^') && shown.contains("--> app\u{fffd}.toml:"));
                }
            }
        }
    }

    #[test]
    fn findings_come_by_position_and_once() {
        let source = Source::new("p", "abc");
        let lines = LineIndex::new(&source);
        let mut findings = Findings::new(&lines);
        findings.error(2..3, "late", None);
        findings.warn(0..1, "early", None);
        findings.error(2..3, "late", None);
        assert!(findings.has_errors());
        let messages: Vec<String> = findings.finish().into_iter().map(|d| d.message).collect();
        assert_eq!(messages, ["early", "late"]);
    }
}
