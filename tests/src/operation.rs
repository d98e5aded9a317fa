//! What an actor can be asked to do: one message there, one back, both in postcard.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::measure::Sample;

/// Number of the directory handle that stands for the base of a test: it lies outside of every
/// preopen. Preopen `n` has the handle `n`.
pub const BASE: u8 = 60;
/// No handle: a path that is absolute.
pub const NOWHERE: u8 = 255;

/// A name: a handle and a path below it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// [`BASE`], [`NOWHERE`] or the number of a preopen.
    pub handle: u8,
    /// The path's bytes.
    pub path: Vec<u8>,
}

/// `preopen 0 "in/a.txt"`.
impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.handle {
            BASE => f.write_str("base")?,
            NOWHERE => f.write_str("absolute")?,
            number => write!(f, "preopen {number}")?,
        }
        // The end says more than the beginning of a long path.
        let from = self.path.len().saturating_sub(80);
        let cut = if from > 0 { "..." } else { "" };
        write!(f, " \"{cut}{}\"", self.path[from..].escape_ascii())
    }
}

/// `path` below the handle `handle`.
pub fn at(handle: u8, path: impl AsRef<[u8]>) -> At {
    At { handle, path: path.as_ref().to_vec() }
}

/// What to do with a file that was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// Close it.
    Close,
    /// Read up to 4096 bytes, the answer.
    Read,
    /// Write these bytes.
    Write(Vec<u8>),
    /// fstat(2).
    Stat,
    /// ftruncate(2) to this many bytes.
    Truncate(u64),
    /// fallocate(2) of this many bytes.
    Allocate(u64),
    /// fchmod(2).
    Chmod,
    /// fchown(2).
    Chown,
    /// futimens(2).
    Times,
    /// getdents64(2); the answer is the names, each with a line feed.
    List,
    /// linkat(2) of `/proc/self/fd/N` to this name.
    Link(At),
    /// linkat(2) of the descriptor itself (`AT_EMPTY_PATH`) to this name.
    LinkEmpty(At),
    /// open(2) of `/proc/self/fd/N` with these flags.
    Reopen(u32),
    /// fgetxattr(2) of [`ATTRIBUTE`]; the answer is its value.
    GetXattr,
    /// flistxattr(2).
    ListXattr,
    /// fsetxattr(2) of [`ATTRIBUTE`].
    SetXattr,
    /// fremovexattr(2) of [`ATTRIBUTE`].
    RemoveXattr,
    /// fgetxattr(2) of the access control list.
    GetAcl,
    /// fsetxattr(2) of the access control list: another user may read.
    SetAcl,
    /// fremovexattr(2) of the access control list.
    RemoveAcl,
}

/// An extended attribute that every file system with attributes takes from root.
pub const ATTRIBUTE: &str = "trusted.wasi_guard";
/// The attribute as which an access control list can be read and written.
pub const ACL: &str = "system.posix_acl_access";

/// An argument of a raw system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arg {
    /// A number.
    Number(u64),
    /// The address of a buffer with these bytes.
    Buffer(Vec<u8>),
    /// The descriptor behind a handle.
    Handle(u8),
    /// The id of this process.
    OwnPid,
    /// The id of its parent.
    ParentPid,
}

