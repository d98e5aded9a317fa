//! What people read about bad policies: each `golden/*.toml` with the text beside it.
//!
//! `UPDATE_GOLDEN=1` writes the texts anew; look at the difference before you commit it.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::path::{Path, PathBuf};

use wasi_guard_policy::{Addresses, Assertions, Source, load, render_all};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn rendered(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let source = Source::new(name, std::fs::read(path).unwrap());
    match load(&source) {
        Ok((policy, warnings)) => {
            format!("accepted: {} rules\n\n{}", policy.rules.len(), render_all(&warnings, &source))
        }
        Err(diagnostics) => format!("refused\n\n{}", render_all(&diagnostics, &source)),
    }
}

#[test]
fn every_policy_gives_the_text_beside_it() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut policies: Vec<PathBuf> = std::fs::read_dir(golden())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    policies.sort();
    assert!(policies.len() >= 10, "the golden policies are missing");
    let mut different = Vec::new();
    for path in policies {
        let text = rendered(&path);
        let expected = path.with_extension("txt");
        if update {
            std::fs::write(&expected, text).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            different.push(format!("{}:\n{text}", expected.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// The diagnostics come by position, errors and warnings alike.
#[test]
fn diagnostics_come_by_position() {
    for entry in std::fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let source = Source::new("golden", std::fs::read(&path).unwrap());
        let found = load(&source).map_or_else(|errors| errors, |(_, warnings)| warnings);
        assert!(found.is_sorted_by_key(|d| (d.line, d.column)), "{}", path.display());
    }
}

#[test]
fn the_sample_policies_are_accepted_without_warnings() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut count = 0;
    for entry in std::fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".toml") && !name.ends_with(".test.toml") {
            let source = Source::new(path.display().to_string(), std::fs::read(&path).unwrap());
            match load(&source) {
                Ok((_, warnings)) => assert_eq!(warnings, [], "{}", path.display()),
                Err(errors) => panic!("{}", render_all(&errors, &source)),
            }
            count += 1;
        }
    }
    assert!(count >= 3);
}

/// Each `NAME.test.toml` among the samples is about the sample `NAME.toml`, which answers as it
/// says.
#[test]
fn the_sample_policies_answer_as_their_assertions_say() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
    let mut count = 0;
    for entry in std::fs::read_dir(&samples).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(policy) = name.strip_suffix(".test.toml") else { continue };
        let source = Source::new(name.clone(), std::fs::read(&path).unwrap());
        let assertions = Assertions::load(&source).unwrap();
        assert_eq!(assertions.policy, Path::new(&format!("{policy}.toml")));
        let text = std::fs::read(samples.join(&assertions.policy)).unwrap();
        let policy = load(&Source::new("policy", text)).unwrap().0;
        let answers = assertions.answers(&source, &policy, &Addresses::new()).unwrap();
        for (assertion, answer) in assertions.list.iter().zip(answers) {
            assert_eq!(answer.verdict.allowed, assertion.allowed, "{name}: {assertion}: {answer}");
            count += 1;
        }
    }
    assert!(count >= 10);
}
