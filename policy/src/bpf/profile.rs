//! Ready sets of programs and attach points.

use super::{AttachList, Bpf, ProgramKind};
use crate::pattern::Pattern;

/// A ready set. The other keys of `[bpf]` add to it; `scope` is never part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Programs that watch the kernel and change nothing.
    TraceRo,
    /// Programs that watch networking and can neither change nor drop a packet.
    NetObserve,
}

/// What a profile is made of.
struct Set {
    programs: &'static [ProgramKind],
    /// Each list at most once.
    lists: &'static [(AttachList, &'static [&'static str])],
}

/// Without uprobes: they change the text of other processes, to put a breakpoint there.
const TRACE_RO: Set = Set {
    programs: &[
        ProgramKind::Tracepoint,
        ProgramKind::RawTracepoint,
        ProgramKind::TpBtf,
        ProgramKind::Fentry,
        ProgramKind::Fexit,
        ProgramKind::Kprobe,
        ProgramKind::Kretprobe,
        ProgramKind::PerfEvent,
    ],
    lists: &[
        (AttachList::Tracepoints, &["*/*"]),
        (AttachList::RawTracepoints, &["*"]),
        (AttachList::Functions, &["*"]),
        (AttachList::PerfEvents, &["*"]),
    ],
};

/// Without kinds whose verdict decides about packets (`cgroup_skb`, `xdp`, `tc`) or that can change
/// the options of sockets (`sock_ops`). A socket filter sees copies that its own socket gets.
const NET_OBSERVE: Set = Set {
    programs: &[
        ProgramKind::Tracepoint,
        ProgramKind::RawTracepoint,
        ProgramKind::TpBtf,
        ProgramKind::Fentry,
        ProgramKind::Fexit,
        ProgramKind::Kprobe,
        ProgramKind::Kretprobe,
        ProgramKind::SocketFilter,
    ],
    lists: &[
        (AttachList::Tracepoints, &["{net,sock,tcp,udp,skb,napi,qdisc}/*"]),
        // The same ones, whose names alone do not tell their category.
        (
            AttachList::RawTracepoints,
            &[
                "{net_dev,netif,napi,sock,inet,sk,tcp,udp,qdisc}_*",
                "{kfree_skb,consume_skb,skb_copy_datagram_iovec,dql_stall_detected}",
            ],
        ),
        (AttachList::Functions, &["{tcp,udp,inet,inet6,ip,ip6,sk,sock,__tcp,__udp}_*"]),
        (AttachList::Interfaces, &["*"]),
    ],
};

impl Profile {
    /// Every one.
    pub const EVERY: [Self; 2] = [Self::TraceRo, Self::NetObserve];

    /// The word in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::TraceRo => "trace-ro",
            Self::NetObserve => "net-observe",
        }
    }

    fn set(self) -> &'static Set {
        match self {
            Self::TraceRo => &TRACE_RO,
            Self::NetObserve => &NET_OBSERVE,
        }
    }

    /// Adds its programs and attach points to those that are there.
    pub(crate) fn add_to(self, bpf: &mut Bpf) {
        bpf.programs.extend(self.set().programs);
        for (list, texts) in self.set().lists {
            let patterns = texts.iter().filter_map(|text| Pattern::parse(text).ok());
            if let Some(known) = bpf.patterns_mut(*list) {
                known.extend(patterns);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::{AttachPoint, Scope};

    fn of(profile: Profile) -> Bpf {
        let mut bpf = Bpf { scope: Scope::Host, ..Bpf::default() };
        profile.add_to(&mut bpf);
        bpf
    }

    #[test]
    fn every_pattern_can_be_read_and_serves_a_kind_of_the_profile() {
        for profile in Profile::EVERY {
            let set = profile.set();
            for (list, texts) in set.lists {
                assert!(set.programs.iter().any(|kind| kind.list() == *list), "{list:?}");
                for text in *texts {
                    assert!(Pattern::parse(text).is_ok(), "{text}");
                }
            }
            for kind in set.programs {
                assert!(set.lists.iter().any(|(list, _)| kind.list() == *list), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_profile_leaves_scope_helpers_and_bounds_as_they_are() {
        for profile in Profile::EVERY {
            let mut bpf = Bpf::default();
            profile.add_to(&mut bpf);
            assert_eq!(bpf.scope, Scope::Guest);
            assert!(bpf.helpers.is_empty());
            assert_eq!(bpf.max_programs, Bpf::default().max_programs);
        }
    }

    #[test]
    fn trace_ro_watches_everything_but_other_programs() {
        let bpf = of(Profile::TraceRo);
        let point = AttachPoint::Tracepoint { category: "sched".into(), name: "x".into() };
        assert_eq!(bpf.permits_attach(ProgramKind::Tracepoint, &point), Ok(()));
        let point = AttachPoint::Function { name: "vfs_read".into() };
        assert_eq!(bpf.permits_attach(ProgramKind::Fexit, &point), Ok(()));
        for kind in [
            ProgramKind::Uprobe,
            ProgramKind::Uretprobe,
            ProgramKind::Lsm,
            ProgramKind::Xdp,
            ProgramKind::Tc,
            ProgramKind::CgroupSkb,
            ProgramKind::SocketFilter,
        ] {
            assert!(bpf.permits_program(kind).is_err(), "{kind:?}");
        }
    }

    #[test]
    fn net_observe_watches_networking_and_decides_nothing() {
        let bpf = of(Profile::NetObserve);
        let raw = |name: &str| AttachPoint::RawTracepoint { name: name.into() };
        for name in ["tcp_probe", "inet_sock_set_state", "kfree_skb", "napi_poll", "net_dev_xmit"] {
            assert_eq!(bpf.permits_attach(ProgramKind::TpBtf, &raw(name)), Ok(()), "{name}");
        }
        for name in ["sched_switch", "sys_enter", "kfree", "task_newtask"] {
            assert!(bpf.permits_attach(ProgramKind::RawTracepoint, &raw(name)).is_err(), "{name}");
        }
        let function = |name: &str| AttachPoint::Function { name: name.into() };
        for name in ["tcp_v4_connect", "__tcp_transmit_skb", "ip_output", "sock_sendmsg"] {
            assert_eq!(bpf.permits_attach(ProgramKind::Kprobe, &function(name)), Ok(()), "{name}");
        }
        for name in ["vfs_read", "commit_creds", "ipc_get"] {
            assert!(bpf.permits_attach(ProgramKind::Fentry, &function(name)).is_err(), "{name}");
        }
        let point = AttachPoint::Interface { name: "eth0".into() };
        assert_eq!(bpf.permits_attach(ProgramKind::SocketFilter, &point), Ok(()));
        for kind in [
            ProgramKind::Xdp,
            ProgramKind::Tc,
            ProgramKind::CgroupSkb,
            ProgramKind::CgroupSockAddr,
            ProgramKind::SockOps,
            ProgramKind::PerfEvent,
        ] {
            assert!(bpf.permits_program(kind).is_err(), "{kind:?}");
        }
    }
}
