//! Any bytes as a policy: loading ends with a policy or with findings that a person can use, and
//! a policy compiles to a table that says what the evaluator says.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wasi_guard_fuzz::{Size, names};
use wasi_guard_policy::evaluate::rights;
use wasi_guard_policy::{
    Addresses, Diagnostic, PathRule, Policy, Severity, Source, compile, load, render_all,
};

fuzz_target!(|data: &[u8]| {
    let source = Source::new("app.toml", data);
    match load(&source) {
        Ok((policy, warnings)) => {
            assert!(warnings.iter().all(|found| found.severity == Severity::Warning));
            check_findings(&warnings, &source);
            check_table(&policy, data);
        }
        Err(findings) => {
            assert!(findings.iter().any(|found| found.severity == Severity::Error));
            check_findings(&findings, &source);
        }
    }
});

/// Each finding is about a place in the text, and the text that shows it is fit for a terminal.
fn check_findings(findings: &[Diagnostic], source: &Source) {
    let lines: Vec<&[u8]> = source.bytes.split(|byte| *byte == b'\n').collect();
    for found in findings {
        assert!(found.span.start <= found.span.end && found.span.end <= source.bytes.len());
        assert!(found.line >= 1 && found.column >= 1, "{found:?}");
        let line = lines.get(found.line as usize - 1).expect("a line of the text");
        let columns = String::from_utf8_lossy(line).chars().count() + 1;
        assert!(found.column as usize <= columns, "{found:?} in a line of {columns} columns");
        assert!(!found.message.is_empty());
    }
    let shown = render_all(findings, source);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    assert_eq!(shown.is_empty(), findings.is_empty());
}

fn check_table(policy: &Policy, data: &[u8]) {
    if !size(policy).is_small() {
        return;
    }
    let addresses: Addresses =
        policy.host_names().into_iter().map(|name| (name.into(), Vec::new())).collect();
    let Ok(table) = compile(policy, &addresses) else { return };
    for text in texts(data) {
        let path = names(&text);
        // One more than there are.
        for preopen in 0..=policy.preopens.len() {
            let meant = rights(policy, preopen, &path);
            let packed = table.rights(preopen, &path);
            assert_eq!(
                (packed.rights, packed.deny_rule),
                (meant.rights, meant.deny_rule),
                "preopen {preopen}, {}",
                text.escape_ascii()
            );
        }
    }
}

fn size(policy: &Policy) -> Size {
    let lists = policy.preopens.iter().flat_map(|preopen| {
        [&preopen.read, &preopen.write, &preopen.create, &preopen.delete, &preopen.deny]
    });
    Size::of(lists.flatten().map(|rule: &PathRule| &rule.pattern))
}

/// What stands between quotes, as it is and with something in place of what is wild.
fn texts(data: &[u8]) -> Vec<Vec<u8>> {
    let pieces = data.split(|byte| matches!(byte, b'"' | b'\''));
    let pieces = pieces.filter(|piece| piece.len() <= 100).take(20);
    pieces
        .flat_map(|piece| {
            let tame = |byte: &u8| match byte {
                b'*' => b'a',
                b'?' => b'/',
                byte => *byte,
            };
            [piece.to_vec(), piece.iter().map(tame).collect()]
        })
        .collect()
}
