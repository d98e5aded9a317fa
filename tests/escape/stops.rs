//! What the layers around a worker answer. The one place to change if they answer otherwise.

use libc::{EACCES, ENOSYS, SIGSYS};
use serde_json::Value;

use crate::idea::Guarded;

/// seccomp, to a call that no row of `policies/seccomp/run.toml` lists.
pub(crate) const UNLISTED: i32 = EACCES;
/// seccomp, to a call of an `[[answer]]` row.
pub(crate) const ANSWERED: i32 = ENOSYS;
/// BPF, to everything that the policy does not grant.
pub(crate) const DENIED: i32 = EACCES;

/// seccomp, to the call of an x32 program.
pub(crate) const X32: Guarded = Guarded::Killed;
/// What marks such a call in its number; also that of a negative one.
pub(crate) const X32_BIT: u64 = 0x4000_0000;

/// The signal that ends a worker that makes a call of a `[[kill]]` row, or one of x32 or the 32-bit
/// entry: of the kernel, or as the supervisor tells its kill.
pub(crate) const KILLS: i32 = SIGSYS;

/// Whether one of these records says that seccomp denied a call of no row.
pub(crate) fn recorded(records: &[Value]) -> bool {
    records.iter().any(|it| is_of_seccomp(it) && it["verdict"] == "denied")
}

/// The record that says that this call, of a `[[kill]]` row, ended the worker. The kernel itself
/// ends one for the 32-bit entry and for x32, without a record.
pub(crate) fn killed_by<'a>(records: &'a [Value], call: &str) -> Option<&'a Value> {
    let by = |it: &&Value| is_of_seccomp(it) && it["verdict"] == "killed" && it["syscall"] == call;
    records.iter().find(by)
}

/// Whether a `denial` record is about what seccomp did; BPF wrote all others.
pub(crate) fn is_of_seccomp(record: &Value) -> bool {
    record["reason"] == "seccomp" || record["operation"] == "syscall"
}
