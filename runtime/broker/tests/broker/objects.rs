//! Objects from their load to their end.

use std::process::Command;

use wasi_guard_broker::protocol::{Bytes, MAX_INLINE, Reply, Request, Target, WINDOW};

use crate::compile;
use crate::worker::{Worker, policy};

#[test]
fn each_program_that_is_executed_is_told() {
    let worker = Worker::new(policy());
    let object = worker.loaded(&compile::named("exec"));
    worker.attach(object, "handle_exec").unwrap();
    worker.attach(object, "handle_exit").unwrap();
    let events = worker.map(object, "events");
    let mut child = Command::new("/bin/sh").args(["-c", "exit 3"]).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    // Others execute programs too.
    let mut ours = Vec::new();
    while ours.len() < 2 {
        let (samples, _) = worker.poll(object, events, 10_000).unwrap();
        assert!(!samples.is_empty(), "the end of the program was not told");
        let number =
            |sample: &[u8], at: usize| u32::from_ne_bytes(sample[at..at + 4].try_into().unwrap());
        for sample in samples.iter().filter(|sample| number(sample, 0) == pid) {
            assert_eq!(sample.len(), 32);
            ours.push((
                number(sample, 4),
                sample[16..].split(|it| *it == 0).next().unwrap() == b"sh",
            ));
        }
    }
    assert_eq!(ours, [(0, true), (3, true)]);
    // Its start was forgotten with it.
    let started = worker.map(object, "started");
    assert_eq!(worker.lookup(started, &pid.to_ne_bytes()), Err(libc::ENOENT));
    assert_eq!((worker.events(), worker.last_error()), (Vec::new(), String::new()));
}

#[test]
fn what_is_closed_is_no_more() {
    let worker = Worker::new(policy());
    let object = worker.loaded(&compile::named("exec"));
    let (events, started) = (worker.map(object, "events"), worker.map(object, "started"));
    worker.poll(object, events, 0).unwrap();
    worker.close(object).unwrap();
    assert_eq!(worker.close(object), Err(libc::EBADF));
    assert_eq!(worker.attach(object, "handle_exec"), Err(libc::EBADF));
    assert_eq!(worker.last_error(), format!("there is no object {object}"));
    assert_eq!(worker.shape(object, "events").unwrap_err(), libc::EBADF);
    assert_eq!(worker.poll(object, events, -1), Err(libc::EBADF));
    assert_eq!(worker.lost(object, events), Err(libc::EBADF));
    assert_eq!(worker.lookup(started, &[0; 4]), Err(libc::EBADF));
    assert_eq!(worker.update(started, &[0; 4], &[0; 8]), Err(libc::EBADF));
    assert_eq!(worker.delete(started, &[0; 4]), Err(libc::EBADF));
    assert_eq!(worker.next_key(started, None), Err(libc::EBADF));
    for none in [0, u64::MAX] {
        assert_eq!(worker.close(none), Err(libc::EBADF));
    }
    // Numbers are not given twice.
    let again = worker.loaded(&compile::named("exec"));
    assert!(again > object && worker.map(again, "events") > events.max(started));
}

#[test]
fn objects_with_the_same_names_are_two() {
    let worker = Worker::new(policy());
    let bytes = compile::named("exec");
    let (one, other) = (worker.loaded(&bytes), worker.loaded(&bytes));
    assert_ne!(one, other);
    let (its, others) = (worker.map(one, "started"), worker.map(other, "started"));
    assert_ne!(its, others);
    worker.update(its, &[1; 4], &[1; 8]).unwrap();
    assert_eq!(worker.lookup(others, &[1; 4]), Err(libc::ENOENT));
    worker.update(others, &[1; 4], &[2; 8]).unwrap();
    assert_eq!(worker.lookup(its, &[1; 4]).unwrap(), [1; 8]);
    // A buffer is polled as part of its own object only.
    let events = worker.map(other, "events");
    assert_eq!(worker.poll(one, events, -1), Err(libc::EBADF));
    assert_eq!(worker.lost(one, events), Err(libc::EBADF));
    assert!(worker.poll(other, events, 0).unwrap().0.is_empty());
    // What is closed takes nothing of the other along.
    worker.close(one).unwrap();
    assert_eq!(worker.lookup(others, &[1; 4]).unwrap(), [2; 8]);
    worker.attach(other, "handle_exec").unwrap();
}

