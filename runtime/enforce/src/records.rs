//! Reading and decoding a guest's records.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use wasi_guard_abi::{
    operation::{Operation, Reason, Subject},
    record::{FLAG_AUDIT, FLAG_CUT, FLAG_DIRECTORY, FLAG_SECOND, FLAG_UNDER1, FLAG_UNDER2, Record},
};

/// A name in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The preopen that the path starts at, `None` if it starts at the root of its file system
    /// because it lies under no preopen.
    pub preopen: Option<u16>,
    /// The path's bytes, without a leading slash; empty for the preopen itself.
    pub path: Vec<u8>,
}

/// An address in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// `AF_*`.
    pub family: u16,
    /// `SOCK_*`.
    pub kind: u16,
    /// `IPPROTO_*`.
    pub protocol: u16,
    /// Address and port, if the operation has one.
    pub address: Option<std::net::SocketAddr>,
}

/// One denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Nanoseconds of `CLOCK_BOOTTIME`.
    pub time: u64,
    /// Process in the initial pid namespace.
    pub process: u32,
    /// Its thread.
    pub thread: u32,
    /// What was attempted.
    pub operation: Operation,
    /// Why it was denied.
    pub reason: Reason,
    /// Rights that were wanted.
    pub wanted: u16,
    /// Rights that the name has.
    pub rights: u16,
    /// The deciding rule's number, 0 if none.
    pub rule: u32,
    /// It was only recorded.
    pub audit: bool,
    /// A path is too long for a record and lost its beginning.
    pub cut: bool,
    /// The object is a directory.
    pub directory: bool,
    /// The denial is about the second name.
    pub second: bool,
    /// Names: none for operations without one, two for rename and link.
    pub names: Vec<Name>,
    /// Socket operations.
    pub socket: Option<Socket>,
}

/// A guest's ring buffer.
pub struct Records {
    ring: RingBuf<MapData>,
}

impl Records {
    pub(crate) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }
}

/// What has come in: never ends for good, `None` only means that nothing is there now. `Err`
/// carries the bytes of a record that this build does not understand.
impl Iterator for Records {
    type Item = Result<Denial, Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.ring.next()?;
        Some(decode(&item).ok_or_else(|| item.to_vec()))
    }
}

impl AsFd for Records {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Decodes a record; `None` if it is none.
pub fn decode(bytes: &[u8]) -> Option<Denial> {
    let at = bytes.len().checked_sub(size_of::<Record>())?;
    let (paths, head) = bytes.split_at(at);
    let mut head = Fields(head);
    let time = head.u64()?;
    let (thread, process) = (head.u32()?, head.u32()?);
    let operation = Operation::from_number(head.u16()?)?;
    let reason = Reason::from_number(head.u16()?)?;
    let (wanted, rights) = (head.u16()?, head.u16()?);
    let (rule, flags) = (head.u32()?, head.u32()?);
    let preopens = [head.u16()?, head.u16()?];
    let lengths = [usize::from(head.u16()?), usize::from(head.u16()?)];
    let (family, port, protocol, kind) = (head.u16()?, head.u16()?, head.u16()?, head.u16()?);
    let address: [u8; 16] = head.take()?;

    let first = paths.len().checked_sub(lengths[0])?;
    if first.checked_sub(lengths[1])? != 0 {
        return None;
    }
    let (second, first) = paths.split_at(first);
    let name = |path: &[u8], under: bool, preopen: u16| Name {
        preopen: under.then_some(preopen),
        path: path.to_vec(),
    };
    let first = name(first, flags & FLAG_UNDER1 != 0, preopens[0]);
    let names = match operation.subject() {
        Subject::Name => vec![first],
        Subject::TwoNames => vec![first, name(second, flags & FLAG_UNDER2 != 0, preopens[1])],
        Subject::Socket | Subject::Address | Subject::Nothing => Vec::new(),
    };
    let address = match operation.subject() {
        Subject::Address => socket_address(family, address, port),
        _ => None,
    };
    let socket = matches!(operation.subject(), Subject::Socket | Subject::Address)
        .then_some(Socket { family, kind, protocol, address });
    Some(Denial {
        time,
        process,
        thread,
        operation,
        reason,
        wanted,
        rights,
        rule,
        audit: flags & FLAG_AUDIT != 0,
        cut: flags & FLAG_CUT != 0,
        directory: flags & FLAG_DIRECTORY != 0,
        second: flags & FLAG_SECOND != 0,
        names,
        socket,
    })
}

fn socket_address(family: u16, address: [u8; 16], port: u16) -> Option<std::net::SocketAddr> {
    let ip = match i32::from(family) {
        libc::AF_INET => {
            let [a, b, c, d, ..] = address;
            std::net::IpAddr::from([a, b, c, d])
        }
        libc::AF_INET6 => std::net::IpAddr::from(address),
        _ => return None,
    };
    Some((ip, port).into())
}

/// Reads fields of a `repr(C)` struct without padding, in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_ne_bytes)
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("fd", &self.ring.as_fd().as_raw_fd()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(path2: &[u8], path1: &[u8], operation: Operation, flags: u32) -> Vec<u8> {
        let mut out = [path2, path1].concat();
        out.extend(7u64.to_ne_bytes());
        out.extend(11u32.to_ne_bytes());
        out.extend(12u32.to_ne_bytes());
        for word in [operation as u16, Reason::Deny as u16, 1, 2] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(3u32.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        for word in [4, 5, path1.len() as u16, path2.len() as u16, 2, 443, 6, 1] {
            out.extend(word.to_ne_bytes());
        }
        out.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out.len() - path1.len() - path2.len(), size_of::<Record>());
        out
    }

    #[test]
    fn both_names_of_a_rename_are_decoded() {
        let record =
            decode(&bytes(b"to", b"a/from", Operation::Rename, FLAG_UNDER1 | FLAG_SECOND)).unwrap();
        assert_eq!(record.names[0], Name { preopen: Some(4), path: b"a/from".to_vec() });
        assert_eq!(record.names[1], Name { preopen: None, path: b"to".to_vec() });
        assert!(record.second && !record.audit);
        assert_eq!((record.time, record.thread, record.process, record.rule), (7, 11, 12, 3));
    }

    #[test]
    fn addresses_are_decoded() {
        let record = decode(&bytes(b"", b"", Operation::Connect, FLAG_AUDIT)).unwrap();
        assert_eq!(
            record.socket.unwrap().address,
            Some(std::net::SocketAddr::from(([10, 0, 0, 1], 443)))
        );
        assert!(record.audit && record.names.is_empty());
    }

    #[test]
    fn truncated_and_inconsistent_records_are_refused() {
        let good = bytes(b"to", b"from", Operation::Rename, 0);
        for len in 0..good.len() {
            let _ = decode(&good[good.len() - len..]);
        }
        assert!(decode(&good[1..]).is_none());
        assert!(decode(b"").is_none());
        let mut unknown = good;
        let at = unknown.len() - size_of::<Record>() + 16;
        unknown[at..at + 2].copy_from_slice(&999u16.to_ne_bytes());
        assert!(decode(&unknown).is_none());
    }
}
