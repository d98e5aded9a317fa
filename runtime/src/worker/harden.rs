//! Gives up what a worker does not need, and looks that it is gone.

use std::collections::HashSet;

use caps::CapSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CapabilitiesSecureBits, set_capabilities_secure_bits, set_no_new_privs};

use super::failure::{Failure, Step as _};
use super::sys;
use crate::protocol::{Channel, Identity, Layers};

/// What the two roles do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// The bounding set must become empty as well: the supervisor had the right to empty it.
    Everything,
    /// A caller without capabilities cannot empty the bounding set; without a program that could
    /// be started, and with `no_new_privs`, nothing can be drawn from it.
    WhatTheCallerMay,
}

/// Becomes `identity`, gives up all capabilities and every way to get them back, core dumps, and
/// being looked into; asks to die with the supervisor. Landlock and seccomp come on top.
///
/// # Errors
/// The step that failed. The process must end then: it is half disarmed.
pub fn harden(
    channel: &Channel,
    strictness: Strictness,
    identity: &Identity,
) -> Result<Layers, Failure> {
    drop_rights(strictness, identity)?;
    // After the change of ids, which takes this back (commit_creds in the kernel's cred.c).
    set_parent_process_death_signal(Some(Signal::KILL)).step("ask to die with the supervisor")?;
    // The supervisor may have died before that call.
    check_supervisor(channel)?;
    // No core dump, no ptrace and no /proc/PID/mem by other processes of the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("forbid memory dumps")?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .step("forbid core dumps")?;
    set_no_new_privs(true).step("set no_new_privs")?;
    verify(strictness)
}

fn check_supervisor(channel: &Channel) -> Result<(), Failure> {
    let mut fds = [PollFd::new(channel, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).step("look whether the supervisor is alive")?;
    let [fd] = &fds;
    if fd.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
        return Err(Failure::new("find the supervisor").because("it is gone"));
    }
    Ok(())
}

fn drop_rights(strictness: Strictness, identity: &Identity) -> Result<(), Failure> {
    // The order matters: the secure bits and the bounding set need CAP_SETPCAP, which the later
    // lines take away.
    let may_set = caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)
        .step("read the capabilities")?;
    if may_set {
        // Being user 0 means nothing any more, for good: not at exec, not at setuid.
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        set_capabilities_secure_bits(bits).step("lock the secure bits")?;
        caps::clear(None, CapSet::Bounding).step("empty the bounding set")?;
    } else if strictness == Strictness::Everything {
        let bounding = caps::read(None, CapSet::Bounding).step("read the capabilities")?;
        if !bounding.is_empty() {
            return Err(Failure::new("empty the bounding set")
                .because("the worker was started without CAP_SETPCAP")
                .hint("run wasi-guard as root"));
        }
    }
    // Capabilities survive this, because of the secure bits, and go right after.
    sys::become_user(identity).step("become another user")?;
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).step("drop the capabilities")?;
    }
    // Clears the effective set with it.
    caps::clear(None, CapSet::Permitted)
        .or_else(|_| {
            caps::clear(None, CapSet::Effective)?;
            caps::clear(None, CapSet::Permitted)
        })
        .step("drop the capabilities")
}

/// Looks at the result instead of trusting the calls.
fn verify(strictness: Strictness) -> Result<Layers, Failure> {
    let step = "give up the worker's rights";
    for set in [
        CapSet::Ambient,
        CapSet::Bounding,
        CapSet::Effective,
        CapSet::Inheritable,
        CapSet::Permitted,
    ] {
        if matches!(set, CapSet::Bounding) && strictness == Strictness::WhatTheCallerMay {
            continue;
        }
        let left: HashSet<_> = caps::read(None, set).step(step)?;
        if !left.is_empty() {
            return Err(Failure::new(step).because(format!("{set:?} capabilities left: {left:?}")));
        }
    }
    if !rustix::thread::no_new_privs().step(step)? {
        return Err(Failure::new(step).because("no_new_privs is not set"));
    }
    Ok(Layers { no_new_privs: true, capabilities: true, ..Layers::default() })
}

/// Limits how many descriptors the guest can come to have: `guest`, and what the worker has itself.
///
/// # Errors
/// If the kernel refuses.
pub fn limit_descriptors(guest: u64, preopens: usize) -> Result<(), Failure> {
    /// Standard streams, control socket, the broker's socket and window, compiled module, canary, event loop and what wakes it, the
    /// filter's descriptor, and the directory that the WASI layer opens while it looks for a name.
    const OWN: u64 = 16;
    let limit = OWN.saturating_add(preopens as u64).saturating_add(guest);
    let current = rustix::process::getrlimit(Resource::Nofile);
    // A lower limit of the caller stays.
    let limit = current.maximum.map_or(limit, |maximum| maximum.min(limit));
    setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })
        .step("limit the guest's open files")
}

/// Limits of role Compile: hostile bytes may cost this much and no more.
///
/// # Errors
/// If the kernel refuses.
pub fn limit_compiler() -> Result<(), Failure> {
    const MEMORY: u64 = 16 << 30;
    const SECONDS: u64 = 600;
    // wasmtime's compiler opens nothing.
    limit(&[(Resource::As, MEMORY), (Resource::Cpu, SECONDS), (Resource::Nofile, 64)])
        .step("limit the compiler's resources")
}

/// Limits of role Parse. How long it takes, the broker sees to.
///
/// # Errors
/// If the kernel refuses.
pub fn limit_parser() -> Result<(), Failure> {
    /// Ten times what the kernel's types, taken apart, and the largest objects need.
    const MEMORY: u64 = 512 << 20;
    limit(&[(Resource::As, MEMORY), (Resource::Nofile, 64)]).step("limit the parser's resources")
}

fn limit(limits: &[(Resource, u64)]) -> rustix::io::Result<()> {
    for &(resource, limit) in limits {
        let current = rustix::process::getrlimit(resource);
        // A lower limit of the caller stays.
        let limit = current.maximum.map_or(limit, |maximum| maximum.min(limit));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}
