//! What a module's first bytes say that it is. This is all that is looked at outside the compile
//! process.

/// What the bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A core module.
    Module,
    /// A component.
    Component,
    /// Perhaps the text format.
    Text,
    /// None of these, and why.
    Unusable(String),
}

/// How many bytes [`Content::of`] looks at, at most.
pub(super) const PEEK: usize = 4096;

const MAGIC: &[u8] = b"\0asm";
const MODULE: &[u8] = &[1, 0, 0, 0];
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];
const ELF: &[u8] = b"\x7fELF";

impl Content {
    /// Looks at the first bytes of a file; eight are enough for the binary formats.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let head = bytes.get(..PEEK).unwrap_or(bytes);
        if head.is_empty() {
            return Self::Unusable("the file is empty".to_owned());
        }
        if let Some(rest) = head.strip_prefix(MAGIC) {
            return Self::of_version(rest);
        }
        if MAGIC.starts_with(head) {
            return Self::Unusable("the file ends within the first eight bytes".to_owned());
        }
        if head.starts_with(ELF) {
            return Self::Unusable(
                "it is an ELF file. Precompiled modules (.cwasm) are not accepted: give the \
                 .wasm file, its compiled form is kept in wasi-guard's own cache"
                    .to_owned(),
            );
        }
        if looks_like_text(head) {
            return Self::Text;
        }
        Self::Unusable("it is not WebAssembly: a module begins with \\0asm".to_owned())
    }

    fn of_version(version: &[u8]) -> Self {
        match version.get(..4) {
            Some(MODULE) => Self::Module,
            Some(COMPONENT) => Self::Component,
            Some(other) => Self::Unusable(format!(
                "it is WebAssembly of an unknown version (bytes {other:02x?})"
            )),
            None => Self::Unusable("the file ends within the first eight bytes".to_owned()),
        }
    }
}

/// The text format begins with a parenthesis, an annotation or a comment.
fn looks_like_text(head: &[u8]) -> bool {
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'(' | b';')) && !head.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(Content::of(b"\0asm\x01\0\0\0rest"), Content::Module);
        assert_eq!(Content::of(b"\0asm\x0d\0\x01\0rest"), Content::Component);
        assert_eq!(Content::of(b" \n(module)"), Content::Text);
        assert_eq!(Content::of(b";; text\n(component)"), Content::Text);
        for (bytes, word) in [
            (&b""[..], "empty"),
            (b"\0a", "ends within"),
            (b"\0asm\x01\0", "ends within"),
            (b"\0asm\x02\0\0\0", "unknown version"),
            (b"#!/bin/sh", "not WebAssembly"),
            (b"(\0", "not WebAssembly"),
            (b"\x7fELF\x02", "Precompiled"),
        ] {
            match Content::of(bytes) {
                Content::Unusable(why) => assert!(why.contains(word), "{bytes:?}: {why}"),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
    }
}
