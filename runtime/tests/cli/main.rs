//! The command line from outside: what it prints and how it exits.
//!
//! Each `NAME.cmd` beside this file has one shell command a line; `NAME.out` is what they print.
//! They run in a fresh directory that holds the other files from here, `hello.wasm`, and `data/`.
//! `UPDATE_GOLDEN=1` writes the `.out` files anew; look at the difference before you commit it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod host;
mod made;
mod place;

use std::fs;
use std::path::{Path, PathBuf};

use place::{CASES, Place};

fn golden(name: &str) {
    let place = Place::new();
    let script = fs::read_to_string(case(name, "cmd")).unwrap();
    let found: String = script.lines().map(|line| place.transcript(line)).collect();
    let expected = case(name, "out");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&expected, &found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&expected).unwrap_or_default();
    assert!(
        found == expected,
        "{name}.out differs (UPDATE_GOLDEN=1 writes it anew):\n{}",
        difference(&expected, &found)
    );
}

fn case(name: &str, extension: &str) -> PathBuf {
    Path::new(CASES).join(name).with_extension(extension)
}

/// The first line that differs, with what comes before it.
fn difference(expected: &str, found: &str) -> String {
    let expected: Vec<&str> = expected.lines().collect();
    let found: Vec<&str> = found.lines().collect();
    let at = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let command = found.iter().take(at + 1).rfind(|line| line.starts_with("$ "));
    format!(
        "in {}\nexpected: {}\nfound:    {}",
        command.unwrap_or(&""),
        expected.get(at).unwrap_or(&"(the end)"),
        found.get(at).unwrap_or(&"(the end)")
    )
}

macro_rules! golden_tests {
    ($($name:ident)+) => {
        $( #[test] fn $name() { golden(stringify!($name)); } )+

        #[test]
        fn every_case_has_a_test() {
            let mut cases: Vec<String> = fs::read_dir(CASES)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|it| it == "cmd"))
                .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            cases.sort();
            let mut tests = vec![$(stringify!($name)),+];
            tests.sort_unstable();
            assert_eq!(cases, tests);
        }
    };
}

golden_tests! { bad_input cache check explain help module policy policy_reload policy_show policy_test usage }
