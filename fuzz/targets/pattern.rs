//! A pattern, NUL, a path: parser, evaluator, compiled table and the plain matcher of the tests
//! agree on whether the pattern matches.

#![no_main]

#[path = "../../policy/tests/naive/mod.rs"]
#[allow(dead_code, reason = "it also makes examples")]
mod naive;

use libfuzzer_sys::fuzz_target;
use wasi_guard_fuzz::{Size, names, policy};
use wasi_guard_policy::compile::CompileError;
use wasi_guard_policy::evaluate::rights;
use wasi_guard_policy::pattern::Pattern;
use wasi_guard_policy::{Addresses, RuleKind, compile};

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let Some(Ok(text)) = parts.next().map(std::str::from_utf8) else { return };
    let path = parts.next().unwrap_or_default();
    let pattern = match Pattern::parse(text) {
        Ok(pattern) => pattern,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    // The matchers try: a few `*` in a long name are enough for minutes.
    if !Size::of([&pattern]).is_small() || path.len() > 40 {
        return;
    }
    let everything = Pattern::everything();
    let granting = [(RuleKind::Read, &pattern)];
    let denying = [(RuleKind::Read, &everything), (RuleKind::Deny, &pattern)];
    let policy = policy(&[&granting, &denying]);
    let table = match compile(&policy, &Addresses::new()) {
        Ok(table) => table,
        // `*a` and twenty `?` need a million states, small as the pattern is.
        Err(CompileError::Determinize | CompileError::States { .. }) => return,
        Err(error) => panic!("two small preopens fit: {error}"),
    };
    let path = names(path);
    for length in 0..=path.len() {
        let path = &path[..length];
        let owned: Vec<Vec<u8>> = path.iter().map(|name| name.to_vec()).collect();
        for preopen in 0..2 {
            let (meant, packed) = (rights(&policy, preopen, path), table.rights(preopen, path));
            assert_eq!(
                (packed.rights, packed.deny_rule),
                (meant.rights, meant.deny_rule),
                "{text:?} {path:?}"
            );
        }
        let granted = rights(&policy, 0, path).granted.len() == 1;
        assert_eq!(granted, naive::matches(text, &owned), "{text:?} {path:?}");
        let denied = rights(&policy, 1, path).deny_rule != 0;
        assert_eq!(denied, naive::denies(text, &owned), "{text:?} {path:?}");
    }
});
