//! What is loaded and what is not.

use wasi_guard_policy::bpf::{Bpf, ProgramKind, Refusal, Scope};
use wasi_guard_policy::pattern::Pattern;

use super::instructions::{call, load_imm64, with_maps};
use super::*;
use crate::image::Map;

/// `r0 = 0; exit`.
const NOTHING: [u64; 2] = [0xb7, 0x95];

const HOST: Host = Host { processors: 2, audit: false };

fn policy() -> Bpf {
    let all = || vec![Pattern::parse("**").unwrap()];
    Bpf {
        scope: Scope::Host,
        programs: [ProgramKind::Tracepoint, ProgramKind::Fentry].into(),
        tracepoints: all(),
        functions: vec![Pattern::parse("tcp_*").unwrap()],
        max_programs: 2,
        max_maps: 2,
        map_bytes: 1 << 20,
        max_instructions: 10,
        ..Bpf::default()
    }
}

fn program(section: &str, instructions: &[u64]) -> Program {
    Program {
        name: "handle".into(),
        section: section.into(),
        instructions: instructions.to_vec(),
        ..Program::default()
    }
}

fn array(name: &str) -> Map {
    Map {
        name: name.into(),
        kind: maps::kind::ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 4,
        ..Map::default()
    }
}

fn image(programs: Vec<Program>, maps: Vec<Map>) -> Image {
    Image { license: "GPL".into(), programs, maps, ..Image::default() }
}

fn judge(image: &Image) -> Result<Usage, Denied> {
    check(image, &policy(), Usage::default(), HOST, &mut |_| {}).map(|(_, usage)| usage)
}

