//! What the layers around a worker answer. The one place to change if they answer otherwise.

use libc::{EACCES, ENOSYS, SIGKILL, SIGSYS};
use serde_json::Value;

/// seccomp, to a call that no row of `policies/seccomp/run.toml` lists.
pub(crate) const UNLISTED: i32 = EACCES;
/// seccomp, to a call of an `[[answer]]` row.
pub(crate) const ANSWERED: i32 = ENOSYS;
/// BPF, to everything that the policy does not grant.
pub(crate) const DENIED: i32 = EACCES;

/// The signals of which one ends a worker that makes a call of a `[[kill]]` row: the kernel's own,
/// or that with which a supervisor ends a cgroup.
pub(crate) const KILLS: [i32; 2] = [SIGSYS, SIGKILL];

/// Whether a `denial` record is about what seccomp did; BPF wrote all others.
pub(crate) fn is_of_seccomp(record: &Value) -> bool {
    record["reason"] == "seccomp" || record["operation"] == "syscall"
}
