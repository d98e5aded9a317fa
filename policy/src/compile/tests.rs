//! What is too large for a table is refused with its size and the limit, and what just fits is
//! taken whole.

use wasi_guard_abi::table::{CHUNK_BYTES, MAX_CHUNKS, MAX_STATES};

use super::*;
use crate::model::Mode;

/// An automaton of so many states; every byte of `classes` leads somewhere else from state 1.
fn machine(automaton: Automaton, states: usize, classes: usize) -> Machine {
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
    Machine { automaton, class, classes, next, output: vec![0; states], starts: vec![0] }
}

fn packed(names: &Machine, verdicts: &[Vec<Verdict>], tree: &Machine) -> Result<Table, String> {
    let preopens = verdicts.first().map_or(1, Vec::len);
    pack::pack(Mode::Enforce, preopens, names, verdicts, tree, &[]).map_err(|e| e.to_string())
}

fn nothing() -> Vec<Vec<Verdict>> {
    vec![vec![Verdict::default()]]
}

#[test]
fn states() {
    let small = |automaton| machine(automaton, 1, 1);
    let full = |automaton| machine(automaton, MAX_STATES, 1);
    let over = |automaton| machine(automaton, MAX_STATES + 1, 1);
    let table =
        packed(&full(Automaton::Names), &nothing(), &full(Automaton::Tree)).unwrap().stats();
    assert_eq!((table.names_states, table.tree_states), (MAX_STATES, MAX_STATES));
    for (names, tree, word) in [
        (over(Automaton::Names), small(Automaton::Tree), "names"),
        (small(Automaton::Names), over(Automaton::Tree), "tree"),
    ] {
        let error = packed(&names, &nothing(), &tree).unwrap_err();
        let wanted = format!("the {word} automaton has 65536 states; a table holds 65535. ");
        assert!(error.starts_with(&wanted), "{error}");
    }
}

#[test]
fn chunks() {
    let tree = machine(Automaton::Tree, 1, 1);
    // 256 classes and one preopen: rows of a KiB, 16 in a chunk.
    let names = |chunks: usize| machine(Automaton::Names, 16 * chunks, 256);
    // Beside the rows there are three chunks: header, tree and verdicts.
    let table = packed(&names(MAX_CHUNKS - 3), &nothing(), &tree).unwrap();
    assert_eq!(table.bytes().len(), MAX_CHUNKS * CHUNK_BYTES);
    let error = packed(&names(MAX_CHUNKS - 2), &nothing(), &tree).unwrap_err();
    let (bytes, limit) = ((MAX_CHUNKS + 1) * CHUNK_BYTES, MAX_CHUNKS * CHUNK_BYTES);
    assert_eq!(
        error,
        format!("the table has {bytes} bytes; it may have {limit}. Use fewer, wider patterns")
    );
}

#[test]
fn verdicts() {
    let tree = machine(Automaton::Tree, 1, 1);
    // 64 preopens, each denied by a rule of its own in every state.
    let rows = |states: u32| -> Vec<Vec<Verdict>> {
        let verdict = |rule| Verdict { deny_rule: rule, ..Verdict::default() };
        (0..states).map(|state| (0..64).map(|it| verdict(64 * state + it)).collect()).collect()
    };
    let names = |states: u32| {
        let output = (0..states).collect();
        Machine { output, ..machine(Automaton::Names, states as usize, 1) }
    };
    let table = packed(&names(1024), &rows(1024), &tree).unwrap();
    assert_eq!(table.stats().verdicts, 65_536);
    let error = packed(&names(1025), &rows(1025), &tree).unwrap_err();
    assert!(error.starts_with("65600 different verdicts; a table holds 65536. "), "{error}");
}