/// The key that the policy lacks.
fn lacks(image: &Image) -> (&'static str, String) {
    match judge(image) {
        Err(Denied::Policy { refusal: Refusal { key, wanted }, .. }) => (key, wanted),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn never(image: &Image, about: &str) {
    match judge(image) {
        Err(Denied::Never { what, .. }) => assert!(what.contains(about), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn malformed(image: &Image) {
    assert!(matches!(judge(image), Err(Denied::Malformed(_))), "{:?}", judge(image));
}

#[test]
fn what_the_policy_lists_is_loaded_and_counted() {
    let tracepoint = program("tracepoint/sched/sched_switch", &NOTHING);
    let usage = judge(&image(vec![tracepoint], vec![array("counts")])).unwrap();
    assert_eq!((usage.programs, usage.maps), (1, 1));
    assert_eq!(usage.map_bytes, map_bytes(&array("counts"), 2).unwrap());
}

#[test]
fn each_key_is_asked() {
    let bad = |section: &str| image(vec![program(section, &NOTHING)], Vec::new());
    assert_eq!(lacks(&bad("kprobe/tcp_close")), ("programs", "kprobe".into()));
    // Bound when it is loaded: that is when the place is asked about.
    assert_eq!(lacks(&bad("fentry/vfs_read")), ("functions", "vfs_read".into()));
    judge(&bad("fentry/tcp_close")).unwrap();
    // Bound when it is attached.
    let long = image(vec![program("tracepoint/a/b", &[0xb7; 11])], Vec::new());
    assert_eq!(lacks(&long), ("max_instructions", "11".into()));
    let three = vec![program("tracepoint/a/b", &NOTHING); 3];
    assert_eq!(lacks(&image(three, Vec::new())), ("max_programs", "3".into()));
    let maps = ["a", "b", "c"].map(array).to_vec();
    assert_eq!(lacks(&image(Vec::new(), maps)).0, "max_maps");
    let large = Map { max_entries: 1 << 20, ..array("large") };
    assert_eq!(lacks(&image(Vec::new(), vec![large])).0, "map_bytes");
    /// `bpf_send_signal` and a number that no kernel has.
    const SEND_SIGNAL: i32 = 109;
    for (helper, text) in [(SEND_SIGNAL, "bpf_send_signal"), (5000, "number 5000")] {
        let kills = program("tracepoint/a/b", &[call(0, helper), NOTHING[1]]);
        assert_eq!(lacks(&image(vec![kills], Vec::new())), ("helpers", text.into()));
    }
}

#[test]
fn what_the_parser_puts_in_the_place_of_a_missing_member_is_the_verifiers_matter() {
    let poisoned = program("tracepoint/a/b", &[call(0, 0x0bad_2310), NOTHING[1]]);
    judge(&image(vec![poisoned], Vec::new())).unwrap();
}

#[test]
fn what_is_loaded_already_counts() {
    let one = image(vec![program("tracepoint/a/b", &NOTHING)], vec![array("a")]);
    let usage = Usage { programs: 2, ..Usage::default() };
    let denied = check(&one, &policy(), usage, HOST, &mut |_| {}).unwrap_err();
    assert!(denied.to_string().contains("max_programs"), "{denied}");
    let usage = Usage { programs: u32::MAX, maps: u32::MAX, map_bytes: u64::MAX };
    check(&one, &policy(), usage, HOST, &mut |_| {}).unwrap_err();
}

#[test]
fn audit_mode_tells_and_lets_through_what_a_policy_could_grant() {
    let kprobe = image(vec![program("kprobe/vfs_read", &NOTHING)], Vec::new());
    let mut told = Vec::new();
    check(&kprobe, &policy(), Usage::default(), Host { audit: true, ..HOST }, &mut |it| {
        told.push(it.clone())
    })
    .unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    let pinned = Map { pinned: true, ..array("a") };
    let pinned = image(Vec::new(), vec![pinned]);
    check(&pinned, &policy(), Usage::default(), Host { audit: true, ..HOST }, &mut |_| {})
        .unwrap_err();
}

#[test]
fn no_policy_grants_what_reaches_beyond_the_object() {
    never(&image(Vec::new(), vec![Map { pinned: true, ..array("a") }]), "pinned");
    // `BPF_F_NUMA_NODE`, `BPF_F_CLONE`, `BPF_F_TOKEN_FD` and all.
    for flags in [4, 512, 1 << 16, u32::MAX] {
        never(&image(Vec::new(), vec![Map { flags, ..array("a") }]), "flags");
    }
    // `BPF_MAP_TYPE_STRUCT_OPS`, `_USER_RINGBUF`, `_ARENA`, `_XSKMAP`, `_SOCKMAP`, none.
    for kind in [26, 31, 33, 17, 15, 0, u32::MAX] {
        never(&image(Vec::new(), vec![Map { kind, ..array("a") }]), "kind");
    }
    let with = |instructions: &[u64]| {
        image(vec![program("tracepoint/a/b", instructions)], vec![array("a")])
    };
    // BTF ids, and maps by their place in a list of descriptors.
    for source in [3, 5, 6, 7, 15] {
        never(&with(&load_imm64(source, 0)), "extern");
    }
    never(&with(&[call(2, 1)]), "kfunc");
    never(&with(&[0x8d]), "register");
    for section in ["freplace/x", "struct_ops/x", "syscall", "iter/task"] {
        never(&image(vec![program(section, &NOTHING)], Vec::new()), "");
    }
}

#[test]
fn what_makes_no_sense_is_no_object() {
    let with = |instructions: &[u64]| {
        image(vec![program("tracepoint/a/b", instructions)], vec![array("a")])
    };
    for map in [1, -1, i32::MAX] {
        malformed(&with(&load_imm64(1, map)));
        malformed(&with(&load_imm64(2, map)));
    }
    malformed(&with(&load_imm64(1, 0)[..1]));
    let named = |name: &str| {
        image(vec![Program { name: name.into(), ..program("tracepoint/a/b", &NOTHING) }], vec![])
    };
    for name in ["", "a\0b", "x".repeat(MAX_NAME + 1).as_str()] {
        malformed(&named(name));
    }
    for (size, bytes) in [(0, 8), (7, 8), (256, 256), (16, 8)] {
        let mut records = image(vec![program("tracepoint/a/b", &NOTHING)], Vec::new());
        records.programs[0].line_info = vec![0; bytes];
        records.programs[0].line_info_size = size;
        malformed(&records);
    }
    malformed(&image(Vec::new(), vec![Map { data: vec![0; 7], max_entries: 1, ..array("a") }]));
    malformed(&image(Vec::new(), vec![Map { btf_value: 1, ..array("a") }]));
    let inner = Some(Box::new(array("inner")));
    malformed(&image(Vec::new(), vec![Map { inner, ..array("a") }]));
    malformed(&image(Vec::new(), vec![Map { kind: maps::kind::ARRAY_OF_MAPS, ..array("a") }]));
}

#[test]
fn descriptors_take_the_place_of_maps_and_of_nothing_else() {
    // A constant that looks like a map's load in its second half.
    let mut instructions = load_imm64(1, 1).to_vec();
    instructions.extend(load_imm64(0, 7));
    instructions.extend([call(0, 1), load_imm64(2, 0)[0], 5 << 32]);
    let descriptors = [40, 41];
    let found = with_maps(&instructions, &descriptors);
    let mut expected = load_imm64(1, 41).to_vec();
    expected.extend(load_imm64(0, 7));
    expected.extend([call(0, 1), load_imm64(2, 40)[0], 5 << 32]);
    assert_eq!(found, expected);
}

#[test]
fn the_cost_of_a_map_never_overflows() {
    for kind in 0..40 {
        let huge = Map {
            kind,
            key_size: u32::MAX,
            value_size: u32::MAX,
            max_entries: u32::MAX,
            ..Map::default()
        };
        if let Some(bytes) = map_bytes(&huge, 8192) {
            assert!(bytes >= 4096, "{kind}");
        }
    }
}
