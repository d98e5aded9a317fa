//! Output of suites that run at the same time: each line begins with the suite's name.

use std::io;

use crate::vm::{self, Stream};

/// How a suite speaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Voice {
    name: &'static str,
}

impl Voice {
    /// That of the suite with this name.
    pub(super) fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// The suite.
    pub(super) const fn name(self) -> &'static str {
        self.name
    }

    /// Says something on standard output.
    pub(super) fn say(self, text: &str) {
        let mut lines = self.lines(Stream::Stdout);
        // Whoever closed our standard output does not want to hear of it.
        let _ = lines.write(text.as_bytes());
    }

    /// For output that comes in pieces.
    pub(super) fn lines(self, stream: Stream) -> Lines {
        Lines { voice: self, stream, rest: Vec::new() }
    }
}

/// Output in pieces, printed in whole lines.
pub(super) struct Lines {
    voice: Voice,
    stream: Stream,
    rest: Vec<u8>,
}

impl Lines {
    /// Prints the lines that are complete.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else { return Ok(()) };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        vm::print(self.stream, &self.prefixed(&whole))
    }

    fn prefixed(&self, whole: &[u8]) -> Vec<u8> {
        let front = format!("{:<12}| ", self.voice.name);
        let mut text = Vec::new();
        for line in whole.split_inclusive(|&byte| byte == b'\n') {
            text.extend_from_slice(front.as_bytes());
            text.extend_from_slice(line);
        }
        text
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.rest.is_empty() {
            let mut whole = std::mem::take(&mut self.rest);
            whole.push(b'\n');
            let _ = vm::print(self.stream, &self.prefixed(&whole));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_name_and_pieces_wait_for_their_end() {
        let mut lines = Voice::new("guest-6.1").lines(Stream::Stderr);
        assert_eq!(lines.prefixed(b"a\nb\n"), b"guest-6.1   | a\nguest-6.1   | b\n");
        lines.write(b"half").unwrap();
        assert_eq!(lines.rest, b"half");
        lines.write(b" done\nnext").unwrap();
        assert_eq!(lines.rest, b"next");
    }
}
