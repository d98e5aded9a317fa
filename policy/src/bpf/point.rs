//! What a program is attached to.

use std::fmt;

use super::AttachList;

/// What a program is attached to. Its text is what a policy's patterns are held against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttachPoint {
    /// `sched/sched_process_exec`.
    Tracepoint {
        /// The directory below tracefs' `events`.
        category: String,
        /// The directory in that.
        name: String,
    },
    /// `sched_process_exec`.
    RawTracepoint {
        /// The tracepoint's name.
        name: String,
    },
    /// `tcp_v4_connect`.
    Function {
        /// The kernel's symbol.
        name: String,
    },
    /// `/usr/lib/libssl.so.3:SSL_write`.
    Uprobe {
        /// The file's absolute path, without links, `.` and `..`.
        path: String,
        /// The function's symbol.
        symbol: String,
    },
    /// `cpu-clock`.
    PerfEvent {
        /// The counter, as perf-list(1) names it.
        counter: String,
    },
    /// The guest's own cgroup.
    OwnCgroup,
    /// `system.slice/nginx.service`; the root is `.`.
    Cgroup {
        /// Path below the root of the hierarchy.
        path: String,
    },
    /// `eth0`.
    Interface {
        /// Its name.
        name: String,
    },
    /// `path_rmdir`.
    LsmHook {
        /// Its name, without `bpf_lsm_` or `security_`.
        name: String,
    },
}

impl AttachPoint {
    /// The key of `[bpf]` that lists it.
    pub fn list(&self) -> AttachList {
        match self {
            Self::Tracepoint { .. } => AttachList::Tracepoints,
            Self::RawTracepoint { .. } => AttachList::RawTracepoints,
            Self::Function { .. } => AttachList::Functions,
            Self::Uprobe { .. } => AttachList::Uprobes,
            Self::PerfEvent { .. } => AttachList::PerfEvents,
            Self::OwnCgroup | Self::Cgroup { .. } => AttachList::Cgroups,
            Self::Interface { .. } => AttachList::Interfaces,
            Self::LsmHook { .. } => AttachList::LsmHooks,
        }
    }
}

impl fmt::Display for AttachPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint { category, name } => write!(f, "{category}/{name}"),
            Self::Uprobe { path, symbol } => write!(f, "{path}:{symbol}"),
            Self::OwnCgroup => f.write_str("the guest's cgroup"),
            Self::RawTracepoint { name }
            | Self::Function { name }
            | Self::PerfEvent { counter: name }
            | Self::Cgroup { path: name }
            | Self::Interface { name }
            | Self::LsmHook { name } => f.write_str(name),
        }
    }
}
