//! What the policy does not grant, and what the audit hears of it.

use std::fs::File;
use std::os::fd::OwnedFd;

use wasi_guard_broker::broker::{Event, Guest};
use wasi_guard_broker::check::Denied;
use wasi_guard_broker::protocol::{Bytes, Reply, Request, Target};
use wasi_guard_policy::bpf::{Bpf, ProgramKind, Refusal, Scope};
use wasi_guard_policy::pattern::Pattern;

use crate::compile;
use crate::worker::{Worker, policy};

const LOAD: &str = "wasm_load_bpf_object";
const ATTACH: &str = "wasm_attach_bpf_program";

fn denied(import: &'static str, program: &str, (key, wanted): (&'static str, &str)) -> Event {
    denied_or_passed(import, program, (key, wanted), false)
}

fn denied_or_passed(
    import: &'static str,
    program: &str,
    (key, wanted): (&'static str, &str),
    passed: bool,
) -> Event {
    let refusal = Refusal { key, wanted: wanted.to_owned() };
    let denied = Denied::Policy { program: Some(program.to_owned()), refusal };
    Event::Denied { import, denied, passed }
}

#[test]
fn kinds_of_programs() {
    for (policy, refusal) in [
        (Bpf { programs: [ProgramKind::Xdp].into(), ..policy() }, ("programs", "tracepoint")),
        (Bpf { scope: Scope::Guest, ..policy() }, ("scope", "host")),
    ] {
        let worker = Worker::new(policy);
        assert_eq!(worker.load(&compile::named("exec")), Err(libc::EPERM));
        assert_eq!(worker.events(), [denied(LOAD, "handle_exec", refusal)]);
        let why = worker.last_error();
        assert!(why.contains(refusal.0) && why.contains(refusal.1), "{why}");
    }
}

#[test]
fn helper_functions() {
    let packets = || Bpf { programs: [ProgramKind::Xdp].into(), ..policy() };
    let object = compile::of(
        "static long (*const adjust_head)(void *packet, int by) = (void *)44;
         SEC(\"xdp\") int pulls(void *packet) { adjust_head(packet, 0); return 2; }",
    );
    let worker = Worker::new(packets());
    assert_eq!(worker.load(&object), Err(libc::EPERM));
    let helper = ("helpers", "bpf_xdp_adjust_head");
    assert_eq!(worker.events(), [denied(LOAD, "pulls", helper)]);
    let worker = Worker::new(Bpf { helpers: [44].into(), ..packets() });
    worker.loaded(&object);
    assert_eq!(worker.events(), []);
}

#[test]
fn places() {
    let pattern = |text| vec![Pattern::parse(text).unwrap()];
    let worker = Worker::new(Bpf { tracepoints: pattern("sched/sched_process_exit"), ..policy() });
    let object = worker.loaded(&compile::named("exec"));
    assert_eq!(worker.attach(object, "handle_exec"), Err(libc::EPERM));
    let exec = ("tracepoints", "sched/sched_process_exec");
    assert_eq!(worker.events(), [denied(ATTACH, "handle_exec", exec)]);
    worker.attach(object, "handle_exit").unwrap();
    assert_eq!(worker.events(), []);
}

/// Without the right to read memory the verifier lets no pointer out of a program, whatever helper
/// functions it calls.
#[test]
fn the_scope_of_a_guest_reads_no_memory() {
    let skb = |scope| Bpf { scope, programs: [ProgramKind::CgroupSkb].into(), ..policy() };
    let object = compile::of(
        "MAP(values, ARRAY, u32, u64, 1);
         SEC(\"cgroup_skb/egress\") int tells(void *skb) {
             u32 key = 0;
             u64 *value = map_lookup(&values, &key);
             if (value)
                 *value = (u64)skb;
             return 1;
         }",
    );
    Worker::new(skb(Scope::Host)).loaded(&object);
    let worker = Worker::new(skb(Scope::Guest));
    assert_eq!(worker.load(&object), Err(libc::EACCES));
    assert!(worker.last_error().contains("leaks addr"), "{}", worker.last_error());
    // Only what leaks is refused, and a host's scope has the right as before.
    worker.loaded(&compile::of("SEC(\"cgroup_skb/egress\") int passes(void *skb) { return 1; }"));
    Worker::new(skb(Scope::Host)).loaded(&object);
}

/// What the policy answers does not depend on what there is on the host, and nothing but a regular
/// file is opened.
#[test]
fn files_of_uprobes() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    let object = compile::of("SEC(\"uprobe\") int probe(void *context) { return 0; }");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let library = paths.into_iter().find(|it| it.contains("/libc.")).unwrap();
    let uprobes = Bpf { programs: [ProgramKind::Uprobe].into(), ..policy() };
    let everywhere = wasi_guard_policy::bpf::Uprobe {
        path: Pattern::everything(),
        symbol: Pattern::everything(),
    };
    let granting = Worker::new(Bpf { uprobes: vec![everywhere], ..uprobes.clone() });
    let denying = Worker::new(uprobes);
    let fifo = format!("{}:x", fifo.display());
    let library = format!("{library}:chmod");
    for (name, answer) in [
        (library.as_str(), Ok(())),
        ("/nothing/there:x", Err(libc::ENOENT)),
        ("/dev/null:x", Err(libc::ENOENT)),
        ("/dev:x", Err(libc::ENOENT)),
        (&fifo, Err(libc::ENOENT)),
    ] {
        let target = || Target::Named(name.to_owned());
        let attached = |worker: &Worker| {
            let probe = worker.loaded(&object);
            let answer = worker.attach_to(probe, "probe", target());
            worker.close(probe).unwrap();
            answer
        };
        assert_eq!(attached(&granting), answer, "{name}");
        assert_eq!(granting.events(), []);
        assert_eq!(attached(&denying), Err(libc::EPERM), "{name}");
        assert_eq!(denying.events(), [denied(ATTACH, "probe", ("uprobes", name))]);
        assert_eq!(attached(&granting), answer, "{name}");
    }
}

/// A directory of the cgroup v2 hierarchy.
fn cgroup() -> OwnedFd {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found = mounts.find(|it| it[2] == "cgroup2").expect("cgroup v2 is mounted");
    File::open(found[1]).unwrap().into()
}

#[test]
fn cgroups_of_others_in_an_array() {
    let object = compile::of("MAP(groups, CGROUP_ARRAY, u32, u32, 1);");
    let put = |scope, audit| {
        let policy = Bpf { scope, ..policy() };
        let preopens = vec![Some(cgroup())];
        let worker = Worker::of(Guest { policy, audit, cgroup: None, preopens });
        let loaded = worker.loaded(&object);
        let map = worker.map(loaded, "groups");
        let key = Bytes::Inline(vec![0; 4]);
        let reply = worker.ask(&Request::SetCgroup { map, key, preopen: 0 });
        let Reply::Done(answer) = reply else { panic!("{reply:?}") };
        (answer, worker.events(), worker.delete(map, &[0; 4]))
    };
    let told = |passed| {
        let refusal = Refusal { key: "scope", wanted: "host".to_owned() };
        let denied = Denied::Policy { program: None, refusal };
        vec![Event::Denied { import: "wasm_bpf_map_operate", denied, passed }]
    };
    assert_eq!(put(Scope::Host, false), (Ok(()), Vec::new(), Ok(())));
    let nothing = Err(libc::ENOENT);
    assert_eq!(put(Scope::Guest, false), (Err(libc::EPERM), told(false), nothing));
    assert_eq!(put(Scope::Guest, true), (Ok(()), told(true), Ok(())));
    assert_eq!(put(Scope::Host, false), (Ok(()), Vec::new(), Ok(())));
}

#[test]
fn no_policy_grants_a_pin() {
    // Not even one whose refusals pass.
    for audit in [false, true] {
        let worker = Worker::with(policy(), audit);
        let object = compile::of(
            "struct {
                 NUMBER(type, ARRAY); NUMBER(max_entries, 1); NUMBER(pinning, 1);
                 TYPE(key, u32); TYPE(value, u32);
             } kept SEC(\".maps\");
             SEC(\"raw_tracepoint/sys_enter\") int use(void *context) {
                 u32 key = 0; return map_lookup(&kept, &key) != 0;
             }",
        );
        assert_eq!(worker.load(&object), Err(libc::EPERM));
        match &worker.events()[..] {
            [Event::Denied { import: LOAD, denied: Denied::Never { what, .. }, passed: false }] => {
                assert!(what.contains("kept"), "{what}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn audit_lets_pass_and_tells() {
    let policy = Bpf { scope: Scope::Host, max_maps: 1, ..Bpf::default() };
    let worker = Worker::with(policy, true);
    let object = worker.loaded(&compile::named("exec"));
    let events = worker.events();
    let passed = |program: &str, refusal| denied_or_passed(LOAD, program, refusal, true);
    for expected in [
        passed("handle_exec", ("programs", "tracepoint")),
        passed("handle_exit", ("programs", "tracepoint")),
        Event::Denied {
            import: LOAD,
            denied: Denied::Policy {
                program: None,
                refusal: Refusal { key: "max_maps", wanted: "3".to_owned() },
            },
            passed: true,
        },
    ] {
        assert!(events.contains(&expected), "{expected:?} is not in {events:?}");
    }
    assert!(events.iter().all(|event| matches!(event, Event::Denied { passed: true, .. })));
    worker.attach(object, "handle_exec").unwrap();
    let refusal = ("programs", "tracepoint");
    assert_eq!(worker.events(), [denied_or_passed(ATTACH, "handle_exec", refusal, true)]);
    // What is counted beyond the limit is given back as well.
    worker.close(object).unwrap();
    worker.loaded(&compile::named("exec"));
}
