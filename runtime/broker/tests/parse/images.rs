//! Images of the objects in `tests/objects`.

use std::collections::BTreeSet;

use wasi_guard_broker::image::{Image, Map, Program};
use wasi_guard_broker::section;

use crate::objects::{image, named, of};

const LOAD: u8 = 0x18;
const CALL: u8 = 0x85;
/// What aya and libbpf let an instruction call that accesses a member that the kernel does not
/// have. The verifier minds only if the instruction can be reached.
const MISSING: i32 = 0xbad2310;

/// The parts of an instruction: opcode, destination, source, offset, immediate.
fn parts(instruction: u64) -> (u8, u8, u8, i16, i32) {
    let bytes = instruction.to_le_bytes();
    let offset = i16::from_le_bytes([bytes[2], bytes[3]]);
    let immediate = i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    (bytes[0], bytes[1] & 15, bytes[1] >> 4, offset, immediate)
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|it| u32::from_le_bytes(it.try_into().unwrap())).collect()
}

fn map<'i>(image: &'i Image, name: &str) -> &'i Map {
    image.maps.iter().find(|map| map.name == name).unwrap_or_else(|| panic!("no map {name}"))
}

fn program<'i>(image: &'i Image, name: &str) -> &'i Program {
    let found = image.programs.iter().find(|program| program.name == name);
    found.unwrap_or_else(|| panic!("no program {name}"))
}

/// Names of the maps that a program's instructions refer to, and whether it is to their values.
fn used(image: &Image, name: &str) -> BTreeSet<(String, bool)> {
    let mut used = BTreeSet::new();
    for instruction in &program(image, name).instructions {
        let (LOAD, _, source @ 1..=2, _, place) = parts(*instruction) else { continue };
        used.insert((image.maps[place as usize].name.clone(), source == 2));
    }
    used
}

/// What holds of every image of an object that clang has made.
fn check(image: &Image) {
    let sorted = |names: Vec<&String>| names.is_sorted();
    assert!(sorted(image.maps.iter().map(|it| &it.name).collect()));
    assert!(sorted(image.programs.iter().map(|it| &it.name).collect()));
    assert_eq!(image.btf[..2], [0x9f, 0xeb]);
    for program in &image.programs {
        section::parse(&program.section).unwrap();
        let length = program.instructions.len();
        let mut starts = BTreeSet::from([0]);
        for (place, instruction) in program.instructions.iter().enumerate() {
            match parts(*instruction) {
                (LOAD, _, 1 | 2, _, map) => assert!((map as usize) < image.maps.len()),
                (CALL, _, 1, _, distance) => {
                    let target = place as i64 + 1 + i64::from(distance);
                    assert!(target > 0 && target < length as i64);
                    starts.insert(target as u32);
                }
                (CALL, _, 0, _, MISSING) => {}
                (CALL, _, 0, _, helper) => assert!(helper > 0 && helper < 212, "{helper}"),
                (CALL, _, source, ..) => panic!("a call of kind {source}"),
                _ => {}
            }
        }
        // The kernel wants a record for each function, where it begins.
        let functions = words(&program.func_info);
        assert_eq!(program.func_info_size, 8);
        let told: BTreeSet<u32> = functions.chunks_exact(2).map(|it| it[0]).collect();
        assert_eq!(told, starts, "{}", program.name);
        assert_eq!(functions.len() / 2, starts.len());
        // And the first line of each, all in order.
        let lines = words(&program.line_info);
        assert_eq!(program.line_info_size, 16);
        let told: Vec<u32> = lines.chunks_exact(4).map(|it| it[0]).collect();
        assert!(told.is_sorted() && told.iter().all(|it| (*it as usize) < length));
        assert!(starts.iter().all(|start| told.contains(start)), "{}", program.name);
    }
}

#[test]
fn exec_has_a_ring_buffer_a_hash_map_and_a_threshold() {
    let image = image(&named("exec"));
    check(&image);
    assert_eq!(image.license, "Dual BSD/GPL");
    let names: Vec<&str> = image.maps.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [".rodata", "events", "started"]);
    let threshold = map(&image, ".rodata");
    assert_eq!((threshold.kind, threshold.key_size, threshold.value_size), (2, 4, 8));
    // BPF_F_RDONLY_PROG
    assert_eq!((threshold.max_entries, threshold.flags, threshold.frozen), (1, 1 << 7, true));
    assert_eq!(threshold.data, [0; 8]);
    let events = map(&image, "events");
    assert_eq!((events.kind, events.key_size, events.value_size), (27, 0, 0));
    assert_eq!((events.max_entries, events.btf_key, events.btf_value), (256 << 10, 0, 0));
    let started = map(&image, "started");
    assert_eq!((started.kind, started.key_size, started.value_size), (1, 4, 8));
    assert!(started.max_entries == 8192 && started.btf_key > 0 && started.btf_value > 0);
    assert!(!started.frozen && !started.pinned && started.data.is_empty());

    assert_eq!(program(&image, "handle_exec").section, "tp/sched/sched_process_exec");
    let expected = [(".rodata", true), ("events", false), ("started", false)];
    let expected: BTreeSet<_> = expected.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(used(&image, "handle_exec"), expected);
    assert_eq!(used(&image, "handle_exit"), expected);
    // Each program has its own copy of the function that both call.
    for name in ["handle_exec", "handle_exit"] {
        assert_eq!(program(&image, name).func_info.len(), 2 * 8, "{name}");
    }
}

