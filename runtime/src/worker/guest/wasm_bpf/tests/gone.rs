//! A broker that is gone, or says what it should not.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};

use wasi_guard_broker::protocol::{Bytes, MapShape, Reply, Samples, WINDOW};
use wasi_guard_broker::window::Window;

use super::super::Broker;
use super::fake::Fake;
use super::machine::{Guest, text};
use crate::protocol::Channel;

const EIO: i64 = -5;
const REST: &str = r#"(memory (export "memory") 1)
    (table (export "t") 1 1 funcref) (elem (i32.const 0) $f)
    (func $f (param i32 i32 i32) (result i32) i32.const 0)
    (func (export "go-callback") (param i32 i32 i32) (result i32) i32.const 0)"#;

/// A guest with an object, its hash and its ring.
fn guest() -> (Guest, [i64; 3]) {
    let mut guest = Guest::of(&text(REST), false);
    let object = guest.call("load", [0, 100]);
    let [hash, ring] = ["hash\0", "ring\0"].map(|name| {
        let name = guest.put(100, name.as_bytes());
        guest.call("map", [object, name])
    });
    assert!(object > 0 && hash > 0 && ring > 0);
    (guest, [object, hash, ring])
}

/// Every call is answered as by a broker that is gone.
fn is_gone(guest: &mut Guest, [object, hash, ring]: [i64; 3]) {
    guest.asked();
    assert_eq!(guest.call("load", [0, 100]), 0);
    assert_eq!(guest.call("last_error", [0, 100]), EIO);
    assert_eq!(guest.call("attach", [object, 100, 0]), EIO);
    assert_eq!(guest.call("attach_fd", [object, 100, -1]), EIO);
    assert_eq!(guest.call("map", [object, 100]), EIO);
    for command in 1..=4 {
        assert_eq!(guest.call("operate", [hash, command, 8, 16, 32, 0]), EIO, "{command}");
        assert_eq!(guest.call("operate64", [hash, command, 8, 16, 32, 0]), EIO, "{command}");
    }
    assert_eq!(guest.call("poll", [object, ring, 0, 0, 0, 64, -1]), EIO);
    assert_eq!(guest.call("poll_go", [object, ring, 0, 0, 64, -1]), EIO);
    assert_eq!(guest.call("lost", [object, ring]), EIO);
    assert_eq!(guest.call("close", [object]), EIO);
    assert_eq!(guest.asked(), [""; 0]);
}

#[test]
fn a_broker_that_is_gone_is_an_error_of_every_call() {
    let (mut guest, handles) = guest();
    guest.fake.lock().unwrap().gone = true;
    is_gone(&mut guest, handles);
}

#[test]
fn a_broker_that_answers_another_question_is_not_asked_again() {
    for reply in [
        Reply::Done(Ok(())),
        Reply::Object(Ok(1)),
        Reply::Count(Ok(1)),
        Reply::Value(Ok(Bytes::Window(u32::MAX))),
        Reply::Samples(Ok(Samples { count: 0, bytes: Bytes::Inline(vec![]), more: false })),
    ] {
        let (mut guest, handles) = guest();
        guest.fake.lock().unwrap().next = Some(reply);
        assert_eq!(guest.call("operate", [handles[1], 1, 8, 16, 0, 0]), EIO);
        is_gone(&mut guest, handles);
    }
}

#[test]
fn answers_that_do_not_fit_are_errors_and_change_nothing() {
    let (mut guest, [object, hash, ring]) = guest();
    let before = guest.memory().to_vec();
    let next = |guest: &Guest, reply: Reply| {
        guest.fake.lock().unwrap().next = Some(reply);
    };
    for length in [0, 7, 9, 30_000] {
        next(&guest, Reply::Value(Ok(Bytes::Inline(vec![1; length]))));
        assert_eq!(guest.call("operate", [hash, 1, 8, 16, 0, 0]), EIO, "{length}");
    }
    for errno in [0, -1, i32::MIN, i32::MAX, 4096] {
        next(&guest, Reply::Value(Err(errno)));
        assert_eq!(guest.call("operate", [hash, 1, 8, 16, 0, 0]), EIO, "{errno}");
    }
    next(&guest, Reply::Value(Err(4095)));
    assert_eq!(guest.call("operate", [hash, 1, 8, 16, 0, 0]), -4095);
    for bytes in [vec![1], vec![1, 0, 0, 0], vec![255; 8], vec![0; 8]] {
        let samples = Samples { count: 1, bytes: Bytes::Inline(bytes), more: true };
        next(&guest, Reply::Samples(Ok(samples)));
        assert_eq!(guest.call("poll", [object, ring, 0, 0, 0, 64, 0]), EIO);
    }
    for handle in [0, u64::MAX, 1 << 63] {
        next(&guest, Reply::Object(Ok(handle)));
        assert_eq!(guest.call("load", [0, 1]), 0, "{handle}");
    }
    let shape = MapShape { handle: -1, kind: 1, key_size: 4, value_size: 4 };
    next(&guest, Reply::Map(Ok(shape)));
    assert_eq!(guest.call("map", [object, 100]), EIO);
    // A map whose sizes no memory has.
    let shape = MapShape { handle: 7, key_size: u32::MAX, value_size: u32::MAX, ..shape };
    next(&guest, Reply::Map(Ok(shape)));
    assert_eq!(guest.call("map", [object, 100]), 7);
    for command in 1..=4 {
        assert_eq!(guest.call("operate", [7, command, 8, 8, 8, 0]), -14, "{command}");
    }
    assert!(*guest.memory() == *before);
}

#[test]
fn a_value_larger_than_the_window_is_too_big() {
    let memory = r#"(memory (export "memory") 200)"#;
    let mut guest = Guest::of(&text(memory), false);
    let object = guest.call("load", [0, 100]);
    let shape = MapShape { handle: 7, kind: 2, key_size: 4, value_size: WINDOW as u32 };
    guest.fake.lock().unwrap().next = Some(Reply::Map(Ok(shape)));
    assert_eq!(guest.call("map", [object, 0]), 7);
    assert_eq!(guest.call("operate", [7, 2, 0, 0, 0, 0]), -7);
}

#[test]
fn a_window_that_cannot_be_written_is_an_error() {
    let (ours, _theirs) = Channel::pair().unwrap();
    let window = Window::create(10).unwrap();
    let smaller = Window::from_fd(window.as_fd().try_clone_to_owned().unwrap(), WINDOW);
    let broker = Broker::connected(ours, smaller, false);
    let mut guest = Guest::with(&text(REST), broker, Arc::new(Mutex::new(Fake::default())));
    assert_eq!(guest.call("load", [0, 40_000]), 0);
}
