//! What separates a worker from other processes besides its cgroup: a user id that nobody else
//! has, and namespaces of its own.
//!
//! The user namespace knows two users: the worker's, and the caller's, in whose name the worker
//! goes on to reach files ([`Identity`]). It is made together with the other namespaces and owns
//! them, and nobody in it has a capability, not even over it.

use std::{fs, io};

use caps::{CapSet, Capability};

/// First of the user and group ids that guests' workers get. The range up to 0x783f_ffff, which the
/// compilers' ids end, is in nobody else's use: systemd's list of ids (docs/UIDS-GIDS.md there)
/// calls 1879048192 to 2147352575 unused.
const FIRST: u32 = 0x7000_0000;
/// First of the ids for processes that compile; pids have 22 bits (`PID_MAX_LIMIT`,
/// linux/threads.h).
const FIRST_COMPILER: u32 = 0x7800_0000;
const PID_BITS: u32 = 22;
/// How many of a cgroup id's bits go into the user id. Ids of cgroups count up, so two guests that
/// live at once have different ones.
const BITS: u32 = 27;

/// Who a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id: real, effective and saved.
    pub user: u32,
    /// Group id: real, effective and saved.
    pub group: u32,
    /// The user in whose name files are reached: the caller. What the policy grants depends on
    /// the caller's rights to files, as without wasi-guard.
    pub file_user: u32,
    /// The group for that. Supplementary groups stay as they are.
    pub file_group: u32,
}

impl Identity {
    /// The identity of the worker in the cgroup with this id. A caller who may not choose user
    /// ids keeps his own; then it must not be root.
    pub fn of_guest(cgroup: u64) -> Self {
        let caller = Self::of_caller();
        if !may_choose() {
            return caller;
        }
        let id = FIRST + (cgroup & ((1 << BITS) - 1)) as u32;
        Self { user: id, group: id, ..caller }
    }

    /// The identity of a process that compiles for this one. It opens no files, so that root's
    /// compiler reaches none in root's name. Another user's starts without any capability, and stays
    /// who it is.
    pub fn of_compiler() -> Self {
        if !rustix::process::geteuid().is_root() || !may_choose() {
            return Self::of_caller();
        }
        let id = FIRST_COMPILER + (std::process::id() & ((1 << PID_BITS) - 1));
        Self { user: id, group: id, file_user: id, file_group: id }
    }

    fn of_caller() -> Self {
        let user = rustix::process::geteuid().as_raw();
        let group = rustix::process::getegid().as_raw();
        Self { user, group, file_user: user, file_group: group }
    }
}

fn may_choose() -> bool {
    let has = |cap| caps::has_cap(None, CapSet::Effective, cap).unwrap_or(false);
    has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID)
}

/// Namespaces for one worker: user, mount, pid, ipc, uts, and perhaps network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isolation {
    /// The ids that the user namespace knows.
    pub identity: Identity,
    /// A network namespace as well, in which there is nothing to reach.
    pub network: bool,
}

impl Isolation {
    /// `CLONE_NEW*` (uapi/linux/sched.h).
    pub(crate) fn flags(&self) -> u64 {
        let mut flags = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        if self.network {
            flags |= libc::CLONE_NEWNET;
        }
        flags as u64
    }

    /// Capabilities that the worker needs to give up its rights, where it is not root in its own
    /// user namespace: in that namespace alone.
    pub(crate) fn ambient(&self) -> &'static [u32] {
        /// uapi/linux/capability.h.
        const SETGID: u32 = 6;
        const SETUID: u32 = 7;
        const SETPCAP: u32 = 8;
        let known = [self.identity.user, self.identity.file_user].contains(&0);
        // Whoever is root there has all of them as a matter of course.
        if known && rustix::process::geteuid().is_root() { &[] } else { &[SETGID, SETUID, SETPCAP] }
    }

    /// Tells the kernel which ids the namespace of the process `pid` knows: each by its own
    /// number (user_namespaces(7)).
    ///
    /// # Errors
    /// If the kernel refuses; the error names the file.
    pub(crate) fn map_ids(&self, pid: u32) -> io::Result<()> {
        let Identity { user, group, file_user, file_group } = self.identity;
        let files = [
            // Without CAP_SETGID the kernel takes a group map only if groups cannot be changed.
            ("setgroups", "deny".to_owned()),
            ("gid_map", map(group, file_group)),
            ("uid_map", map(user, file_user)),
        ];
        for (name, text) in files {
            let path = format!("/proc/{pid}/{name}");
            // One write: the kernel takes a map as a whole.
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| Ok(rustix::io::write(&file, text.as_bytes())?))
                .map_err(|error| io::Error::new(error.kind(), Refused { path, error }))?;
        }
        Ok(())
    }
}

fn map(own: u32, files: u32) -> String {
    if own == files {
        format!("{own} {own} 1\n")
    } else {
        format!("{files} {files} 1\n{own} {own} 1\n")
    }
}

/// Which of the files was not taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
struct Refused {
    path: String,
    #[source]
    error: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_different_cgroups_are_different_users() {
        let [a, b] = [1, 2].map(Identity::of_guest);
        assert_eq!(a.file_user, b.file_user);
        if a.user != a.file_user {
            assert_ne!(a.user, b.user);
            assert_ne!(a.group, b.group);
        }
        let last = Identity::of_guest(u64::MAX);
        assert!(last.user == last.file_user || last.user == 0x77ff_ffff, "{last:?}");
    }

    #[test]
    fn whoever_is_not_root_in_its_namespace_is_given_what_it_must_give_up() {
        let capabilities = |user, file_user| {
            let identity = Identity { user, group: user, file_user, file_group: file_user };
            Isolation { identity, network: true }.ambient()
        };
        assert_eq!(capabilities(7, 7), [6, 7, 8]);
        let root = rustix::process::geteuid().is_root();
        assert_eq!(capabilities(7, 0).is_empty(), root);
    }

    #[test]
    fn a_map_names_each_id_once() {
        assert_eq!(map(7, 7), "7 7 1\n");
        assert_eq!(map(7, 0), "0 0 1\n7 7 1\n");
    }
}
