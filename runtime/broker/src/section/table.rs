//! Which sections there are.

use wasi_guard_policy::bpf::ProgramKind::{self, *};

/// What stands after the first slash of a section's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// `CATEGORY/NAME` of a tracepoint.
    Tracepoint,
    /// The name of a tracepoint.
    RawTracepoint,
    /// `FUNCTION` or `FUNCTION+OFFSET`.
    Probe,
    /// `FUNCTION`.
    Function,
    /// A system call, without `sys_`.
    SystemCall,
    /// `PATH:SYMBOL` or `PATH:SYMBOL+OFFSET`.
    Uprobe,
    /// A hook for security modules.
    Hook,
    /// A counter.
    Counter,
    /// Whatever helps the reader; the target is a cgroup.
    Cgroup,
    /// Whatever helps the reader; the target is an interface.
    Interface,
    /// Whatever helps the reader.
    Nothing,
}

/// A kind of section.
pub(super) struct Row {
    /// Before the first slash.
    head: &'static str,
    /// What has to stand after it, up to the next; anything may if this is `None`.
    second: Option<&'static str>,
    pub(super) kind: ProgramKind,
    pub(super) prog_type: u32,
    pub(super) attach_type: u32,
    pub(super) place: Rest,
}

impl Row {
    /// Whether the kernel asks what a program is for when it is loaded, and not when it is attached.
    pub(super) fn kind_needs_a_name(&self) -> bool {
        matches!(self.kind, TpBtf | Fentry | Fexit | Lsm)
    }
}

const fn row(
    head: &'static str,
    kind: ProgramKind,
    prog_type: u32,
    attach_type: u32,
    place: Rest,
) -> Row {
    Row { head, second: None, kind, prog_type, attach_type, place }
}

/// One whose second word decides what it is.
const fn two(
    head: &'static str,
    second: &'static str,
    kind: ProgramKind,
    types: (u32, u32),
    place: Rest,
) -> Row {
    let (prog_type, attach_type) = types;
    Row { head, second: Some(second), kind, prog_type, attach_type, place }
}

// enum bpf_prog_type
const SOCKET_FILTER: u32 = 1;
const KPROBE: u32 = 2;
const SCHED_CLS: u32 = 3;
const TRACEPOINT: u32 = 5;
const XDP: u32 = 6;
const PERF_EVENT: u32 = 7;
const CGROUP_SKB: u32 = 8;
const CGROUP_SOCK: u32 = 9;
const SOCK_OPS: u32 = 13;
const RAW_TRACEPOINT: u32 = 17;
const CGROUP_SOCK_ADDR: u32 = 18;
const TRACING: u32 = 26;
const LSM: u32 = 29;

/// The numbers in the last but one column are those of `enum bpf_attach_type`. The first row that
/// fits counts.
const ROWS: &[Row] = &[
    row("tp", Tracepoint, TRACEPOINT, 0, Rest::Tracepoint),
    row("tracepoint", Tracepoint, TRACEPOINT, 0, Rest::Tracepoint),
    row("raw_tp", RawTracepoint, RAW_TRACEPOINT, 0, Rest::RawTracepoint),
    row("raw_tracepoint", RawTracepoint, RAW_TRACEPOINT, 0, Rest::RawTracepoint),
    row("tp_btf", TpBtf, TRACING, 23, Rest::RawTracepoint),
    row("fentry", Fentry, TRACING, 24, Rest::Function),
    row("fentry.s", Fentry, TRACING, 24, Rest::Function),
    row("fexit", Fexit, TRACING, 25, Rest::Function),
    row("fexit.s", Fexit, TRACING, 25, Rest::Function),
    row("kprobe", Kprobe, KPROBE, 0, Rest::Probe),
    row("kretprobe", Kretprobe, KPROBE, 0, Rest::Function),
    row("ksyscall", Kprobe, KPROBE, 0, Rest::SystemCall),
    row("kretsyscall", Kretprobe, KPROBE, 0, Rest::SystemCall),
    row("uprobe", Uprobe, KPROBE, 0, Rest::Uprobe),
    row("uprobe.s", Uprobe, KPROBE, 0, Rest::Uprobe),
    row("uretprobe", Uretprobe, KPROBE, 0, Rest::Uprobe),
    row("uretprobe.s", Uretprobe, KPROBE, 0, Rest::Uprobe),
    row("perf_event", PerfEvent, PERF_EVENT, 0, Rest::Counter),
    row("socket", SocketFilter, SOCKET_FILTER, 0, Rest::Nothing),
    row("sockops", SockOps, SOCK_OPS, 3, Rest::Cgroup),
    two("cgroup_skb", "ingress", CgroupSkb, (CGROUP_SKB, 0), Rest::Cgroup),
    two("cgroup_skb", "egress", CgroupSkb, (CGROUP_SKB, 1), Rest::Cgroup),
    two("cgroup", "skb", CgroupSkb, (CGROUP_SKB, 0), Rest::Cgroup),
    two("cgroup", "sock", CgroupSock, (CGROUP_SOCK, 2), Rest::Cgroup),
    two("cgroup", "sock_create", CgroupSock, (CGROUP_SOCK, 2), Rest::Cgroup),
    two("cgroup", "sock_release", CgroupSock, (CGROUP_SOCK, 34), Rest::Cgroup),
    two("cgroup", "post_bind4", CgroupSock, (CGROUP_SOCK, 12), Rest::Cgroup),
    two("cgroup", "post_bind6", CgroupSock, (CGROUP_SOCK, 13), Rest::Cgroup),
    two("cgroup", "bind4", CgroupSockAddr, (CGROUP_SOCK_ADDR, 8), Rest::Cgroup),
    two("cgroup", "bind6", CgroupSockAddr, (CGROUP_SOCK_ADDR, 9), Rest::Cgroup),
    two("cgroup", "connect4", CgroupSockAddr, (CGROUP_SOCK_ADDR, 10), Rest::Cgroup),
    two("cgroup", "connect6", CgroupSockAddr, (CGROUP_SOCK_ADDR, 11), Rest::Cgroup),
    two("cgroup", "sendmsg4", CgroupSockAddr, (CGROUP_SOCK_ADDR, 14), Rest::Cgroup),
    two("cgroup", "sendmsg6", CgroupSockAddr, (CGROUP_SOCK_ADDR, 15), Rest::Cgroup),
    two("cgroup", "recvmsg4", CgroupSockAddr, (CGROUP_SOCK_ADDR, 19), Rest::Cgroup),
    two("cgroup", "recvmsg6", CgroupSockAddr, (CGROUP_SOCK_ADDR, 20), Rest::Cgroup),
    two("cgroup", "getpeername4", CgroupSockAddr, (CGROUP_SOCK_ADDR, 29), Rest::Cgroup),
    two("cgroup", "getpeername6", CgroupSockAddr, (CGROUP_SOCK_ADDR, 30), Rest::Cgroup),
    two("cgroup", "getsockname4", CgroupSockAddr, (CGROUP_SOCK_ADDR, 31), Rest::Cgroup),
    two("cgroup", "getsockname6", CgroupSockAddr, (CGROUP_SOCK_ADDR, 32), Rest::Cgroup),
    row("xdp", Xdp, XDP, 37, Rest::Interface),
    row("xdp.frags", Xdp, XDP, 37, Rest::Interface),
    two("tcx", "ingress", Tc, (SCHED_CLS, 46), Rest::Interface),
    two("tcx", "egress", Tc, (SCHED_CLS, 47), Rest::Interface),
    two("tc", "ingress", Tc, (SCHED_CLS, 46), Rest::Interface),
    two("tc", "egress", Tc, (SCHED_CLS, 47), Rest::Interface),
    row("tc", Tc, SCHED_CLS, 0, Rest::Interface),
    row("classifier", Tc, SCHED_CLS, 0, Rest::Interface),
    row("lsm", Lsm, LSM, 27, Rest::Hook),
    row("lsm.s", Lsm, LSM, 27, Rest::Hook),
];

