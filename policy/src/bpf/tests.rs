use super::*;

fn load(text: &str) -> Bpf {
    let text = format!("version = 1\n[bpf]\n{text}");
    let source = crate::Source::new("test", text.as_str());
    match crate::load(&source) {
        Ok((policy, _)) => policy.bpf.unwrap(),
        Err(found) => panic!("{}", crate::render_all(&found, &source)),
    }
}

fn refusal(key: &'static str, wanted: &str) -> Result<(), Refusal> {
    Err(Refusal { key, wanted: wanted.into() })
}

/// A point of the list with this text.
fn point(list: AttachList, text: &str) -> AttachPoint {
    let name = text.to_owned();
    match list {
        AttachList::Tracepoints => {
            let (category, name) = text.split_once('/').unwrap();
            AttachPoint::Tracepoint { category: category.into(), name: name.into() }
        }
        AttachList::RawTracepoints => AttachPoint::RawTracepoint { name },
        AttachList::Functions => AttachPoint::Function { name },
        AttachList::Uprobes => {
            let (path, symbol) = text.rsplit_once(':').unwrap();
            AttachPoint::Uprobe { path: path.into(), symbol: symbol.into() }
        }
        AttachList::PerfEvents => AttachPoint::PerfEvent { counter: name },
        AttachList::Cgroups => AttachPoint::Cgroup { path: name },
        AttachList::Interfaces => AttachPoint::Interface { name },
        AttachList::LsmHooks => AttachPoint::LsmHook { name },
    }
}

/// Of each list: an entry, what it matches, and what it does not.
const LISTS: [(AttachList, &str, &[&str], &[&str]); 8] = [
    (
        AttachList::Tracepoints,
        "sched/sched_process_*",
        &["sched/sched_process_exec"],
        &["sched/sched_switch", "x/sched_process_exec", "sched/", "sched/x/sched_process_exec"],
    ),
    (AttachList::RawTracepoints, "sys_{enter,exit}", &["sys_enter", "sys_exit"], &["sys_x", ""]),
    (AttachList::Functions, "tcp_*", &["tcp_v4_connect", "tcp_"], &["__tcp_x", "tcp", "tcp_\0"]),
    (
        AttachList::Uprobes,
        "/usr/lib/**/libssl.so*:SSL_*",
        &["/usr/lib/libssl.so.3:SSL_write", "/usr/lib/x86_64-linux-gnu/libssl.so:SSL_read"],
        &[
            "/usr/lib/libssl.so.3:write",
            "/usr/lib/libcrypto.so.3:SSL_write",
            "usr/lib/libssl.so.3:SSL_write",
            "//usr/lib/libssl.so.3:SSL_write",
            "/usr/lib/../lib/libssl.so.3:SSL_write",
            "/tmp/usr/lib/libssl.so.3:SSL_write",
        ],
    ),
    (AttachList::PerfEvents, "cpu-*", &["cpu-clock", "cpu-cycles"], &["instructions"]),
    (AttachList::Cgroups, "system.slice/**", &["system.slice/a", "system.slice/a/b"], &[".", "x"]),
    (AttachList::Interfaces, "eth?", &["eth0"], &["eth10", "lo", ""]),
    (AttachList::LsmHooks, "path_*", &["path_rmdir"], &["file_open"]),
];

#[test]
fn an_attach_point_is_permitted_if_the_list_of_its_kind_has_it() {
    for kind in ProgramKind::EVERY {
        let (list, entry, yes, no) =
            LISTS.into_iter().find(|(list, ..)| *list == kind.list()).unwrap();
        let bpf = load(&format!(
            "scope = 'host'\nprograms = ['{}']\n{} = ['{entry}']",
            kind.name(),
            list.name()
        ));
        assert_eq!(bpf.permits_program(kind), Ok(()));
        assert_eq!(bpf.entries(list), [entry]);
        for text in yes {
            assert_eq!(bpf.permits_attach(kind, &point(list, text)), Ok(()), "{kind:?} {text}");
        }
        for text in no {
            let found = bpf.permits_attach(kind, &point(list, text));
            assert_eq!(found, refusal(list.name(), text), "{kind:?} {text}");
        }
        // Points of other lists are none of this kind's.
        for (other, _, texts, _) in LISTS.into_iter().filter(|(other, ..)| *other != list) {
            let found = bpf.permits_attach(kind, &point(other, texts[0]));
            assert_eq!(found, refusal(list.name(), texts[0]), "{kind:?} {other:?}");
        }
        let own = bpf.permits_attach(kind, &AttachPoint::OwnCgroup);
        assert_eq!(own.is_ok(), kind.runs_for_a_cgroup(), "{kind:?}");
        for other in ProgramKind::EVERY.into_iter().filter(|other| *other != kind) {
            assert_eq!(bpf.permits_program(other), refusal("programs", other.name()));
            let found = bpf.permits_attach(other, &point(list, yes[0]));
            assert_eq!(found, refusal("programs", other.name()));
        }
    }
}

