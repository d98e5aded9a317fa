//! The text of a policy, with its name for messages.
//!
//! Everything that reports a position relies on this: offsets count bytes, lines count from 1,
//! columns count characters from 1.

use std::ops::Range;

/// Longest policy text, in bytes. Far above what a person or a generator of 10,000 rules writes;
/// it bounds what the parser is asked to hold.
pub const MAX_SOURCE_BYTES: usize = 16 * 1024 * 1024;

/// A policy's text and the name under which messages speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What messages call it, usually the path that the user gave.
    pub name: String,
    /// The text; that it is UTF-8 is checked by [`crate::load`].
    pub bytes: Vec<u8>,
}

impl Source {
    /// A source from its parts.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }

    /// The bytes of the line that holds `offset`, without its line end, and where it starts.
    pub(crate) fn line_at(&self, offset: usize) -> (usize, &[u8]) {
        let offset = offset.min(self.bytes.len());
        let start =
            self.bytes[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = &self.bytes[start..];
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = &rest[..end];
        (start, line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Finds lines and columns; made once per source, because counting lines anew for each of
/// thousands of rules would cost the square of the policy's size.
pub(crate) struct LineIndex<'a> {
    bytes: &'a [u8],
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        let ends = source.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Self { bytes: &source.bytes, starts }
    }

    /// Line and column of a byte offset, both from 1. An offset past the end is the end.
    pub(crate) fn position(&self, offset: usize) -> (u32, u32) {
        let offset = offset.min(self.bytes.len());
        let line = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.starts.get(line).copied().unwrap_or(0);
        // Bytes that continue a UTF-8 character do not start a column.
        let column = self.bytes[start..offset].iter().filter(|byte| **byte & 0xc0 != 0x80).count();
        (to_number(line), to_number(column))
    }

    /// The byte offset of a line and column, as [`LineIndex::position`] gives them.
    pub(crate) fn offset(&self, line: u32, column: u32) -> usize {
        let start = self.starts.get((line as usize).saturating_sub(1));
        let start = start.copied().unwrap_or(self.bytes.len());
        let mut left = column;
        let rest = self.bytes[start..].iter();
        start
            + rest
                .take_while(|byte| {
                    left -= u32::from(**byte & 0xc0 != 0x80 && left > 0);
                    left > 0
                })
                .count()
    }

    /// Whether the text of a line (from 1), without leading blanks, starts with `byte`.
    pub(crate) fn starts_with(&self, line: u32, byte: u8) -> bool {
        let start = self.starts.get((line as usize).saturating_sub(1)).copied().unwrap_or(0);
        self.bytes[start..].iter().find(|b| **b != b' ' && **b != b'\t') == Some(&byte)
    }
}

/// Zero-based count to one-based number that fits messages.
fn to_number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX - 1) + 1
}

/// A range of byte offsets in a source.
pub type Span = Range<usize>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let source = Source::new("p", "a\nüx = 1\n");
        let lines = LineIndex::new(&source);
        assert_eq!(lines.position(0), (1, 1));
        assert_eq!(lines.position(2), (2, 1));
        assert_eq!(lines.position(4), (2, 2), "after the two bytes of ü");
        assert_eq!(lines.position(999), (3, 1), "past the end is the end");
        for offset in [0, 1, 2, 4, 5, 10] {
            let (line, column) = lines.position(offset);
            assert_eq!(lines.offset(line, column), offset);
        }
    }

    #[test]
    fn a_line_comes_without_its_end() {
        let source = Source::new("p", "one\r\ntwo");
        assert_eq!(source.line_at(1), (0, &b"one"[..]));
        assert_eq!(source.line_at(6), (5, &b"two"[..]));
    }
}
