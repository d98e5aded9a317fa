//! The reference evaluator: what a policy says about an attempt, in plain Rust.
//!
//! It is the oracle for the compiled tables and for the kernel side, so it is written to be
//! checked against `docs/policy-reference.md` by reading: patterns are matched piece by piece,
//! rule by rule, and nothing is shared with [`mod@crate::compile`].

mod matcher;
mod rights;
mod sockets;
mod subtree;

use std::net::IpAddr;

use wasi_guard_abi::operation::{Operation, Reason, right};

pub(crate) use matcher::text_matches;
pub use rights::{Decision, names_creatable, rights};
pub use subtree::{SubtreeError, same_rights_below};

use crate::guest_path::{Name, Place};
use crate::model::{Addresses, Policy, RuleNumber};
use crate::network::{Action, Protocol};

/// What a guest attempts: one variant an [`Operation`], in its terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// open(2).
    Open {
        /// The file or directory.
        path: Place,
        /// For reading.
        read: bool,
        /// For writing.
        write: bool,
        /// With `O_TRUNC`.
        truncate: bool,
    },
    /// truncate(2), ftruncate(2).
    Truncate {
        /// The file.
        path: Place,
    },
    /// A new regular file, device, fifo or socket.
    Create {
        /// The new name.
        path: Place,
    },
    /// mkdir(2).
    Mkdir {
        /// The new name.
        path: Place,
    },
    /// rmdir(2).
    Rmdir {
        /// The directory.
        path: Place,
    },
    /// unlink(2).
    Unlink {
        /// The file.
        path: Place,
    },
    /// rename(2).
    Rename {
        /// The old name.
        from: Place,
        /// The new name.
        to: Place,
        /// The old name is a directory.
        from_is_dir: bool,
        /// What the new name is before the rename.
        target: Target,
        /// `RENAME_EXCHANGE`: the two names change places.
        exchange: bool,
    },
    /// link(2).
    Link {
        /// The existing name.
        from: Place,
        /// The new name.
        to: Place,
    },
    /// symlink(2).
    Symlink {
        /// The new name.
        path: Place,
    },
    /// stat(2) and its kin.
    Stat {
        /// The file or directory.
        path: Place,
    },
    /// readlink(2).
    Readlink {
        /// The symbolic link.
        path: Place,
    },
    /// getxattr(2), listxattr(2).
    GetXattr {
        /// The file or directory.
        path: Place,
    },
    /// setxattr(2), removexattr(2).
    SetXattr {
        /// The file or directory.
        path: Place,
    },
    /// chmod(2), chown(2), utimensat(2).
    SetAttr {
        /// The file or directory.
        path: Place,
    },
    /// socket(2).
    SocketCreate {
        /// `AF_*`.
        family: u16,
        /// `SOCK_*` without flags.
        socket_type: u16,
        /// `IPPROTO_*`, 0 for the default of family and type.
        protocol: u16,
    },
    /// connect(2).
    Connect(Peer),
    /// bind(2).
    Bind(Peer),
    /// listen(2), at the address that the socket is bound to (if it is not: any address,
    /// port 0).
    Listen(Peer),
    /// sendmsg(2) with an address.
    Send(Peer),
    /// What no policy can grant: an operation for which
    /// [`is_never_granted`](Operation::is_never_granted) holds.
    Never(Operation),
}

/// What a rename finds at the new name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// Nothing.
    #[default]
    Absent,
    /// Anything but a directory.
    File,
    /// A directory.
    Directory,
}

/// The address of a socket operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Protocol of the socket.
    pub protocol: Protocol,
    /// Address, as in the call.
    pub address: IpAddr,
    /// Port in host byte order.
    pub port: u16,
}

impl Attempt {
    /// The operation's number.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Open { .. } => Operation::Open,
            Self::Truncate { .. } => Operation::Truncate,
            Self::Create { .. } => Operation::Create,
            Self::Mkdir { .. } => Operation::Mkdir,
            Self::Rmdir { .. } => Operation::Rmdir,
            Self::Unlink { .. } => Operation::Unlink,
            Self::Rename { .. } => Operation::Rename,
            Self::Link { .. } => Operation::Link,
            Self::Symlink { .. } => Operation::Symlink,
            Self::Stat { .. } => Operation::Stat,
            Self::SetAttr { .. } => Operation::SetAttr,
            Self::SocketCreate { .. } => Operation::SocketCreate,
            Self::Connect(_) => Operation::Connect,
            Self::Bind(_) => Operation::Bind,
            Self::Listen(_) => Operation::Listen,
            Self::Send(_) => Operation::Send,
            Self::Readlink { .. } => Operation::Readlink,
            Self::GetXattr { .. } => Operation::GetXattr,
            Self::SetXattr { .. } => Operation::SetXattr,
            Self::Never(operation) => *operation,
        }
    }
}

/// What a policy says about an attempt. In audit mode the same: the mode decides what happens to
/// a denial, not what is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is granted.
    pub allowed: bool,
    /// Why not; `None` if it is granted.
    pub reason: Option<Reason>,
    /// Rights that were needed at the name that decided; 0 for sockets and processes.
    pub wanted: u16,
    /// Rights that this name has.
    pub rights: u16,
    /// Number of the rule that denies, 0 if none does.
    pub rule: RuleNumber,
    /// Number of a rule that grants, 0 if the attempt is denied or if no single rule stands for
    /// the grant (STAT of a directory on the way to a name).
    pub granted_by: RuleNumber,
    /// The verdict is about the second name (the new one) of a rename or link.
    pub second: bool,
}

