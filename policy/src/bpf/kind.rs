//! Kinds of BPF programs.

use super::AttachList;

/// A kind of program, by what it is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProgramKind {
    /// At a tracepoint, with its arguments as the tracing subsystem lays them out.
    Tracepoint,
    /// At a tracepoint, with its arguments as the kernel passes them.
    RawTracepoint,
    /// The same, with types.
    TpBtf,
    /// At the beginning of a function of the kernel.
    Fentry,
    /// At its end.
    Fexit,
    /// At the beginning of a function of the kernel, through a breakpoint.
    Kprobe,
    /// At its end.
    Kretprobe,
    /// At the beginning of a function of a program or library.
    Uprobe,
    /// At its end.
    Uretprobe,
    /// When a counter overflows.
    PerfEvent,
    /// On copies of packets that a raw socket receives.
    SocketFilter,
    /// On changes of the state of a cgroup's TCP sockets.
    SockOps,
    /// On packets from and to a cgroup.
    CgroupSkb,
    /// When processes of a cgroup make sockets.
    CgroupSock,
    /// When processes of a cgroup bind, connect, send or receive.
    CgroupSockAddr,
    /// On packets at an interface, before anything else sees them.
    Xdp,
    /// On packets at an interface (tcx).
    Tc,
    /// At a hook for security modules.
    Lsm,
}

impl ProgramKind {
    /// Every one.
    pub const EVERY: [Self; 18] = [
        Self::Tracepoint,
        Self::RawTracepoint,
        Self::TpBtf,
        Self::Fentry,
        Self::Fexit,
        Self::Kprobe,
        Self::Kretprobe,
        Self::Uprobe,
        Self::Uretprobe,
        Self::PerfEvent,
        Self::SocketFilter,
        Self::SockOps,
        Self::CgroupSkb,
        Self::CgroupSock,
        Self::CgroupSockAddr,
        Self::Xdp,
        Self::Tc,
        Self::Lsm,
    ];

    /// The word in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tracepoint => "tracepoint",
            Self::RawTracepoint => "raw_tracepoint",
            Self::TpBtf => "tp_btf",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
            Self::Uprobe => "uprobe",
            Self::Uretprobe => "uretprobe",
            Self::PerfEvent => "perf_event",
            Self::SocketFilter => "socket_filter",
            Self::SockOps => "sock_ops",
            Self::CgroupSkb => "cgroup_skb",
            Self::CgroupSock => "cgroup_sock",
            Self::CgroupSockAddr => "cgroup_sock_addr",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
            Self::Lsm => "lsm",
        }
    }

    /// The kind with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|kind| kind.name() == name)
    }

    /// The key of `[bpf]` that lists what it may be attached to.
    pub fn list(self) -> AttachList {
        match self {
            Self::Tracepoint => AttachList::Tracepoints,
            Self::RawTracepoint | Self::TpBtf => AttachList::RawTracepoints,
            Self::Fentry | Self::Fexit | Self::Kprobe | Self::Kretprobe => AttachList::Functions,
            Self::Uprobe | Self::Uretprobe => AttachList::Uprobes,
            Self::PerfEvent => AttachList::PerfEvents,
            Self::SockOps | Self::CgroupSkb | Self::CgroupSock | Self::CgroupSockAddr => {
                AttachList::Cgroups
            }
            Self::SocketFilter | Self::Xdp | Self::Tc => AttachList::Interfaces,
            Self::Lsm => AttachList::LsmHooks,
        }
    }

    /// Whether the kernel runs it for the processes or sockets of one cgroup only.
    pub fn runs_for_a_cgroup(self) -> bool {
        matches!(self, Self::SockOps | Self::CgroupSkb | Self::CgroupSock | Self::CgroupSockAddr)
    }
}
