//! The keys of `[bpf]` that list what programs may be attached to.

use std::ops::RangeInclusive;

/// Counters that a program of the kind `perf_event` can be attached to, as perf-list(1) names them.
pub const COUNTERS: [&str; 13] = [
    "cpu-clock",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
    "minor-faults",
    "major-faults",
    "cpu-cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branch-instructions",
    "branch-misses",
];

/// A key of `[bpf]` that lists what programs may be attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachList {
    /// `tracepoints`.
    Tracepoints,
    /// `raw_tracepoints`.
    RawTracepoints,
    /// `functions`.
    Functions,
    /// `uprobes`.
    Uprobes,
    /// `perf_events`.
    PerfEvents,
    /// `cgroups`.
    Cgroups,
    /// `interfaces`.
    Interfaces,
    /// `lsm_hooks`.
    LsmHooks,
}

impl AttachList {
    /// Every one.
    pub const EVERY: [Self; 8] = [
        Self::Tracepoints,
        Self::RawTracepoints,
        Self::Functions,
        Self::Uprobes,
        Self::PerfEvents,
        Self::Cgroups,
        Self::Interfaces,
        Self::LsmHooks,
    ];

    /// The key in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tracepoints => "tracepoints",
            Self::RawTracepoints => "raw_tracepoints",
            Self::Functions => "functions",
            Self::Uprobes => "uprobes",
            Self::PerfEvents => "perf_events",
            Self::Cgroups => "cgroups",
            Self::Interfaces => "interfaces",
            Self::LsmHooks => "lsm_hooks",
        }
    }

    /// What its entries are, for messages.
    pub(crate) fn entry(self) -> &'static str {
        match self {
            Self::Tracepoints => "a tracepoint has two names, its category and its own",
            Self::RawTracepoints => "a raw tracepoint has a single name, without its category",
            Self::Functions => "a function of the kernel has a single name",
            Self::Uprobes => "the file has a name, and the function a single one",
            Self::PerfEvents => "a counter has a single name",
            Self::Cgroups => "a cgroup is a path below the root of the hierarchy",
            Self::Interfaces => "an interface has a single name",
            Self::LsmHooks => "a hook has a single name",
        }
    }

    /// An entry, for hints.
    pub(crate) fn example(self) -> &'static str {
        match self {
            Self::Tracepoints => "sched/sched_process_*",
            Self::RawTracepoints => "sched_process_*",
            Self::Functions => "tcp_v4_connect",
            Self::Uprobes => "/usr/lib/**/libssl.so*:SSL_*",
            Self::PerfEvents => "cpu-clock",
            Self::Cgroups => "system.slice/**",
            Self::Interfaces => "eth0",
            Self::LsmHooks => "path_rmdir",
        }
    }

    /// How many names an attach point of this list has. Not of [`Self::Uprobes`], whose entries are
    /// two patterns.
    pub(crate) fn names(self) -> RangeInclusive<usize> {
        match self {
            Self::Tracepoints => 2..=2,
            Self::Cgroups => 0..=usize::MAX,
            _ => 1..=1,
        }
    }
}
