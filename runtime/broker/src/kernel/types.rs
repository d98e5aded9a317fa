//! The kernel's own types, of which those programs need numbers that are attached by them.

use rustix::io::Errno;
use wasi_guard_enforce::programs::btf_ids::{Named, ids_in_running_kernel};

use super::LoadError;

/// What a program is attached to by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced {
    /// A tracepoint with types (`tp_btf`).
    Tracepoint,
    /// The beginning or the end of a function (`fentry`, `fexit`).
    Function,
    /// A hook of the Linux Security Modules (`lsm`).
    Hook,
}

/// The number for [`LoadSpec::attach_btf_id`](super::LoadSpec::attach_btf_id) of something in the
/// kernel itself; its modules are not searched.
///
/// # Errors
/// Those of [`attach_btf_ids`].
pub fn attach_btf_id(kind: Traced, name: &str) -> Result<u32, LoadError> {
    let ids = attach_btf_ids(&[(kind, name)])?;
    ids.first().copied().ok_or_else(|| not_found(kind, name))
}

/// [`attach_btf_id`] of several at once: the kernel's types are read only once for that.
///
/// # Errors
/// `ESRCH` if the kernel has no such thing; `EOPNOTSUPP` if it has no types, or none that can be
/// understood.
pub fn attach_btf_ids(wanted: &[(Traced, &str)]) -> Result<Vec<u32>, LoadError> {
    // The kernel's macros make these names: `DEFINE_TRACE_BPF` (trace/bpf_probe.h) of a tracepoint's,
    // `LSM_HOOK` (kernel/bpf/bpf_lsm.c) of a hook's.
    let names: Vec<(Named, String)> = wanted
        .iter()
        .map(|(kind, name)| match kind {
            Traced::Tracepoint => (Named::Typedef, format!("btf_trace_{name}")),
            Traced::Function => (Named::Function, (*name).to_owned()),
            Traced::Hook => (Named::Function, format!("bpf_lsm_{name}")),
        })
        .collect();
    let names: Vec<(Named, &str)> = names.iter().map(|(kind, it)| (*kind, it.as_str())).collect();
    let ids = ids_in_running_kernel(&names)
        .map_err(|error| LoadError::new(error.step, Errno::OPNOTSUPP))?;
    ids.into_iter()
        .zip(wanted)
        .map(|(id, (kind, name))| id.ok_or_else(|| not_found(*kind, name)))
        .collect()
}

fn not_found(kind: Traced, name: &str) -> LoadError {
    let what = match kind {
        Traced::Tracepoint => "tracepoint",
        Traced::Function => "function",
        Traced::Hook => "LSM hook",
    };
    LoadError::new(format!("find the {what} {name:?} in the kernel"), Errno::SRCH)
}
