//! What the policy says of an operation: the names that it is about, and the oracle's verdict.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Result, bail};
use wasi_guard_abi::operation::{Operation, Reason};
use wasi_guard_policy::{
    Name, Place,
    evaluate::{Attempt, Peer, Target},
    network::Protocol,
};
use wasi_guard_tests::operation::{At, BASE, Do, NOWHERE, Then, Use};

/// Why an operation is to be denied, as a case says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// No rule grants it.
    NotGranted,
    /// The deny rule with this text.
    Deny(&'static str),
    /// Below no preopen.
    Outside,
    /// As before, in a file system whose paths the suite does not know.
    OutsideSomewhere,
    /// It would carry rights along.
    Widens,
    /// No guest may.
    Never,
}

impl Why {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::NotGranted => Reason::NotGranted,
            Self::Deny(_) => Reason::Deny,
            Self::Outside | Self::OutsideSomewhere => Reason::Outside,
            Self::Widens => Reason::Widens,
            Self::Never => Reason::Never,
        }
    }
}

/// One thing that the kernel will judge.
#[derive(Clone, Debug)]
pub(crate) struct Judgement {
    /// For the oracle.
    pub(crate) attempt: Attempt,
    /// Paths on the host of the names in its record.
    pub(crate) names: Vec<PathBuf>,
    /// The address in its record.
    pub(crate) address: Option<SocketAddr>,
    /// Number of the system call of the operation in which it happens.
    pub(crate) call: u8,
}

/// Where the names of an operation lie.
pub(crate) struct Ground<'a> {
    /// Everything of a case lies below.
    pub(crate) base: &'a Path,
    /// Preopens' directories by number.
    pub(crate) roots: &'a [PathBuf],
    /// The path that the first name of the operation leads to, if links or mounts lead elsewhere.
    pub(crate) leads_to: Option<PathBuf>,
}

