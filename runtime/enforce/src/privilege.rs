//! Which rights a supervisor needs, and how one that is not root comes to root's files.
//!
//! wasi-guard runs as root, or as another user with capabilities: of its executable
//! (capabilities(7), "File capabilities") or of a service. What it keeps for all guests of a host
//! belongs to root: pins, cgroups, locks. It is reached inside of [`AsRoot`]; all that the caller
//! names, policies, modules, preopens, the audit, is reached as the caller.

use std::marker::PhantomData;

use caps::{CapSet, Capability};

use crate::{
    error::{Error, Result, Step as _},
    sys,
};

/// The least that a start takes, and what for.
pub const NEEDED: &[(Capability, &str)] = &[
    (Capability::CAP_BPF, "make maps, load programs"),
    (Capability::CAP_PERFMON, "load programs of the type LSM"),
    (Capability::CAP_SETUID, "give each worker a user id; reach root's files for all guests"),
    (Capability::CAP_SETGID, "the same with group ids"),
    (
        Capability::CAP_DAC_OVERRIDE,
        "make the cgroup of all guests: the directory above it has no bit for writing",
    ),
];

/// What lets a process pass by permissions of files (`CAP_FS_SET`, linux/capability.h). The kernel
/// puts those that are permitted into effect where a thread's user id for files becomes root's, and
/// out of effect where it no longer is (`cap_task_fix_setuid` in security/commoncap.c).
const ABOUT_FILES: &[Capability] = &[
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_LINUX_IMMUTABLE,
    Capability::CAP_MAC_OVERRIDE,
    Capability::CAP_MKNOD,
];

/// To be called first of all: a caller who is not root reaches files with no more than his own
/// rights, whatever capabilities the executable has, but inside of [`AsRoot`].
///
/// # Errors
/// If the kernel refuses.
pub fn begin() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    for capability in ABOUT_FILES {
        caps::drop(None, CapSet::Effective, *capability)
            .step(|| format!("put {capability} out of effect"))?;
    }
    Ok(())
}

/// Needed if the caller is root, whom a worker's user namespace knows as well
/// (`verify_root_map` in the kernel's kernel/user_namespace.c).
pub const NEEDED_BY_ROOT: (Capability, &str) =
    (Capability::CAP_SETFCAP, "map root in the worker's user namespace");

/// Those of [`NEEDED`], and [`NEEDED_BY_ROOT`] for root, that this process does not have.
pub fn lacking() -> Vec<Capability> {
    let have = caps::read(None, CapSet::Permitted).unwrap_or_default();
    let root = rustix::process::geteuid().is_root().then_some(NEEDED_BY_ROOT.0);
    let needed = NEEDED.iter().map(|(capability, _)| *capability).chain(root);
    needed.filter(|capability| !have.contains(capability)).collect()
}

/// As long as this lives, the thread reaches files as root. Other threads do not, but for those
/// that it starts meanwhile.
#[derive(Debug)]
pub struct AsRoot {
    before: (u32, u32),
    _thread: PhantomData<*const ()>,
}

impl AsRoot {
    /// Changes the thread's ids for files, if they are not root's.
    ///
    /// # Errors
    /// Without `CAP_SETUID` and `CAP_SETGID`.
    pub fn enter() -> Result<Self> {
        let before = sys::file_ids();
        if before.0 != 0 {
            sys::set_file_ids(0, 0).map_err(|error| {
                // One of the two may have been changed.
                leave(before);
                Error::new("reach what wasi-guard keeps for all guests")
                    .because(error)
                    .hint("run as root, or with CAP_SETUID and CAP_SETGID")
            })?;
        }
        Ok(Self { before, _thread: PhantomData })
    }
}

impl Drop for AsRoot {
    fn drop(&mut self) {
        if self.before.0 != 0 {
            leave(self.before);
        }
    }
}

fn leave((user, group): (u32, u32)) {
    if sys::set_file_ids(user, group).is_err() {
        // What comes next would be done to the caller's files with root's rights.
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the right to change one of the two ids, none is changed.
    #[test]
    fn half_of_the_rights_change_nothing() {
        if !lacking().is_empty() {
            return;
        }
        for missing in [Capability::CAP_SETUID, Capability::CAP_SETGID] {
            let (entered, ids) = std::thread::spawn(move || {
                use rustix::thread as of_thread;
                // Capabilities survive, and no real id lets the change pass without them.
                let bits = of_thread::CapabilitiesSecureBits::NO_SETUID_FIXUP;
                of_thread::set_capabilities_secure_bits(bits).unwrap();
                let (user, group) = (rustix::fs::Uid::from_raw(12), rustix::fs::Gid::from_raw(34));
                of_thread::set_thread_res_gid(group, group, group).unwrap();
                of_thread::set_thread_res_uid(user, user, user).unwrap();
                caps::drop(None, CapSet::Effective, missing).unwrap();
                (AsRoot::enter().is_ok(), sys::file_ids())
            })
            .join()
            .unwrap();
            assert_eq!((entered, ids), (false, (12, 34)), "without {missing}");
        }
    }

    #[test]
    fn the_ids_before_come_back() {
        let may = lacking().is_empty();
        std::thread::spawn(move || {
            let before = sys::file_ids();
            if !may {
                assert_eq!(AsRoot::enter().is_ok(), before.0 == 0);
                return;
            }
            sys::set_file_ids(12, 34).unwrap();
            {
                let _root = AsRoot::enter().unwrap();
                assert_eq!(sys::file_ids(), (0, 0));
                drop(AsRoot::enter().unwrap());
                assert_eq!(sys::file_ids(), (0, 0), "the inner one changes nothing");
            }
            assert_eq!(sys::file_ids(), (12, 34));
        })
        .join()
        .unwrap();
    }
}