#[test]
fn opensnoop_has_a_perf_event_array() {
    let image = image(&named("opensnoop"));
    check(&image);
    let events = map(&image, "events");
    // As many as there are processors, which the broker knows.
    assert_eq!((events.kind, events.max_entries), (4, 0));
    assert_eq!((events.key_size, events.value_size), (4, 4));
    let rodata = map(&image, ".rodata");
    assert_eq!(rodata.value_size, 13);
    assert_eq!(rodata.data.iter().filter(|byte| **byte == 0xff).count(), 4);
    let sections: Vec<&str> = image.programs.iter().map(|it| it.section.as_str()).collect();
    assert_eq!(
        sections,
        [
            "tracepoint/syscalls/sys_enter_open",
            "tracepoint/syscalls/sys_enter_openat",
            "tracepoint/syscalls/sys_exit_open",
            "tracepoint/syscalls/sys_exit_openat",
        ]
    );
    // What was inlined in one is a function of the others.
    assert_eq!(used(&image, "exit_open"), used(&image, "exit_openat"));
    assert!(used(&image, "exit_open").contains(&("events".to_owned(), false)));
}

#[test]
fn runqlat_is_adapted_to_the_kernel() {
    let image = image(&named("runqlat"));
    check(&image);
    assert_eq!(map(&image, "cgroups").kind, 8);
    assert_eq!(map(&image, "histograms").value_size, 26 * 4 + 16);
    assert_eq!(map(&image, ".bss").data, vec![0; 26 * 4 + 16]);
    // `pid` and `tgid` are at 104 and 108 in that kernel, and at 0 and 4 in the object.
    let loads = program(&image, "sched_wakeup_new").instructions.iter().map(|it| parts(*it));
    let offsets: Vec<i16> = loads.filter(|it| it.0 == 0x61).map(|it| it.3).take(2).collect();
    assert_eq!(BTreeSet::from_iter(offsets), BTreeSet::from([104, 108]));
    // There is one member that is not there.
    let calls = program(&image, "sched_switch").instructions.iter().map(|it| parts(*it));
    assert_eq!(calls.filter(|it| it.0 == CALL && it.4 == MISSING).count(), 1);
}

#[test]
fn maps_are_of_all_kinds() {
    let image = image(&named("maps"));
    check(&image);
    let shape = |name: &str| {
        let map = map(&image, name);
        (map.kind, map.key_size, map.value_size, map.max_entries)
    };
    assert_eq!(shape("hash"), (1, 4, 24, 16));
    assert_eq!(shape("array"), (2, 4, 8, 4));
    assert_eq!(shape("percpu_array"), (6, 4, 4, 4));
    assert_eq!(shape("percpu_hash"), (5, 8, 4, 8));
    assert_eq!(shape("lru"), (9, 4, 4, 100));
    // Rounded up to pages, and these to a power of two.
    assert_eq!(shape("ring"), (27, 0, 0, 8192));
    assert_eq!(shape("perf"), (4, 4, 4, 0));
    assert_eq!(shape("stacks"), (7, 4, 1016, 32));
    assert_eq!(shape("groups"), (8, 4, 4, 2));
    assert_eq!(shape("networks"), (11, 8, 4, 10));
    assert_eq!(map(&image, "networks").flags, 1);
    assert_eq!(shape("queue"), (22, 0, 4, 5));
    assert_eq!(shape("stack"), (23, 0, 8, 6));
    assert_eq!(shape("bloom"), (30, 0, 4, 100));
    let bloom = map(&image, "bloom");
    assert!(bloom.extra == 3 && bloom.btf_key == 0 && bloom.btf_value > 0);
    assert_eq!(shape("outer"), (12, 4, 4, 3));
    let inner = map(&image, "outer").inner.as_deref().unwrap();
    assert_eq!((inner.kind, inner.key_size, inner.value_size, inner.max_entries), (2, 4, 4, 7));
    for name in ["ring", "perf", "stacks", "groups", "queue", "stack", "outer"] {
        assert_eq!((map(&image, name).btf_key, map(&image, name).btf_value), (0, 0), "{name}");
    }
    for name in ["hash", "array", "percpu_array", "percpu_hash", "lru", "networks"] {
        let map = map(&image, name);
        assert!(map.btf_key > 0 && map.btf_value > 0 && map.inner.is_none(), "{name}");
    }
    assert_eq!(map(&image, ".rodata").data, *b"wasi\0\0\0\0");
    assert_eq!(map(&image, ".data").data, [7, 0, 0, 0]);
    assert_eq!(map(&image, ".bss").data, [0; 64]);
    assert!(map(&image, ".rodata").frozen);
    assert!(!map(&image, ".data").frozen && !map(&image, ".bss").frozen);
    assert_eq!(used(&image, "everything").len(), image.maps.len());
}