impl Ground<'_> {
    /// The path on the host, without looking at links.
    pub(crate) fn path(&self, at: &At) -> PathBuf {
        let below = Path::new(std::ffi::OsStr::from_bytes(&at.path));
        let from = match at.handle {
            NOWHERE => Path::new("/"),
            BASE => self.base,
            number => self.roots.get(usize::from(number)).map_or(self.base, PathBuf::as_path),
        };
        let mut path = from.to_path_buf();
        for component in below.components() {
            match component {
                Component::RootDir => path = PathBuf::from("/"),
                Component::ParentDir => {
                    path.pop();
                }
                Component::Normal(name) => path.push(name),
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        path
    }

    fn first(&self, at: &At) -> PathBuf {
        self.leads_to.clone().unwrap_or_else(|| self.path(at))
    }

    /// The place of a path on the host: below the innermost preopen.
    pub(crate) fn place(&self, path: &Path) -> Place {
        let innermost = self
            .roots
            .iter()
            .enumerate()
            .filter(|(_, root)| path.starts_with(root))
            .max_by_key(|(_, root)| root.as_os_str().len());
        match innermost {
            Some((preopen, root)) => {
                let below = path.strip_prefix(root).unwrap_or(path);
                Place::Under(Name::new(preopen, below.as_os_str().as_bytes()))
            }
            None => Place::Outside,
        }
    }

    /// What the kernel will judge, in its order, with the files as they are now.
    pub(crate) fn judgements(&self, operation: &Do) -> Result<Vec<Judgement>> {
        let one = |attempt: &dyn Fn(Place) -> Attempt, path: PathBuf, call| {
            let attempt = attempt(self.place(&path));
            vec![Judgement { attempt, names: vec![path], address: None, call }]
        };
        let absent = |path: &Path| path.symlink_metadata().is_err();
        let bare =
            |attempt| Ok(vec![Judgement { attempt, names: Vec::new(), address: None, call: 0 }]);
        Ok(match operation {
            Do::Nothing
            | Do::StatPipe
            | Do::Thread
            | Do::Access(_)
            | Do::Raw(..)
            | Do::Ioctl32(..)
            | Do::RingWithCredentials
            | Do::RingCommand(_)
            | Do::Receive(_)
            | Do::Measure(..)
            | Do::Landlock(..) => Vec::new(),
            // A link is not followed: its own name counts.
            Do::Readlink(at) => one(&|path| Attempt::Readlink { path }, self.path(at), 0),
            Do::NewUser => return bare(Attempt::Never(Operation::Namespace)),
            Do::Open(at, bits, then) => {
                let path = self.first(at);
                let mut list = Vec::new();
                if absent(&path) && bits & libc::O_CREAT as u32 != 0 {
                    list.extend(one(&|path| Attempt::Create { path }, path.clone(), 0));
                }
                if bits & libc::O_PATH as u32 == 0 {
                    list.extend(one(&|path| opening(path, *bits), path.clone(), 0));
                }
                list.extend(self.after_opening(path, then));
                list
            }
            Do::Given(_, then) => {
                let path = self.leads_to.clone().unwrap_or_else(|| self.base.into());
                self.after_opening(path, then).into_iter().collect()
            }
            Do::OpenDeep(handle, names, bits) => {
                let at = At { handle: *handle, path: names.0.join(&b'/') };
                one(&|path| opening(path, *bits), self.path(&at), 1)
            }
            Do::OpenProc(at, bits) => one(&|path| opening(path, *bits), self.first(at), 0),
            Do::Hammer(at, _) => one(&|path| opening(path, 0), self.first(at), 0),
            Do::Stat(at, _) => one(&|path| Attempt::Stat { path }, self.first(at), 0),
            Do::Mkdir(at) => one(&|path| Attempt::Mkdir { path }, self.path(at), 0),
            Do::Rmdir(at) => one(&|path| Attempt::Rmdir { path }, self.path(at), 0),
            Do::Unlink(at) => one(&|path| Attempt::Unlink { path }, self.path(at), 0),
            Do::Symlink(_, at) => one(&|path| Attempt::Symlink { path }, self.path(at), 0),
            Do::Mknod(at, _) => one(&|path| Attempt::Create { path }, self.path(at), 0),
            Do::Truncate(at) => one(&|path| Attempt::Truncate { path }, self.first(at), 0),
            Do::Chmod(at) | Do::Chown(at) | Do::Times(at) => {
                one(&|path| Attempt::SetAttr { path }, self.first(at), 0)
            }
            Do::Rename(from, to, bits) => {
                let (from, to) = (self.first(from), self.path(to));
                let attempt = Attempt::Rename {
                    from: self.place(&from),
                    to: self.place(&to),
                    from_is_dir: is_directory(&from),
                    target: match () {
                        () if absent(&to) => Target::Absent,
                        () if is_directory(&to) => Target::Directory,
                        () => Target::File,
                    },
                    exchange: bits & libc::RENAME_EXCHANGE != 0,
                };
                vec![Judgement { attempt, names: vec![from, to], address: None, call: 0 }]
            }
            Do::Link(from, to) => vec![self.link(self.first(from), self.path(to), 0)],
            Do::Socket(family, kind, protocol, then) => {
                let mut list = vec![creating(*family, *kind, *protocol)];
                using(*kind, then, 1, None, &mut list)?;
                list
            }
            Do::SocketPair(family, kind, protocol) => vec![creating(*family, *kind, *protocol)],
            Do::Exec(at) => {
                let path = self.first(at);
                let mut list = one(&|path| opening(path, 0), path.clone(), 0);
                let names = vec![path];
                list.push(Judgement {
                    attempt: Attempt::Never(Operation::Exec),
                    names,
                    address: None,
                    call: 0,
                });
                list
            }
            Do::Fork | Do::Spawn(_) => return bare(Attempt::Never(Operation::Fork)),
        })
    }

    fn after_opening(&self, path: PathBuf, then: &Then) -> Option<Judgement> {
        let place = self.place(&path);
        let attempt = match then {
            Then::Close | Then::Read | Then::Write(_) | Then::Allocate(_) | Then::List => {
                return None;
            }
            Then::Stat => Attempt::Stat { path: place },
            Then::Truncate(_) => Attempt::Truncate { path: place },
            Then::Chmod | Then::Chown | Then::Times => Attempt::SetAttr { path: place },
            Then::GetXattr | Then::ListXattr | Then::GetAcl => Attempt::GetXattr { path: place },
            Then::SetXattr | Then::RemoveXattr | Then::SetAcl | Then::RemoveAcl => {
                Attempt::SetXattr { path: place }
            }
            Then::Reopen(bits) => opening(place, *bits),
            Then::Link(to) | Then::LinkEmpty(to) => {
                return Some(self.link(path, self.path(to), 1));
            }
        };
        Some(Judgement { attempt, names: vec![path], address: None, call: 1 })
    }

    fn link(&self, from: PathBuf, to: PathBuf, call: u8) -> Judgement {
        let attempt = Attempt::Link { from: self.place(&from), to: self.place(&to) };
        Judgement { attempt, names: vec![from, to], address: None, call }
    }
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

fn opening(path: Place, bits: u32) -> Attempt {
    let access = bits as i32 & libc::O_ACCMODE;
    Attempt::Open {
        path,
        read: access == libc::O_RDONLY || access == libc::O_RDWR,
        write: access == libc::O_WRONLY || access == libc::O_RDWR,
        truncate: bits & libc::O_TRUNC as u32 != 0,
    }
}

fn creating(family: i32, kind: i32, protocol: i32) -> Judgement {
    let attempt = Attempt::SocketCreate {
        family: family as u16,
        socket_type: kind as u16,
        protocol: protocol as u16,
    };
    Judgement { attempt, names: Vec::new(), address: None, call: 0 }
}

/// What the kernel judges when a socket of `kind` is used; `bound` is where it is bound.
fn using(
    kind: i32,
    then: &Use,
    call: u8,
    bound: Option<SocketAddr>,
    list: &mut Vec<Judgement>,
) -> Result<()> {
    let protocol = if kind == libc::SOCK_STREAM { Protocol::Tcp } else { Protocol::Udp };
    let mut push = |make: &dyn Fn(Peer) -> Attempt, address: SocketAddr| {
        let peer = Peer { protocol, address: address.ip(), port: address.port() };
        let address = Some(address);
        list.push(Judgement { attempt: make(peer), names: Vec::new(), address, call });
    };
    match then {
        Use::Close => {}
        Use::Connect(raw) => push(&Attempt::Connect, parse(raw)?),
        Use::Bind(raw) => push(&Attempt::Bind, parse(raw)?),
        Use::Send(_, raw) if raw.is_empty() => {}
        Use::Send(_, raw) => push(&Attempt::Send, parse(raw)?),
        // A bound socket was judged when it was bound.
        Use::Listen if bound.is_some() => {}
        Use::Listen => {
            push(&Attempt::Listen, (Ipv4Addr::UNSPECIFIED, 0).into());
            if let Some(last) = list.last_mut() {
                last.address = None;
            }
        }
        Use::BindThen(raw, next) => {
            let address = parse(raw)?;
            push(&Attempt::Bind, address);
            using(kind, next, call + 1, Some(address), list)?;
        }
        Use::ConnectThen(raw, next) => {
            push(&Attempt::Connect, parse(raw)?);
            using(kind, next, call + 1, bound, list)?;
        }
    }
    Ok(())
}

fn parse(raw: &[u8]) -> Result<SocketAddr> {
    let (Some(family), Some(port)) = (raw.first_chunk::<2>(), raw.get(2..4)) else {
        bail!("{raw:?} is no address");
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let bytes = raw.get(4..8).and_then(|bytes| bytes.first_chunk::<4>());
            bytes.map(|bytes| (IpAddr::from(Ipv4Addr::from(*bytes)), port).into())
        }
        libc::AF_INET6 => {
            let bytes = raw.get(8..24).and_then(|bytes| bytes.first_chunk::<16>());
            bytes.map(|bytes| (IpAddr::from(Ipv6Addr::from(*bytes)), port).into())
        }
        _ => None,
    }
    .ok_or_else(|| anyhow::anyhow!("{raw:?} is no internet address"))
}
