//! What is too large for a table is refused with its size and the limit, and what just fits is
//! taken whole.

use wasi_guard_abi::table::{CHUNK_BYTES, EXTRA_COLUMNS, Header, MAX_CHUNKS, MAX_STATES};

use super::*;
use crate::model::Mode;

/// An automaton of so many states; every byte of `classes` leads somewhere else from state 1.
fn machine(states: usize, classes: usize) -> Machine {
    let mut class = [0; 256];
    for (byte, class) in class.iter_mut().enumerate() {
        *class = byte.min(classes - 1) as u8;
    }
    let mut next = vec![0; states * classes];
    if states > 1 {
        for (at, next) in next[classes..2 * classes].iter_mut().enumerate() {
            *next = (at % states) as u32;
        }
    }
    let (named, words) = (Vec::new(), Vec::new());
    Machine { class, classes, next, output: vec![0; states], starts: vec![0], named, words }
}

fn packed(machine: &Machine, verdicts: &[Verdict]) -> Result<Table, String> {
    pack::pack(Mode::Enforce, machine, verdicts, &[]).map_err(|e| e.to_string())
}

#[test]
fn states() {
    let table = packed(&machine(MAX_STATES, 1), &[Verdict::default()]).unwrap().stats();
    assert_eq!(table.states, MAX_STATES);
    let error = packed(&machine(MAX_STATES + 1, 1), &[Verdict::default()]).unwrap_err();
    assert!(error.starts_with("the automaton has 65536 states; a table holds 65535. "), "{error}");
}

#[test]
fn chunks() {
    let row = 2 * (256 + EXTRA_COLUMNS);
    // Behind the rows there is one verdict.
    let room = MAX_CHUNKS * CHUNK_BYTES - size_of::<Header>() - size_of::<Verdict>();
    let most = room / row;
    assert!(most > MAX_STATES, "no table of {MAX_STATES} states is too large");
    // So only names can make it so: each takes two slots of 16 bytes and its own 256 bytes.
    let with_names = |count: usize| {
        let mut machine = machine(MAX_STATES, 256);
        machine.words = (0..count).map(|n| format!("{n:0>255}").into_bytes()).collect();
        machine.named = (0..count as u32)
            .map(|word| machine::Named { from: 1, word, to: 1, anywhere: false })
            .collect();
        machine
    };
    assert!(packed(&with_names(50_000), &[Verdict::default()]).is_ok());
    let error = packed(&with_names(150_000), &[Verdict::default()]).unwrap_err();
    let limit = MAX_CHUNKS * CHUNK_BYTES;
    let size = error.strip_prefix("the table has ").unwrap();
    let (size, rest) = size.split_once(' ').unwrap();
    assert!((limit..2 * limit).contains(&size.parse::<usize>().unwrap()), "{error}");
    assert_eq!(rest, format!("bytes; it may have {limit}. Use fewer, wider patterns"));
}