#[test]
fn sections_keep_their_names() {
    for (object, sections) in [
        ("lsm", vec!["lsm/path_rmdir"]),
        (
            "sockets",
            vec![
                "cgroup/connect4",
                "cgroup/sock_create",
                "cgroup_skb/egress",
                "socket",
                "cgroup_skb/ingress",
                "sockops",
                "xdp",
            ],
        ),
        (
            "probes",
            vec![
                "raw_tp/sys_enter",
                "fentry/tcp_v4_connect",
                "fexit/tcp_v4_connect",
                "perf_event",
                "kretprobe/do_unlinkat",
                "kprobe/do_unlinkat",
                "uprobe/./target:uprobe_add",
                "uretprobe//proc/self/exe:uprobe_sub",
            ],
        ),
        // aya knows none of these.
        (
            "traffic",
            vec![
                "tc",
                "tc",
                "tcx/egress",
                "tcx/ingress",
                "ksyscall/unlinkat",
                "kretsyscall/unlinkat",
            ],
        ),
    ] {
        let image = image(&named(object));
        check(&image);
        let found: Vec<&str> = image.programs.iter().map(|it| it.section.as_str()).collect();
        assert_eq!(found, sections, "{object}");
    }
}

#[test]
fn global_and_static_functions_are_linked() {
    let image = image(&named("probes"));
    for (name, functions) in [("tcp_connected", 2), ("unlinked", 2), ("unlinking", 1)] {
        assert_eq!(program(&image, name).func_info.len() / 8, functions, "{name}");
    }
    // Function pointers are linked like calls.
    let image = crate::objects::image(&of(
        "static long (*const loop)(u32 times, void *function, void *context, u64) = (void *)181;
         static NOINLINE int once(u32 index, void *context) { return 0; }
         SEC(\"xdp\") int all(void *context) { return loop(4, once, 0, 0); }",
    ));
    let code = &program(&image, "all").instructions;
    let place = code.iter().position(|it| parts(*it).0 == LOAD && parts(*it).2 == 4).unwrap();
    let target = place as i64 + 1 + i64::from(parts(code[place]).4);
    assert_eq!(words(&program(&image, "all").func_info)[2], target as u32);
}

#[test]
fn maps_of_old_and_pinned_maps() {
    let found = image(&of("struct { u32 type, key_size, value_size, max_entries, flags; }
             old SEC(\"maps\") = { 1, 4, 8, 16, 1 };
         struct { u32 type, key_size, value_size, max_entries, flags, id, pinning; }
             kept SEC(\"maps\") = { 2, 4, 8, 16, 0, 0, 1 };
         struct { NUMBER(type, ARRAY); NUMBER(max_entries, 1); NUMBER(pinning, 1);
             TYPE(key, u32); TYPE(value, u32); } pinned SEC(\".maps\");
         SEC(\"socket\") int filter(void *context) {
             u32 key = 0;
             return map_lookup(&old, &key) || map_lookup(&kept, &key) || map_lookup(&pinned, &key);
         }"));
    let old = map(&found, "old");
    assert_eq!((old.kind, old.key_size, old.value_size, old.max_entries), (1, 4, 8, 16));
    assert!(old.flags == 1 && !old.pinned && old.btf_key == 0);
    assert!(map(&found, "kept").pinned && map(&found, "pinned").pinned);
    assert_eq!(used(&found, "filter").len(), 3);
}

#[test]
fn an_image_is_always_the_same() {
    for name in ["maps", "traffic", "probes"] {
        let object = named(name);
        let first = image(&object);
        for _ in 0..5 {
            assert_eq!(image(&object), first);
        }
    }
}