impl Verdict {
    fn granted(wanted: u16, rights: u16, granted_by: RuleNumber) -> Self {
        Self { allowed: true, reason: None, wanted, rights, rule: 0, granted_by, second: false }
    }

    fn denied(reason: Reason) -> Self {
        Self {
            allowed: false,
            reason: Some(reason),
            wanted: 0,
            rights: 0,
            rule: 0,
            granted_by: 0,
            second: false,
        }
    }
}

/// What the policy says about an attempt; host names in network rules match nothing.
pub fn evaluate(policy: &Policy, attempt: &Attempt) -> Verdict {
    evaluate_with(policy, &Addresses::new(), attempt)
}

/// What the policy says about an attempt.
pub fn evaluate_with(policy: &Policy, addresses: &Addresses, attempt: &Attempt) -> Verdict {
    match attempt {
        Attempt::Open { path, read, write, truncate } => {
            let mut wanted = 0;
            if *read || (!*write && !*truncate) {
                wanted |= right::READ;
            }
            if *write || *truncate {
                wanted |= right::WRITE;
            }
            need(policy, path, wanted)
        }
        Attempt::GetXattr { path } => need(policy, path, right::READ),
        Attempt::Truncate { path } | Attempt::SetAttr { path } | Attempt::SetXattr { path } => {
            need(policy, path, right::WRITE)
        }
        Attempt::Create { path } | Attempt::Mkdir { path } | Attempt::Symlink { path } => {
            need(policy, path, right::CREATE)
        }
        Attempt::Rmdir { path } | Attempt::Unlink { path } => need(policy, path, right::DELETE),
        Attempt::Stat { path } | Attempt::Readlink { path } => need(policy, path, right::STAT),
        Attempt::Link { from, to } => link(policy, from, to),
        Attempt::Rename { from, to, from_is_dir, target, exchange: false } => {
            let replaced = if *target == Target::Absent { 0 } else { right::DELETE };
            let old = need(policy, from, right::DELETE);
            let new = second(need(policy, to, right::CREATE | replaced));
            first_denial([old, new])
                .unwrap_or_else(|| carry(policy, from, to, *from_is_dir).unwrap_or(old))
        }
        Attempt::Rename { from, to, from_is_dir, target, exchange: true } => {
            let both = right::DELETE | right::CREATE;
            let old = need(policy, from, both);
            let new = second(need(policy, to, both));
            first_denial([old, new])
                .or_else(|| carry(policy, from, to, *from_is_dir))
                .or_else(|| {
                    // The other object goes the other way, and the name that may widen is the
                    // first one.
                    carry(policy, to, from, *target == Target::Directory)
                        .map(|verdict| Verdict { second: false, ..verdict })
                })
                .unwrap_or(old)
        }
        Attempt::SocketCreate { family, socket_type, protocol } => {
            sockets::create(policy, *family, *socket_type, *protocol)
        }
        Attempt::Connect(peer) | Attempt::Send(peer) => {
            sockets::reach(policy, addresses, Action::Connect, peer)
        }
        Attempt::Bind(peer) | Attempt::Listen(peer) => {
            sockets::reach(policy, addresses, Action::Bind, peer)
        }
        Attempt::Never(_) => Verdict::denied(Reason::Never),
    }
}

/// Whether a name has all wanted rights.
fn need(policy: &Policy, place: &Place, wanted: u16) -> Verdict {
    let Place::Under(name) = place else {
        return Verdict { wanted, ..Verdict::denied(Reason::Outside) };
    };
    let decision = decide(policy, name);
    if decision.rights & wanted == wanted {
        return Verdict::granted(wanted, decision.rights, decision.granting_rule(wanted));
    }
    let reason = if decision.deny_rule == 0 { Reason::NotGranted } else { Reason::Deny };
    Verdict { wanted, rights: decision.rights, rule: decision.deny_rule, ..Verdict::denied(reason) }
}

fn decide(policy: &Policy, name: &Name) -> Decision {
    let components: Vec<&[u8]> = name.components.iter().map(Vec::as_slice).collect();
    rights(policy, name.preopen, &components)
}

fn second(verdict: Verdict) -> Verdict {
    Verdict { second: true, ..verdict }
}

fn first_denial(verdicts: [Verdict; 2]) -> Option<Verdict> {
    verdicts.into_iter().find(|verdict| !verdict.allowed)
}

/// A link gives a file another name: CREATE there, and nothing that the file did not have.
fn link(policy: &Policy, from: &Place, to: &Place) -> Verdict {
    if *from == Place::Outside {
        return Verdict::denied(Reason::Outside);
    }
    let new = second(need(policy, to, right::CREATE));
    if !new.allowed {
        return new;
    }
    carry(policy, from, to, false).unwrap_or(new)
}

/// The denial if an object would gain rights by going from one name to another, itself or, for a
/// directory, anything below it. There a loss is refused as well as a gain: what is below would
/// have to be looked at name by name, and the kernel side cannot.
fn carry(policy: &Policy, from: &Place, to: &Place, directory: bool) -> Option<Verdict> {
    let (Place::Under(from), Place::Under(to)) = (from, to) else {
        return Some(Verdict::denied(Reason::Outside));
    };
    let (old, new) = (decide(policy, from), decide(policy, to));
    let carried = new.rights & right::CARRIED;
    // Doubt is a denial: a comparison that is too large counts as a difference.
    let same_below = || same_rights_below(policy, from, to).unwrap_or(false);
    if carried & !old.rights == 0 && (!directory || same_below()) {
        return None;
    }
    Some(Verdict {
        wanted: carried,
        rights: old.rights,
        second: true,
        ..Verdict::denied(Reason::Widens)
    })
}

#[cfg(test)]
mod tests;
