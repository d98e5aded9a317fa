//! The arguments of the `wasm_bpf` imports, against any memory: what is read or written is inside
//! it and of the size that the call needs, and nothing else changes.
//!
//! The input: a byte for the call, one for the width of its words, two for the size of keys, two
//! for that of values, five words of eight, a byte for how much is given to be put; what is given,
//! and the memory.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wasi_guard::fuzzing::{BpfArguments, BpfCall, bpf_arguments};

/// As docs/wasm-bpf.md has it.
const MAX_TEXT: usize = 4096;

fuzz_target!(|data: &[u8]| {
    let Some(([call, wide, key, key2, value, value2], rest)) = data.split_first_chunk() else {
        return;
    };
    let Some((words, rest)) = rest.split_first_chunk::<40>() else { return };
    let Some((given, rest)) = rest.split_first() else { return };
    let (given, before) = rest.split_at(usize::from(*given).min(rest.len()));
    let wide = wide % 2 == 1;
    let mut words = words.as_chunks::<8>().0.iter().map(|it| i64::from_le_bytes(*it));
    let words = [(); 5].map(|()| words.next().expect("five words"));
    let key = u32::from(u16::from_le_bytes([*key, *key2]));
    let value = u32::from(u16::from_le_bytes([*value, *value2]));
    let call = match call % 7 {
        0 => BpfCall::Object,
        1 => BpfCall::Name,
        2 => BpfCall::Target,
        3 => BpfCall::Preopen,
        4 => BpfCall::Operate(key, value),
        5 => BpfCall::Poll,
        _ => BpfCall::LastError,
    };
    let mut after = before.to_vec();
    match bpf_arguments(&mut after, call, words, wide, given) {
        Ok(arguments) => check(call, words, wide, given, &arguments, before, &after),
        Err(errno) => {
            assert!((1..4096).contains(&errno), "{errno}");
            assert_eq!(before, after);
        }
    }
});

fn check(
    call: BpfCall,
    words: [i64; 5],
    wide: bool,
    given: &[u8],
    arguments: &BpfArguments,
    before: &[u8],
    after: &[u8],
) {
    let pointer = |word: i64| if wide { word as usize } else { word as u32 as usize };
    let BpfArguments { reads, writes, text, number } = arguments;
    for place in reads.iter().chain(writes) {
        assert!(place.start <= place.end && place.end <= before.len(), "{place:?}");
    }
    if let Some(text) = text {
        assert!(text.len() <= MAX_TEXT && !text.contains('\0'));
        let start = pointer(words[0]);
        let end = start + text.len();
        assert_eq!((&before[start..end], before[end]), (text.as_bytes(), 0));
    }
    // Nothing changes but where it was said.
    let mut expected = after.to_vec();
    for place in writes {
        expected[place.clone()].copy_from_slice(&before[place.clone()]);
    }
    assert_eq!(expected, before);
    match call {
        BpfCall::Object => assert_eq!(reads[0].len(), pointer(words[1])),
        BpfCall::Name => assert!(text.is_some()),
        BpfCall::Target => assert_ne!(text.as_deref(), Some("")),
        BpfCall::Preopen => assert_eq!(number.is_some(), words[0] as i32 >= 0),
        BpfCall::Operate(key, value) => {
            let sizes = |places: &[std::ops::Range<usize>]| -> Vec<u32> {
                places.iter().map(|it| it.len() as u32).collect()
            };
            let (read, written) = (sizes(reads), sizes(writes));
            match words[0] {
                4 if words[1] == 0 => assert_eq!((read, written), (vec![], vec![key])),
                _ => match words[0] as i32 {
                    1 => assert_eq!((read, written), (vec![key], vec![value])),
                    2 => assert_eq!((read, written), (vec![key, value], vec![])),
                    3 => assert_eq!((read, written), (vec![key], vec![])),
                    4 => assert_eq!(written, [key]),
                    other => panic!("command {other}"),
                },
            }
        }
        BpfCall::Poll => {
            let (place, size) = (&writes[0], number.expect("a size") as usize);
            assert_eq!(size, given.len().min(place.len()));
            assert_eq!(after[place.start..place.start + size], given[..size]);
        }
        BpfCall::LastError => {
            let place = &after[writes[0].clone()];
            let text = String::from_utf8_lossy(given);
            assert_eq!(*number, Some(text.len() as u32));
            // What is there is the text's beginning, whole characters, with a NUL.
            if !place.is_empty() {
                let fits = text.floor_char_boundary(place.len() - 1);
                assert_eq!(place[..fits], text.as_bytes()[..fits]);
                assert_eq!(place[fits], 0);
            }
        }
    }
}
