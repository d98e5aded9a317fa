//! What the policy does not grant, and what the audit hears of it.

use wasi_guard_broker::broker::Event;
use wasi_guard_broker::check::Denied;
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
