//! What is made from the definition of the command line: completions, man pages, version.

use std::fs;

use crate::place::Place;

const COMMANDS: [&str; 10] = [
    "run",
    "compile",
    "check",
    "explain",
    "policy",
    "doctor",
    "gc",
    "unload",
    "completions",
    "man",
];
/// Of `wasi-guard policy`.
const TOOLS: [&str; 3] = ["test", "show", "reload"];

#[test]
fn completions_of_every_shell_know_every_command() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = place.shell(&format!("wasi-guard completions {shell}"));
        assert!(output.status.success() && output.stderr.is_empty());
        let script = String::from_utf8(output.stdout).unwrap();
        for word in COMMANDS.into_iter().chain(TOOLS).chain(["audit-fd"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let output = place.shell("wasi-guard completions bash | bash -n");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn there_is_a_man_page_for_every_command() {
    let place = Place::new();
    let output = place.shell("mkdir man && wasi-guard man man");
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let mut pages: Vec<String> = fs::read_dir(place.path().join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    let mut expected: Vec<String> =
        COMMANDS.iter().map(|command| format!("wasi-guard-{command}.1")).collect();
    expected.extend(TOOLS.iter().map(|tool| format!("wasi-guard-policy-{tool}.1")));
    expected.push("wasi-guard.1".into());
    expected.sort();
    assert_eq!(pages, expected);
    for page in pages {
        let text = fs::read_to_string(place.path().join("man").join(&page)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn the_version_is_one_line() {
    let place = Place::new();
    for option in ["-V", "--version"] {
        let output = place.shell(&format!("wasi-guard {option}"));
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, concat!("wasi-guard ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}
