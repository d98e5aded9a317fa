//! Callbacks that call back.

use super::machine::{Guest, LOG};

/// The callbacks find the object at 0x7000, the ring at 0x7008, and write what they are answered to
/// 0x7010.
const REST: &str = r#"
(table (export "t") 8 8 funcref)
(elem (i32.const 1) $on_close $on_nested $on_forever $on_grow $on_reload $on_operate)
(func $object (result i64) (i64.load (i32.const 0x7000)))
(func $ring (result i32) (i32.load (i32.const 0x7008)))
(func $say (param i32) (i32.store (i32.const 0x7010) (local.get 0)))
(func $on_close (param i32 i32 i32) (result i32)
  (call $log (local.get 0) (local.get 1) (local.get 2))
  (call $say (call $close (call $object)))
  (i32.const 0))
(func $on_nested (param i32 i32 i32) (result i32)
  (call $log (local.get 0) (local.get 1) (local.get 2))
  (if (i32.eqz (local.get 0))
    (then (call $say (call $poll (call $object) (call $ring) (i32.const 2) (i32.const 1)
      (i32.const 2000) (i32.const 64) (i32.const 0)))))
  (i32.const 0))
(func $on_forever (param i32 i32 i32) (result i32)
  (local $answer i32)
  (call $log (local.get 0) (local.get 1) (local.get 2))
  (local.set $answer (call $poll (call $object) (call $ring) (i32.const 3)
    (i32.add (local.get 0) (i32.const 1)) (i32.const 1000) (i32.const 64) (i32.const 0)))
  (local.get $answer))
(func $on_grow (param i32 i32 i32) (result i32)
  (call $log (local.get 0) (local.get 1) (local.get 2))
  (drop (memory.grow (i32.const 1)))
  (i32.const 0))
(func $on_reload (param i32 i32 i32) (result i32)
  (call $log (local.get 0) (local.get 1) (local.get 2))
  (drop (call $close (call $object)))
  (i64.store (i32.const 0x7000) (call $load (i32.const 0) (i32.const 10)))
  (i32.const 0))
(func $on_operate (param i32 i32 i32) (result i32)
  (call $log (local.get 0) (local.get 1) (local.get 2))
  (call $operate (call $ring) (i32.const 9) (i32.const 0) (i32.const 0) (i32.const 0)
    (i64.const 0)))
"#;

fn ready(samples: &[u8]) -> (Guest, i64, i64) {
    let mut guest = Guest::new(&format!("{LOG}{REST}"));
    let object = guest.call("load", [0, 100]);
    let name = guest.put(100, b"ring\0");
    let ring = guest.call("map", [object, name]);
    guest.put(0x7000, &object.to_le_bytes());
    guest.put(0x7008, &ring.to_le_bytes());
    guest.asked();
    guest.fake.lock().unwrap().samples.extend(samples.iter().map(|it| vec![*it]));
    (guest, object, ring)
}

fn said(guest: &mut Guest) -> i32 {
    i32::from_le_bytes(guest.memory()[0x7010..0x7014].try_into().unwrap())
}

#[test]
fn a_callback_may_close_what_is_polled() {
    let (mut guest, object, ring) = ready(&[1, 2, 3]);
    guest.fake.lock().unwrap().batch = 2;
    assert_eq!(guest.call("poll", [object, ring, 1, 0, 1000, 64, -1]), 0);
    // The samples that waited are gone with it.
    assert_eq!(guest.log(), [[0, 1, 1]]);
    assert_eq!(said(&mut guest), 0);
    assert_eq!(guest.asked(), ["poll 64 -1".to_owned(), format!("close {object}")]);
    assert_eq!(guest.call("poll", [object, ring, 1, 0, 1000, 64, -1]), -9);
}

#[test]
fn a_callback_may_load_anew() {
    let (mut guest, object, ring) = ready(&[1, 2, 3]);
    assert_eq!(guest.call("poll", [object, ring, 5, 0, 1000, 64, -1]), 0);
    assert_eq!(guest.log(), [[0, 1, 1]]);
}

#[test]
fn a_callback_may_poll() {
    let (mut guest, object, ring) = ready(&[1, 2, 3]);
    assert_eq!(guest.call("poll", [object, ring, 2, 0, 1000, 64, -1]), 0);
    // The inner poll got what waited, and the outer one found nothing more.
    assert_eq!(guest.log(), [[0, 1, 1], [1, 1, 2], [1, 1, 3]]);
    assert_eq!(said(&mut guest), 0);
    assert_eq!(guest.asked(), ["poll 64 -1"]);
}

#[test]
fn polls_in_polls_are_bounded() {
    let (mut guest, object, ring) = ready(&[7; 100]);
    for _ in 0..2 {
        let answer = guest.call("poll", [object, ring, 3, 0, 1000, 64, -1]);
        assert_eq!(answer, -i64::from(libc::ELOOP));
    }
    let log = guest.log();
    assert_eq!(log.len(), 32);
    assert_eq!((log[15], log[16]), ([15, 1, 7], [0, 1, 7]));
}

#[test]
fn a_callback_may_let_the_memory_grow() {
    let (mut guest, object, ring) = ready(&[1, 2, 3]);
    let data = 65536 - 64;
    assert_eq!(guest.call("poll", [object, ring, 4, 0, data, 64, -1]), 0);
    assert_eq!(guest.log(), [[0, 1, 1], [0, 1, 2], [0, 1, 3]]);
    assert_eq!(guest.memory().len(), 4 * 65536);
    assert_eq!(guest.memory()[data as usize], 3);
}

#[test]
fn a_callback_may_use_maps() {
    let (mut guest, object, ring) = ready(&[1, 2]);
    assert_eq!(guest.call("poll", [object, ring, 6, 0, 1000, 64, -1]), -22);
    assert_eq!(guest.log(), [[0, 1, 1]]);
}