#[test]
fn within_the_guests_scope_only_its_cgroup_counts() {
    let bpf = load("programs = ['sock_ops', 'cgroup_skb', 'cgroup_sock', 'cgroup_sock_addr']");
    for kind in ProgramKind::EVERY {
        let own = bpf.permits_attach(kind, &AttachPoint::OwnCgroup);
        assert_eq!(own.is_ok(), kind.runs_for_a_cgroup(), "{kind:?}");
        if kind.runs_for_a_cgroup() {
            let other = AttachPoint::Cgroup { path: "a".into() };
            assert_eq!(bpf.permits_attach(kind, &other), refusal("scope", "host"));
        }
    }
    // What a policy cannot say is refused all the same.
    let everything = Bpf { programs: ProgramKind::EVERY.into(), ..Bpf::default() };
    for kind in ProgramKind::EVERY {
        let wanted = if kind.runs_for_a_cgroup() { Ok(()) } else { refusal("scope", "host") };
        assert_eq!(everything.permits_program(kind), wanted, "{kind:?}");
    }
}

#[test]
fn the_root_of_the_cgroups_is_a_dot() {
    let root = AttachPoint::Cgroup { path: ".".into() };
    for (entry, permitted) in [(".", true), ("**", true), ("*", false), ("a/**", false)] {
        let bpf = load(&format!("scope = 'host'\nprograms = ['sock_ops']\ncgroups = ['{entry}']"));
        let found = bpf.permits_attach(ProgramKind::SockOps, &root);
        assert_eq!(found.is_ok(), permitted, "{entry}");
    }
}

#[test]
fn helpers_are_the_default_ones_and_those_that_are_named() {
    let bpf = load("programs = ['sock_ops']\nhelpers = ['bpf_send_signal', 'bpf_setsockopt']");
    for reads in ["bpf_probe_read_kernel", "bpf_trace_printk"] {
        let id = helpers::by_name(reads).unwrap();
        assert_eq!(bpf.permits_helper(id), refusal("scope", "host"), "{reads}");
        let host = Bpf { scope: Scope::Host, ..Bpf::default() };
        assert_eq!(host.permits_helper(id), Ok(()), "{reads}");
        let named = Bpf { helpers: [id].into(), ..Bpf::default() };
        assert_eq!(named.permits_helper(id), refusal("scope", "host"), "{reads}");
    }
    for granted in ["bpf_map_lookup_elem", "bpf_send_signal", "bpf_setsockopt"] {
        assert_eq!(bpf.permits_helper(helpers::by_name(granted).unwrap()), Ok(()), "{granted}");
    }
    for refused in ["bpf_send_signal_thread", "bpf_probe_write_user", "bpf_sys_bpf"] {
        let id = helpers::by_name(refused).unwrap();
        assert_eq!(bpf.permits_helper(id), refusal("helpers", refused));
    }
    assert_eq!(bpf.permits_helper(0), refusal("helpers", "number 0"));
    assert_eq!(bpf.permits_helper(212), refusal("helpers", "number 212"));
    let beyond = Bpf { helpers: [166, 168, 179, 212].into(), ..Bpf::default() };
    for id in [166, 168, 179, 212] {
        assert!(beyond.permits_helper(id).is_err(), "{id}");
    }
}

#[test]
fn bounds_are_those_of_the_policy_or_the_usual_ones() {
    let bpf = load("programs = ['sock_ops']");
    let bounds = (bpf.max_programs, bpf.max_maps, bpf.map_bytes, bpf.max_instructions);
    assert_eq!(bounds, (16, 16, 16 << 20, 65_536));
    let bpf = load(
        "programs = ['sock_ops']\nmax_programs = 256\nmax_maps = 1\nmap_bytes = '1GiB'\n\
         max_instructions = 1000000",
    );
    let bounds = (bpf.max_programs, bpf.max_maps, bpf.map_bytes, bpf.max_instructions);
    assert_eq!(bounds, (256, 1, 1 << 30, 1_000_000));
}

#[test]
fn keys_add_to_a_profile() {
    let bpf = load(
        "uprobes = ['/bin/a:b']\nprograms = ['uprobe']\nfunctions = ['vfs_*']\n\
         profile = 'net-observe'\nscope = 'host'",
    );
    assert_eq!(bpf.permits_program(ProgramKind::Uprobe), Ok(()));
    for function in ["vfs_read", "tcp_v4_connect"] {
        let point = AttachPoint::Function { name: function.into() };
        assert_eq!(bpf.permits_attach(ProgramKind::Kprobe, &point), Ok(()));
    }
}

#[test]
fn without_the_table_nothing_may_be_loaded() {
    let source = crate::Source::new("test", "version = 1");
    assert_eq!(crate::load(&source).unwrap().0.bpf, None);
    let grants = crate::Grants { tcp: true, ..crate::Grants::default() };
    assert_eq!(crate::Policy::from_grants(&grants).bpf, None);
}

#[test]
fn refusals_and_attach_points_read_like_the_policy() {
    let refused = Refusal { key: "functions", wanted: "vfs_read".into() };
    assert_eq!(refused.to_string(), "`functions` does not list \"vfs_read\"");
    let refused = Refusal { key: "scope", wanted: "host".into() };
    assert_eq!(refused.to_string(), "`scope` is not \"host\"");
    for (list, _, texts, _) in LISTS {
        assert_eq!(point(list, texts[0]).to_string(), texts[0]);
        assert_eq!(point(list, texts[0]).list(), list);
    }
}
