//! How much a guest has at once.

use wasi_guard_broker::broker::Event;
use wasi_guard_broker::check::Denied;
use wasi_guard_policy::bpf::{Bpf, ProgramKind, Refusal};
use wasi_guard_policy::pattern::Pattern;

use crate::compile;
use crate::worker::{Worker, policy};

/// Two programs, three maps.
fn objects_until(policy: Bpf, most: usize, refused: (&'static str, &str)) {
    let worker = Worker::new(policy);
    let bytes = compile::named("exec");
    for _ in 0..3 {
        let objects: Vec<_> = (0..most).map(|_| worker.loaded(&bytes)).collect();
        assert_eq!(worker.load(&bytes), Err(libc::EPERM), "{refused:?}");
        let (key, wanted) = refused;
        let refusal = Refusal { key, wanted: wanted.to_owned() };
        let denied = Denied::Policy { program: None, refusal };
        let event = Event::Denied { import: "wasm_load_bpf_object", denied, passed: false };
        assert_eq!(worker.events(), [event]);
        // One that goes makes room for one.
        worker.close(objects[0]).unwrap();
        let another = worker.loaded(&bytes);
        assert_eq!(worker.load(&bytes), Err(libc::EPERM), "{refused:?}");
        assert_eq!(worker.events().len(), 1);
        for object in objects.into_iter().skip(1).chain([another]) {
            worker.close(object).unwrap();
        }
    }
}

#[test]
fn programs() {
    objects_until(Bpf { max_programs: 6, ..policy() }, 3, ("max_programs", "8"));
    objects_until(Bpf { max_programs: 5, ..policy() }, 2, ("max_programs", "6"));
}

#[test]
fn maps() {
    objects_until(Bpf { max_maps: 6, ..policy() }, 2, ("max_maps", "9"));
    objects_until(Bpf { max_maps: 8, ..policy() }, 2, ("max_maps", "9"));
}

#[test]
fn bytes() {
    // 8192 entries of 80 bytes, a ring of 256 KiB, a variable of 8 bytes, and a page for each.
    let each = 8192 * 80 + (256 << 10) + 8 + 3 * 4096;
    let refused = (each * 3_u64).to_string();
    objects_until(Bpf { map_bytes: each * 2, ..policy() }, 2, ("map_bytes", &refused));
    objects_until(Bpf { map_bytes: each * 3 - 1, ..policy() }, 2, ("map_bytes", &refused));
}

/// What could not be loaded to its end counts for nothing.
#[test]
fn what_the_verifier_refuses() {
    let worker = Worker::new(Bpf { max_programs: 2, max_maps: 3, ..policy() });
    let bad = compile::of(
        "MAP(values, ARRAY, u32, u64, 1);
         SEC(\"raw_tracepoint/sys_enter\") int astray(u64 *context) {
             u32 key = 0; return *(u32 *)context[0] + (map_lookup(&values, &key) != 0);
         }",
    );
    for _ in 0..10 {
        assert_eq!(worker.load(&bad), Err(libc::EACCES));
    }
    worker.loaded(&compile::named("exec"));
}

/// Whatever the policy says.
#[test]
fn objects_and_attachments() {
    const MOST: usize = 256;
    let worker = Worker::new(Bpf {
        max_programs: 300,
        programs: [ProgramKind::PerfEvent].into(),
        perf_events: vec![Pattern::everything()],
        ..policy()
    });
    let bytes = compile::of("SEC(\"perf_event\") int tick(void *context) { return 0; }");
    let objects: Vec<_> = (0..MOST).map(|_| worker.loaded(&bytes)).collect();
    assert_eq!(worker.load(&bytes), Err(libc::EMFILE));
    assert!(worker.last_error().contains("no guest has more"), "{}", worker.last_error());
    worker.close(objects[0]).unwrap();
    worker.loaded(&bytes);
    for _ in 0..MOST {
        worker.attach(objects[1], "tick").unwrap();
    }
    assert_eq!(worker.attach(objects[2], "tick"), Err(libc::EMFILE));
    worker.close(objects[1]).unwrap();
    worker.attach(objects[2], "tick").unwrap();
}