#[test]
fn what_has_no_such_name_is_not_found() {
    let worker = Worker::new(policy());
    let object = worker.loaded(&compile::named("exec"));
    for name in ["", "Events", "events\0", "handle_exec"] {
        assert_eq!(worker.shape(object, name).unwrap_err(), libc::ENOENT, "{name:?}");
    }
    assert_eq!(worker.attach(object, "events"), Err(libc::ENOENT));
    assert_eq!(worker.last_error(), "the object has no program `events`");
    let preopen = worker.attach_to(object, "handle_exec", Target::Preopen(0));
    assert_eq!(preopen, Err(libc::EINVAL));
    let text = Target::Named("a\0b".to_owned());
    assert_eq!(worker.attach_to(object, "handle_exec", text), Err(libc::EINVAL));
    // A tracepoint is where its section says, whatever else is said.
    worker.attach_to(object, "handle_exec", Target::Named("elsewhere".to_owned())).unwrap();
    assert_eq!(worker.last_error(), "");
    // One program has one place there.
    assert_eq!(worker.attach(object, "handle_exec"), Err(libc::EEXIST));
}

#[test]
fn what_is_no_object_is_not_loaded() {
    let worker = Worker::new(policy());
    let bytes = compile::named("exec");
    for bad in [&b""[..], b"\x7fELF", &bytes[..bytes.len() / 2], &[0; 100_000]] {
        assert_eq!(worker.load(bad), Err(libc::EINVAL), "{} bytes", bad.len());
        assert_ne!(worker.last_error(), "");
    }
    // What the verifier refuses is told in its words.
    let endless = compile::of(
        "SEC(\"raw_tracepoint/sys_enter\") int astray(u64 *context) { return *(u32 *)context[0]; }",
    );
    assert_eq!(worker.load(&endless), Err(libc::EACCES));
    let why = worker.last_error();
    assert!(why.contains("\"astray\"") && why.contains("invalid mem access"), "{why}");
    // All that is not there costs nothing, and what is right is loaded.
    worker.loaded(&bytes);
    assert_eq!((worker.last_error(), worker.events()), (String::new(), Vec::new()));
}

#[test]
fn nothing_is_read_beyond_the_window() {
    let worker = Worker::new(policy());
    let object = worker.loaded(&compile::named("exec"));
    let map = worker.map(object, "started");
    for length in [WINDOW as u32 + 1, u32::MAX] {
        let bytes = || Bytes::Window(length);
        let refused = [
            (Request::Load(bytes()), Reply::Object(Err(libc::EINVAL))),
            (Request::Lookup { map, key: bytes(), flags: 0 }, Reply::Value(Err(libc::EINVAL))),
            (Request::Update { map, pair: bytes(), flags: 0 }, Reply::Done(Err(libc::EINVAL))),
            (Request::Delete { map, key: bytes() }, Reply::Done(Err(libc::EINVAL))),
            (Request::NextKey { map, key: Some(bytes()) }, Reply::Value(Err(libc::EINVAL))),
        ];
        for (request, reply) in refused {
            assert_eq!(worker.ask(&request), reply, "{request:?}");
        }
    }
    // All of it is a key too long, and no object.
    let all = Bytes::Window(WINDOW as u32);
    let lookup = Request::Lookup { map, key: all.clone(), flags: 0 };
    assert_eq!(worker.ask(&lookup), Reply::Value(Err(libc::EINVAL)));
    assert_eq!(worker.ask(&Request::Load(all)), Reply::Object(Err(libc::EINVAL)));
    // What is short may be in the window, and what is not may be in the message.
    worker.window.write(&[7; 12]).unwrap();
    let update = Request::Update { map, pair: Bytes::Window(12), flags: 0 };
    assert_eq!(worker.ask(&update), Reply::Done(Ok(())));
    assert_eq!(worker.lookup(map, &[7; 4]).unwrap(), [7; 8]);
    let long = Bytes::Inline(vec![0; MAX_INLINE + 1000]);
    let lookup = Request::Lookup { map, key: long, flags: 0 };
    assert_eq!(worker.ask(&lookup), Reply::Value(Err(libc::EINVAL)));
}
