//! Samples on their way: callbacks, order, what stays.

use std::time::{Duration, Instant};

use super::machine::{Guest, LOG, text};

const PAGE: i64 = 65536;
const EBADF: i64 = -9;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;

/// Callbacks: 0 is null, 1 writes down, 2 has another type, 3 writes down and answers the sample's
/// first byte, 4 traps, 5 is a function of WASI's.
const REST: &str = r#"
(table 6 6 funcref)
(elem (i32.const 1) $one $other $first $trap $wasi)
(func $one (param i32 i32 i32) (result i32)
  (call $log (local.get 0) (local.get 1) (local.get 2)) (i32.const 0))
(func $other (param i32 i32) (result i32) (i32.const 0))
(func $first (param i32 i32 i32) (result i32)
  (call $log (local.get 0) (local.get 1) (local.get 2)) (i32.load8_s (local.get 1)))
(func $trap (param i32 i32 i32) (result i32) unreachable)
(func (export "go-callback") (param i32 i32 i32) (result i32)
  (call $first (i32.const -1) (local.get 1) (local.get 2)))
"#;
const TABLE: &str = r#"(export "__indirect_function_table" (table 0))"#;
const WASI: &str = r#"(import "wasi_snapshot_preview1" "path_unlink_file"
  (func $wasi (param i32 i32 i32) (result i32)))"#;

fn module(exports: &str) -> String {
    let rest = format!("(memory (export \"memory\") 1)\n{LOG}{REST}{exports}");
    text(&rest).replacen("(module", &format!("(module {WASI}"), 1)
}

fn loaded(mut guest: Guest) -> (Guest, i64, i64) {
    let object = guest.call("load", [0, 100]);
    let name = guest.put(60_000, b"ring\0");
    let ring = guest.call("map", [object, name]);
    assert!(object > 0 && ring > 0);
    guest.asked();
    (guest, object, ring)
}

fn ready() -> (Guest, i64, i64) {
    loaded(Guest::of(&module(TABLE), false))
}

fn come(guest: &Guest, samples: &[&[u8]]) {
    guest.fake.lock().unwrap().samples.extend(samples.iter().map(|it| it.to_vec()));
}

#[test]
fn every_sample_is_delivered_in_order() {
    let (mut guest, object, ring) = ready();
    come(&guest, &[&[1, 1], &[2], &[], &[3; 100]]);
    assert_eq!(guest.call("poll", [object, ring, 1, -5, 1000, 64, -1]), 0);
    // Of the empty one the first byte is that of the one before.
    assert_eq!(guest.log(), [[-5, 2, 1], [-5, 1, 2], [-5, 0, 2], [-5, 64, 3]]);
    assert_eq!(guest.memory()[1000..1065], [&[3; 64][..], &[0]].concat());
    assert_eq!(guest.asked(), ["poll 64 -1"]);
    assert_eq!(guest.call("poll", [object, ring, 1, 0, 1000, 64, 0]), 0);
    assert_eq!(guest.asked(), ["poll 64 0"]);
    assert_eq!(guest.log().len(), 4);
}