/// Sections of which libbpf knows, and we know why not. Of `a/b` the row `a` speaks, too.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("action", "actions of traffic control"),
    ("cgroup/dev", "programs that decide about devices"),
    ("cgroup/getsockopt", "programs that change socket options"),
    ("cgroup/setsockopt", "programs that change socket options"),
    ("cgroup/sysctl", "programs that decide about sysctl"),
    ("flow_dissector", "flow dissectors"),
    ("fmod_ret", "programs that change what functions return"),
    ("fmod_ret.s", "programs that change what functions return"),
    ("freplace", "replacements of other programs' functions"),
    ("iter", "iterators"),
    ("iter.s", "iterators"),
    ("kprobe.multi", "probes of many functions at once"),
    ("kprobe.session", "probes of many functions at once"),
    ("kretprobe.multi", "probes of many functions at once"),
    ("lirc_mode2", "decoders of infrared signals"),
    ("lsm_cgroup", "security modules of one cgroup"),
    ("lwt_in", "lightweight tunnels"),
    ("lwt_out", "lightweight tunnels"),
    ("lwt_seg6local", "lightweight tunnels"),
    ("lwt_xmit", "lightweight tunnels"),
    ("netfilter", "hooks of netfilter"),
    ("netkit", "netkit devices"),
    ("raw_tp.w", "raw tracepoints that change their arguments"),
    ("raw_tracepoint.w", "raw tracepoints that change their arguments"),
    ("sk_lookup", "programs that choose sockets"),
    ("sk_msg", "programs that redirect messages"),
    ("sk_reuseport", "programs that choose sockets"),
    ("sk_skb", "programs that redirect streams"),
    ("struct_ops", "operations of the kernel's own parts"),
    ("struct_ops.s", "operations of the kernel's own parts"),
    ("syscall", "programs that only bpf(2) runs"),
    ("uprobe.multi", "probes of many functions at once"),
    ("uprobe.multi.s", "probes of many functions at once"),
    ("uprobe.session", "probes of many functions at once"),
    ("uprobe.session.s", "probes of many functions at once"),
    ("uretprobe.multi", "probes of many functions at once"),
    ("uretprobe.multi.s", "probes of many functions at once"),
    ("usdt", "static probes of user programs"),
    ("xdp.frags/cpumap", "programs that stand in maps of processors"),
    ("xdp.frags/devmap", "programs that stand in maps of devices"),
    ("xdp/cpumap", "programs that stand in maps of processors"),
    ("xdp/devmap", "programs that stand in maps of devices"),
];

/// The row for a section.
pub(super) fn find(head: &str, rest: Option<&str>) -> Option<&'static Row> {
    if head.starts_with("xdp") && unsupported(head, rest).is_some() {
        return None;
    }
    let second = rest.and_then(|rest| rest.split('/').next());
    ROWS.iter().find(|row| row.head == head && (row.second.is_none() || row.second == second))
}

/// What is in a section that guests cannot have, if that is known.
pub(super) fn unsupported(head: &str, rest: Option<&str>) -> Option<&'static str> {
    let second = rest.and_then(|rest| rest.split('/').next());
    let fits = |name: &str| match name.split_once('/') {
        Some((first, wanted)) => first == head && Some(wanted) == second,
        None => name == head,
    };
    UNSUPPORTED.iter().find(|(name, _)| fits(name)).map(|(_, what)| *what)
}
