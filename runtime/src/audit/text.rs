//! Words and paths of a record.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use wasi_guard_abi::operation::right;
use wasi_guard_enforce::records::Name;
use wasi_guard_policy::Policy;

/// What stands for the part of a path that a record had no room for.
const LOST: &str = "\u{2026}";

/// A path as a record shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathText {
    /// Text; what is not UTF-8 in it is `\u{fffd}`.
    pub(super) text: String,
    /// All bytes in hexadecimal, if the text does not show them.
    pub(super) bytes: Option<String>,
}

/// The guest's path for a name: `/data/x`, or the path from the root of its file system if it lies
/// below no preopen.
pub(super) fn path(name: &Name, cut: bool, policy: &Policy) -> PathText {
    let mut bytes = Vec::new();
    if let Some(guest) = preopen(name, policy) {
        bytes.extend_from_slice(guest.as_bytes());
    }
    // The preopen's own name is whole; between components there is one slash.
    if !name.path.is_empty() || bytes.is_empty() {
        if bytes.last() != Some(&b'/') {
            bytes.push(b'/');
        }
        if cut {
            bytes.extend_from_slice(LOST.as_bytes());
        }
        bytes.extend_from_slice(&name.path);
    }
    match String::from_utf8(bytes) {
        Ok(text) => PathText { text, bytes: None },
        Err(error) => PathText {
            text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            bytes: Some(hex(error.as_bytes())),
        },
    }
}

/// The guest's name for the preopen that a name lies below.
pub(super) fn preopen<'a>(name: &Name, policy: &'a Policy) -> Option<&'a str> {
    let preopen = policy.preopens.get(usize::from(name.preopen?))?;
    Some(&preopen.guest)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The words for a mask of rights.
pub(super) fn rights(mask: u16) -> Vec<&'static str> {
    [
        (right::READ, "read"),
        (right::WRITE, "write"),
        (right::CREATE, "create"),
        (right::DELETE, "delete"),
        (right::STAT, "stat"),
    ]
    .into_iter()
    .filter(|(bit, _)| mask & bit != 0)
    .map(|(_, word)| word)
    .collect()
}

/// The word for an address family, its number if there is none.
pub(super) fn family(number: u16) -> String {
    word(
        number,
        &[
            (libc::AF_UNSPEC, "unspec"),
            (libc::AF_UNIX, "unix"),
            (libc::AF_INET, "inet"),
            (libc::AF_INET6, "inet6"),
            (libc::AF_NETLINK, "netlink"),
            (libc::AF_PACKET, "packet"),
            (libc::AF_ALG, "alg"),
            (libc::AF_VSOCK, "vsock"),
        ],
    )
}

/// The word for a socket type, its number if there is none.
pub(super) fn socket_type(number: u16) -> String {
    word(
        number,
        &[
            (libc::SOCK_STREAM, "stream"),
            (libc::SOCK_DGRAM, "dgram"),
            (libc::SOCK_RAW, "raw"),
            (libc::SOCK_SEQPACKET, "seqpacket"),
        ],
    )
}

/// The word for a protocol, its number if there is none. 0 is the default of family and type.
pub(super) fn protocol(number: u16) -> String {
    word(
        number,
        &[
            (0, "default"),
            (libc::IPPROTO_ICMP, "icmp"),
            (libc::IPPROTO_TCP, "tcp"),
            (libc::IPPROTO_UDP, "udp"),
            (libc::IPPROTO_MPTCP, "mptcp"),
        ],
    )
}

fn word(number: u16, words: &[(i32, &str)]) -> String {
    let known = words.iter().find(|(value, _)| *value == i32::from(number));
    known.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
}

/// A value as JSON in one line. Characters that change how a terminal shows a line (controls,
/// marks of writing direction) are escaped, because guests choose names.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut bytes, Tame))?;
    // The serializer writes UTF-8 only.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Tame;

impl Formatter for Tame {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_wild(*c)) {
            let (before, after) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, before)?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = after.get(c.len_utf8()..).unwrap_or_default();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

/// All of them are in the basic plane, so four hexadecimal digits are enough.
fn is_wild(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use wasi_guard_policy::Grants;

    use super::*;

    fn policy(guests: &[&str]) -> Policy {
        let dirs = guests.iter().map(|guest| (".".into(), (*guest).to_owned())).collect();
        Policy::from_grants(&Grants { dirs, ..Grants::default() })
    }

    fn shown(preopen: Option<u16>, bytes: &[u8], cut: bool) -> (String, Option<String>) {
        let policy = policy(&["/data", "/", "."]);
        let name = Name { preopen, path: bytes.to_vec() };
        let shown = path(&name, cut, &policy);
        (shown.text, shown.bytes)
    }

    #[test]
    fn paths_are_the_guests() {
        assert_eq!(shown(Some(0), b"a/b", false), ("/data/a/b".into(), None));
        assert_eq!(shown(Some(0), b"", false), ("/data".into(), None));
        assert_eq!(shown(Some(1), b"a", false), ("/a".into(), None));
        assert_eq!(shown(Some(1), b"", false), ("/".into(), None));
        assert_eq!(shown(Some(2), b"a", false), ("./a".into(), None));
        assert_eq!(shown(None, b"etc/passwd", false), ("/etc/passwd".into(), None));
        assert_eq!(shown(None, b"", false), ("/".into(), None));
        assert_eq!(shown(Some(9), b"x", false), ("/x".into(), None), "no such preopen");
    }

    #[test]
    fn a_path_that_lost_its_beginning_shows_it() {
        assert_eq!(shown(Some(0), b"end", true), ("/data/\u{2026}end".into(), None));
        assert_eq!(shown(None, b"end", true), ("/\u{2026}end".into(), None));
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let (text, bytes) = shown(Some(0), b"\xff\xfe", false);
        assert_eq!(text, "/data/\u{fffd}\u{fffd}");
        assert_eq!(bytes.as_deref(), Some("2f646174612ffffe"));
    }

    #[test]
    fn what_drives_terminals_is_escaped_and_comes_back() {
        let wild = "a\n\u{1b}[2J\u{7f}\u{9b}31m\u{202e}gpj\u{2028}\u{200f}ü";
        let line = json(&wild).unwrap();
        assert!(line.chars().all(|c| !is_wild(c)), "{line}");
        assert!(line.contains('ü'));
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), wild);
    }

    #[test]
    fn numbers_without_a_word_stay_numbers() {
        assert_eq!((family(2), family(77)), ("inet".into(), "77".into()));
        assert_eq!((socket_type(2), protocol(262)), ("dgram".into(), "mptcp".into()));
        assert_eq!(rights(right::READ | right::STAT), ["read", "stat"]);
    }
}