#[test]
fn what_did_not_fit_into_one_answer_comes_with_the_next() {
    let (mut guest, object, ring) = ready();
    guest.fake.lock().unwrap().batch = 2;
    come(&guest, &[&[1], &[2], &[3], &[4], &[5]]);
    assert_eq!(guest.call("poll", [object, ring, 1, 0, 1000, 64, 1000]), 0);
    assert_eq!(guest.log().iter().map(|it| it[2]).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(guest.asked(), ["poll 64 1000", "poll 64 0", "poll 64 0"]);
}

#[test]
fn a_callback_that_stops_leaves_the_rest_for_the_next_poll() {
    let (mut guest, object, ring) = ready();
    come(&guest, &[&[0], &[7], &[0xfd], &[0], &[9]]);
    let poll = [object, ring, 3, 0, 1000, 64, -1];
    assert_eq!(guest.call("poll", poll), 7);
    come(&guest, &[&[8]]);
    assert_eq!(guest.call("poll", poll), -3);
    assert_eq!(guest.call("poll", poll), 9);
    assert_eq!(guest.asked(), ["poll 64 -1"]);
    assert_eq!(guest.call("poll", poll), 8);
    let firsts: Vec<i32> = guest.log().iter().map(|it| it[2]).collect();
    assert_eq!(firsts, [0, 7, 0xfd, 0, 9, 8]);
}

#[test]
fn tinygo_s_form_calls_the_export() {
    let (mut guest, object, ring) = ready();
    come(&guest, &[&[0], &[6, 6], &[5]]);
    assert_eq!(guest.call("poll_go", [object, ring, 4, 1000, 64, -1]), 6);
    // It has no need of a table.
    let (mut guest, object, ring) = loaded(Guest::of(&module(""), false));
    come(&guest, &[&[6]]);
    assert_eq!(guest.call("poll_go", [object, ring, 4, 1000, 64, -1]), 6);
    assert_eq!(guest.log(), [[-1, 1, 6]]);
    for other in [
        "",
        r#"(func (export "go-callback"))"#,
        r#"(global (export "go-callback") i32 i32.const 1)"#,
    ] {
        let (mut guest, object, ring) = loaded(Guest::new(other));
        assert_eq!(guest.call("poll_go", [object, ring, 0, 0, 64, -1]), EINVAL, "{other}");
    }
}

#[test]
fn the_table_is_the_one_that_there_is() {
    let only = r#"(export "anything" (table 0))"#;
    let two = r#"(export "one" (table 0)) (table (export "two") 9 funcref)"#;
    let named = r#"(export "one" (table 0)) (export "__indirect_function_table" (table 0))"#;
    let no_table =
        r#"(global (export "__indirect_function_table") i32 i32.const 1) (export "a" (table 0))"#;
    let of_others = r#"(table (export "a") 9 externref)"#;
    for (exports, good) in [
        (only, true),
        (named, true),
        (no_table, true),
        (two, false),
        ("", false),
        (of_others, false),
    ] {
        let (mut guest, object, ring) = loaded(Guest::of(&module(exports), false));
        come(&guest, &[&[1]]);
        let answer = guest.call("poll", [object, ring, 1, 0, 1000, 64, -1]);
        assert_eq!(answer, if good { 0 } else { EINVAL }, "{exports}");
        assert_eq!(guest.log().len(), usize::from(good), "{exports}");
    }
}

#[test]
fn arguments_that_are_bent_are_errors_before_anything_is_asked() {
    let (mut guest, object, ring) = ready();
    come(&guest, &[&[1]]);
    for callback in [0, 2, 6, -1, i64::from(i32::MIN)] {
        let answer = guest.call("poll", [object, ring, callback, 0, 0, 64, -1]);
        assert_eq!(answer, EINVAL, "{callback}");
    }
    for size in [0, -1, i64::from(i32::MIN)] {
        assert_eq!(guest.call("poll", [object, ring, 1, 0, 0, size, -1]), EINVAL, "{size}");
        assert_eq!(guest.call("poll_go", [object, ring, 0, 0, size, -1]), EINVAL, "{size}");
    }
    for (data, size) in [
        (PAGE, 1),
        (PAGE - 1, 2),
        (0, PAGE + 1),
        (-1, 1),
        (-1, i64::from(i32::MAX)),
        (1, i64::from(i32::MAX)),
    ] {
        assert_eq!(guest.call("poll", [object, ring, 1, 0, data, size, -1]), EFAULT, "{data}");
        assert_eq!(guest.call("poll_go", [object, ring, 0, data, size, -1]), EFAULT, "{data}");
    }
    for (object, map) in [(0, ring), (-1, ring), (object, 0), (object, -1), (object, ring + 1)] {
        assert_eq!(guest.call("poll", [object, map, 1, 0, 0, 64, -1]), EBADF, "{object} {map}");
    }
    assert_eq!(guest.asked(), [""; 0]);
    assert_eq!(guest.call("poll", [object + 1, ring, 1, 0, 0, 64, -1]), EBADF);
    assert_eq!(guest.log(), [[0; 3]; 0]);
    // The last byte of the memory is as good as any.
    assert_eq!(guest.call("poll", [object, ring, 1, 0, PAGE - 1, 1, -1]), 0);
    assert_eq!(guest.log(), [[0, 1, 1]]);
}

#[test]
fn a_trap_in_the_callback_ends_the_guest() {
    let (mut guest, object, ring) = ready();
    come(&guest, &[&[1]]);
    let error = guest.try_call("poll", &[object, ring, 4, 0, 0, 64, -1]).unwrap_err();
    assert!(error.is::<wasmtime::Trap>(), "{error:?}");
}

#[test]
fn a_callback_of_wasi_s_own_is_no_way_in() {
    let (mut guest, object, ring) = ready();
    come(&guest, &[&[1]]);
    // It finds no memory of a guest.
    let error = guest.try_call("poll", &[object, ring, 5, 0, 0, 64, -1]).unwrap_err();
    assert!(format!("{error:?}").contains("memory"), "{error:?}");
}

#[test]
fn a_guest_with_a_time_limit_waits_in_slices() {
    let (mut guest, object, ring) = loaded(Guest::of(&module(TABLE), true));
    let start = Instant::now();
    assert_eq!(guest.call("poll", [object, ring, 1, 0, 0, 64, 120]), 0);
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
    let asked = guest.asked();
    assert!(asked.len() >= 3 && asked[0] == "poll 64 50", "{asked:?}");
    assert_eq!(guest.call("poll", [object, ring, 1, 0, 0, 64, 0]), 0);
    assert_eq!(guest.asked(), ["poll 64 0"]);
    // For ever is until the limit.
    let start = Instant::now();
    let limit = Duration::from_millis(130);
    assert!(guest.within(limit, "poll", &[object, ring, 1, 0, 0, 64, -1]).is_none());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    come(&guest, &[&[1]]);
    assert_eq!(guest.call("poll", [object, ring, 1, 0, 0, 64, -1]), 0);
    assert_eq!(guest.log().len(), 1);
}
