//! Any bytes as a record of the kernel: it is refused, or becomes one line of JSON that tells
//! every byte of its names.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use wasi_guard::fuzzing::audit_line;
use wasi_guard_abi::operation::Reason;
use wasi_guard_enforce::records::{Denial, Name, decode};
use wasi_guard_policy::{Policy, Source, load};

/// Preopens whose names differ in how a path continues them.
static FEW: LazyLock<Policy> = LazyLock::new(|| policy(10));
/// So many deny rules that the audit looks for the one that decided.
static MANY: LazyLock<Policy> = LazyLock::new(|| policy(1001));

fn policy(denials: usize) -> Policy {
    let deny: String = (0..denials).map(|n| format!("'s*e*cret{n}', ")).collect();
    let text = format!(
        "version = 1\n[[preopen]]\nguest = '/data'\nhost = '.'\nread = ['**']\ndeny = [{deny}]\n\
         [[preopen]]\nguest = '/'\nhost = '/'\nread = ['**']\n"
    );
    load(&Source::new("app.toml", text)).expect("a good policy").0
}

fuzz_target!(|data: &[u8]| {
    let Some(denial) = decode(data) else { return };
    check(&denial, &FEW);
    if denial.reason == Reason::Deny {
        check(&denial, &MANY);
    }
});

fn check(denial: &Denial, policy: &Policy) {
    let line = audit_line(denial, policy);
    let line = std::str::from_utf8(&line).expect("text").strip_suffix('\n').expect("a whole line");
    assert!(!line.chars().any(char::is_control), "{line:?}");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(line["operation"], denial.operation.name());
    assert_eq!(line["reason"], denial.reason.name());
    for (name, text, bytes) in denial.names.iter().zip([0, 1]).map(|(name, n)| {
        let key = ["path", "path2"][n];
        (name, &line[key], &line[format!("{key}_bytes")])
    }) {
        let text = text.as_str().expect("a path").as_bytes();
        let told = match bytes.as_str() {
            Some(digits) => {
                let pairs = digits.as_bytes().chunks(2).map(|pair| {
                    let pair = std::str::from_utf8(pair).expect("digits");
                    u8::from_str_radix(pair, 16).expect("digits")
                });
                pairs.collect()
            }
            None => text.to_vec(),
        };
        assert_eq!(told, path(name, denial.cut, policy));
    }
}

/// The guest's path, as docs/audit.md tells it.
fn path(name: &Name, cut: bool, policy: &Policy) -> Vec<u8> {
    let preopen = name.preopen.and_then(|index| policy.preopens.get(usize::from(index)));
    let guest = preopen.map_or("", |preopen| &preopen.guest);
    if name.path.is_empty() && !guest.is_empty() {
        return guest.into();
    }
    let slash = if guest.ends_with('/') { "" } else { "/" };
    let lost = if cut { "\u{2026}" } else { "" };
    [guest.as_bytes(), slash.as_bytes(), lost.as_bytes(), &name.path].concat()
}
