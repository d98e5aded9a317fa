//! Whatever a guest says, in whatever order: nothing panics, nothing ends the guest, and no byte of
//! its memory changes but where the call says so.

use std::ops::Range;

use proptest::prelude::*;

use super::fake::MAPS;
use super::machine::{CALLS, Guest};

const PAGE: i64 = 65536;

/// Callbacks: null, goes on, stops, has another type, is beyond the end.
const REST: &str = r#"
(table (export "t") 4 4 funcref)
(elem (i32.const 1) $on $stop $other)
(func $on (param i32 i32 i32) (result i32) (i32.const 0))
(func $stop (param i32 i32 i32) (result i32) (i32.const 1))
(func $other)
(func (export "go-callback") (param i32 i32 i32) (result i32)
  (i32.load8_u (local.get 1)))
"#;

fn word() -> impl Strategy<Value = i64> {
    prop_oneof![
        // Objects, commands, callbacks, the names at the beginning of the memory.
        4 => 0..5i64,
        // Maps of the first objects.
        4 => (1..4i64, 0..4i64).prop_map(|(object, place)| object * 10 + place),
        2 => (0..4i64).prop_map(|place| place * 16),
        2 => 0..PAGE,
        2 => PAGE - 80..PAGE + 2,
        1 => -70..0i64,
        1 => Just(i64::from(i32::MIN)),
        1 => Just(i64::from(i32::MAX)),
        1 => (0..100i64).prop_map(|it| (1 << 32) + it),
        1 => any::<i64>(),
    ]
}

/// Where a call may write that answered `answer`.
fn writes(call: &str, words: &[i64], answer: i64) -> Range<usize> {
    let place =
        |at: i64, size: i64| if size == 0 { 0..0 } else { at as usize..(at + size) as usize };
    let unsigned = |word: i64| i64::from(word as u32);
    match call {
        "operate" | "operate64" | "operate65" if answer == 0 => {
            let pointer = |word: i64| if call == "operate" { unsigned(word) } else { word };
            let (_, _, key, value) = MAPS[words[0] as u32 as usize % 10];
            match words[1] as i32 {
                1 => place(pointer(words[3]), value.into()),
                4 => place(pointer(words[4]), key.into()),
                _ => 0..0,
            }
        }
        "poll" if answer >= 0 => place(unsigned(words[4]), unsigned(words[5])),
        "poll_go" if answer >= 0 => place(unsigned(words[3]), unsigned(words[4])),
        "last_error" if answer >= 0 => place(unsigned(words[0]), unsigned(words[1])),
        _ => 0..0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn calls_do_what_they_may(
        steps in prop::collection::vec((0..CALLS.len(), prop::array::uniform7(word())), 1..40),
        samples in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20),
        batch in 0..3usize,
    ) {
        let mut guest = Guest::new(REST);
        for (place, (name, ..)) in MAPS.iter().enumerate() {
            guest.put(place * 16, name.as_bytes());
        }
        prop_assert_eq!(guest.call("load", [0, 1]), 1);
        for place in 0..4 {
            prop_assert_eq!(guest.call("map", [1, place * 16]), 10 + place);
        }
        {
            let mut fake = guest.fake.lock().unwrap();
            fake.samples.extend(samples);
            fake.batch = batch;
        }
        for (call, words) in steps {
            let (name, _, _, parameters, _) = CALLS[call];
            let words = &words[..parameters.split(' ').count()];
            let before = guest.memory().to_vec();
            let answer = guest.try_call(name, words);
            prop_assert!(answer.is_ok(), "{} {:?}: {:?}", name, words, answer);
            let may = writes(name, words, answer.unwrap());
            let after = guest.memory();
            prop_assert!(
                after[..may.start] == before[..may.start] && after[may.end..] == before[may.end..],
                "{} {:?} wrote outside {:?}", name, words, may,
            );
        }
    }
}
