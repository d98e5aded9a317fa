use super::*;

fn point(section: &str) -> (ProgramKind, String, u64) {
    let section = parse(section).unwrap();
    match section.place {
        Place::Point { point, offset } => (section.kind, point.to_string(), offset),
        place => panic!("{place:?}"),
    }
}

#[test]
fn sections_that_name_a_point() {
    use ProgramKind::*;
    for (section, kind, text, offset) in [
        ("tp/sched/sched_process_exec", Tracepoint, "sched/sched_process_exec", 0),
        ("tracepoint/syscalls/sys_enter_open", Tracepoint, "syscalls/sys_enter_open", 0),
        ("raw_tp/sys_enter", RawTracepoint, "sys_enter", 0),
        ("raw_tracepoint/sys_exit", RawTracepoint, "sys_exit", 0),
        ("tp_btf/sched_switch", TpBtf, "sched_switch", 0),
        ("fentry/tcp_v4_connect", Fentry, "tcp_v4_connect", 0),
        ("fexit/do_unlinkat", Fexit, "do_unlinkat", 0),
        ("fentry.s/do_unlinkat", Fentry, "do_unlinkat", 0),
        ("kprobe/vfs_read", Kprobe, "vfs_read", 0),
        ("kprobe/vfs_read.isra.0+0x10", Kprobe, "vfs_read.isra.0", 16),
        ("kprobe/vfs_read+8", Kprobe, "vfs_read", 8),
        ("kretprobe/vfs_read", Kretprobe, "vfs_read", 0),
        ("ksyscall/unlinkat", Kprobe, "__x64_sys_unlinkat", 0),
        ("kretsyscall/openat", Kretprobe, "__x64_sys_openat", 0),
        ("uprobe//usr/lib/libssl.so.3:SSL_write", Uprobe, "/usr/lib/libssl.so.3:SSL_write", 0),
        ("uprobe/./target:uprobe_add", Uprobe, "./target:uprobe_add", 0),
        ("uprobe.s//a:b+0x20", Uprobe, "/a:b", 32),
        ("uretprobe//proc/self/exe:f@@V1", Uretprobe, "/proc/self/exe:f@@V1", 0),
        ("perf_event/cpu-clock", PerfEvent, "cpu-clock", 0),
        ("lsm/path_rmdir", Lsm, "path_rmdir", 0),
        ("lsm.s/bprm_committed_creds", Lsm, "bprm_committed_creds", 0),
    ] {
        if cfg!(not(target_arch = "x86_64")) && section.contains("syscall/") {
            continue;
        }
        assert_eq!(point(section), (kind, text.to_owned(), offset), "{section}");
    }
}

#[test]
fn sections_whose_target_is_named_by_whoever_attaches() {
    for (section, prog_type, attach_type, place) in [
        ("sockops", 13, 3, Place::Cgroup),
        ("cgroup_skb/ingress", 8, 0, Place::Cgroup),
        ("cgroup_skb/egress", 8, 1, Place::Cgroup),
        ("cgroup/skb", 8, 0, Place::Cgroup),
        ("cgroup/sock_create", 9, 2, Place::Cgroup),
        ("cgroup/post_bind6", 9, 13, Place::Cgroup),
        ("cgroup/connect4", 18, 10, Place::Cgroup),
        ("cgroup/getsockname6", 18, 32, Place::Cgroup),
        ("xdp", 6, 37, Place::Interface),
        ("xdp/drop", 6, 37, Place::Interface),
        ("xdp.frags", 6, 37, Place::Interface),
        ("tc", 3, 0, Place::Interface),
        ("tc/anything", 3, 0, Place::Interface),
        ("tc/egress", 3, 47, Place::Interface),
        ("classifier/ingress", 3, 0, Place::Interface),
        ("tcx/ingress", 3, 46, Place::Interface),
        ("socket", 1, 0, Place::Unsaid),
        ("socket/all", 1, 0, Place::Unsaid),
        ("perf_event", 7, 0, Place::Unsaid),
        ("kprobe", 2, 0, Place::Unsaid),
        ("tracepoint", 5, 0, Place::Unsaid),
    ] {
        let found = parse(section).unwrap();
        assert_eq!(
            (found.prog_type, found.expected_attach_type, found.place),
            (prog_type, attach_type, place),
            "{section}"
        );
    }
}

#[test]
fn flags_come_from_the_head() {
    let of = |section| parse(section).map(|it| (it.sleepable, it.frags)).unwrap();
    assert_eq!(of("lsm.s/file_open"), (true, false));
    assert_eq!(of("lsm/file_open"), (false, false));
    assert_eq!(of("uprobe.s//a:b"), (true, false));
    assert_eq!(of("fexit.s/f"), (true, false));
    assert_eq!(of("xdp.frags"), (false, true));
    assert_eq!(of("xdp"), (false, false));
    let types = |section| parse(section).map(|it| it.expected_attach_type).unwrap();
    let tracing = ["tp_btf/a", "fentry/a", "fexit/a", "lsm/a"].map(types);
    assert_eq!(tracing, [23, 24, 25, 27]);
}

#[test]
fn what_guests_cannot_have_is_named() {
    for (section, word) in [
        ("iter/task", "iterators"),
        ("freplace/f", "replacements"),
        ("struct_ops/x", "operations"),
        ("syscall", "bpf(2)"),
        ("usdt//a:b:c", "static probes"),
        ("kprobe.multi/vfs_*", "many functions"),
        ("raw_tp.w/x", "change their arguments"),
        ("sk_skb/stream_verdict", "streams"),
        ("cgroup/sysctl", "sysctl"),
        ("cgroup/dev", "devices"),
        ("cgroup/getsockopt", "socket options"),
        ("xdp/devmap", "maps of devices"),
        ("?tp/sched/sched_switch", "on demand"),
        ("fmod_ret/f", "return"),
    ] {
        let error = parse(section).unwrap_err();
        assert!(matches!(error, SectionError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
    for section in
        ["", "/", "kprobes/f", "cgroup", "cgroup/nothing", "cgroup_skb", "tcx", "socket "]
    {
        let error = parse(section).unwrap_err();
        assert_eq!(error, SectionError::Unknown { section: section.to_owned() });
    }
}

#[test]
fn names_that_are_none_are_refused() {
    for section in [
        "tp/sched",
        "tp/../kprobes",
        "tp/sched/../../x",
        "tp/sched/",
        "tp//x",
        "raw_tp/a/b",
        "raw_tp/a b",
        "tp_btf/",
        "tp_btf",
        "fentry",
        "fexit/",
        "lsm",
        "lsm/a.b",
        "kprobe/f+",
        "kprobe/f++1",
        "kprobe/f+0x+1",
        "kprobe/f+0xfffffffffffffffff",
        "kprobe/f:g",
        "kprobe/a/b",
        "ksyscall/../x",
        "uprobe/nothing",
        "uprobe/:f",
        "uprobe//a:",
        "uprobe//a:b/c",
        "uprobe//a\n:b",
        "perf_event/a/b",
    ] {
        let error = parse(section).unwrap_err();
        assert!(matches!(error, SectionError::Malformed { .. }), "{section}: {error}");
    }
}