/// What to do with a socket that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Use {
    /// Close it.
    Close,
    /// connect(2); a raw sockaddr.
    Connect(Vec<u8>),
    /// bind(2).
    Bind(Vec<u8>),
    /// listen(2).
    Listen,
    /// sendto(2) of one byte with flags and an address, which may be empty for none.
    Send(i32, Vec<u8>),
    /// bind(2), then another use.
    BindThen(Vec<u8>, Box<Use>),
    /// connect(2), then another use.
    ConnectThen(Vec<u8>, Box<Use>),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Do {
    /// Nothing: the answer says that the actor lives.
    Nothing,
    /// openat(2) with these flags (mode 0644), then something with the file.
    Open(At, u32, Then),
    /// As [`Do::Open`], through names opened one by one with `O_PATH`, for paths longer than
    /// PATH_MAX. The last is opened with the flags.
    OpenDeep(u8, Chain, u32),
    /// Something with a descriptor that the actor was given as this handle.
    Given(u8, Then),
    /// open(2) of `/proc/self/fd/N/PATH` for the handle's descriptor N.
    OpenProc(At, u32),
    /// fstatat(2); true: without following a link.
    Stat(At, bool),
    /// fstat(2) of a new pipe.
    StatPipe,
    /// access(2) for reading.
    Access(At),
    /// mkdirat(2).
    Mkdir(At),
    /// unlinkat(2) with AT_REMOVEDIR.
    Rmdir(At),
    /// unlinkat(2).
    Unlink(At),
    /// renameat2(2) with flags.
    Rename(At, At, u32),
    /// linkat(2).
    Link(At, At),
    /// readlinkat(2); the answer is the target.
    Readlink(At),
    /// The system call with this number; the answer is its result, 8 bytes.
    Raw(i64, Vec<Arg>),
    /// ioctl(2) of the handle's descriptor by the entry for 32-bit programs, with an address.
    Ioctl32(u8, u32),
    /// A new io_uring(7), and one request that does nothing, made with registered credentials.
    RingWithCredentials,
    /// A new io_uring(7), and one command to the handle's descriptor.
    RingCommand(u8),
    /// recvmsg(2) at a handle with room for one descriptor; the answer is how many came.
    Receive(u8),
    /// symlinkat(2): target, new name.
    Symlink(Vec<u8>, At),
    /// mknodat(2) of this kind (`S_IFIFO`, ...), mode 0644, device 1:3.
    Mknod(At, u32),
    /// truncate(2) to 0 bytes of an absolute path (handle [`NOWHERE`]).
    Truncate(At),
    /// fchmodat(2).
    Chmod(At),
    /// fchownat(2).
    Chown(At),
    /// utimensat(2).
    Times(At),
    /// socket(2): family, type, protocol; then something with it.
    Socket(i32, i32, i32, Use),
    /// socketpair(2).
    SocketPair(i32, i32, i32),
    /// execve(2) of this program, absolute path. Where it succeeds there is no answer.
    Exec(At),
    /// fork(2); the child ends at once.
    Fork,
    /// clone(2) of a process with `CLONE_NEWUSER`; the child ends at once.
    NewUser,
    /// vfork(2) and execve(2) of this program, absolute path, waiting for its end.
    Spawn(At),
    /// A thread that ends at once.
    Thread,
    /// [`crate::measure::time`]; the answer is its result.
    Measure(Sample),
    /// [`crate::scale::Scale::landlock`]: so many rules, below this directory; the answer is its
    /// result.
    Landlock(usize, String),
    /// Opens the name for reading this many times and reads it; the answer is [`Tally`].
    Hammer(At, u32),
}

/// Names, one below the other.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain(pub Vec<Vec<u8>>);

/// How many and the last.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.last().map_or(&[][..], Vec::as_slice);
        write!(f, "{} names to \"{}\"", self.0.len(), last.escape_ascii())
    }
}

/// What came of opening a name many times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Opened and read.
    pub opened: u32,
    /// EACCES.
    pub denied: u32,
    /// ENOENT.
    pub absent: u32,
    /// Any other errno.
    pub other: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It worked.
    Done(Vec<u8>),
    /// The call with this number (0 for the first of the operation) failed with this errno.
    Failed(u8, i32),
}

/// The raw sockaddr of an address.
pub fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let mut raw = Vec::with_capacity(28);
    match address.ip() {
        IpAddr::V4(v4) => {
            raw.extend((libc::AF_INET as u16).to_ne_bytes());
            raw.extend(address.port().to_be_bytes());
            raw.extend(v4.octets());
            raw.extend([0; 8]);
        }
        IpAddr::V6(v6) => {
            raw.extend((libc::AF_INET6 as u16).to_ne_bytes());
            raw.extend(address.port().to_be_bytes());
            raw.extend([0; 4]);
            raw.extend(v6.octets());
            raw.extend([0; 4]);
        }
    }
    raw
}

/// An IPv4 address and port.
pub fn v4(a: u8, b: u8, c: u8, d: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(a, b, c, d), port).into()
}

/// An IPv6 address, given as text, and port; the unspecified one if the text is none.
pub fn v6(address: &str, port: u16) -> SocketAddr {
    (address.parse::<Ipv6Addr>().unwrap_or(Ipv6Addr::UNSPECIFIED), port).into()
}
