//! A large policy: 10,000 rules about one file each, and 100 patterns.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::random::Random;

/// Rules about one file.
pub const FILES: usize = 10_000;
/// Rules with a pattern.
pub const PATTERNS: usize = 100;

/// Names of files as a tree of sources has them: words of some syllables, directories of
/// different depth, a few endings. The same on each call.
pub fn files() -> Vec<String> {
    let mut random = Random::new(1);
    let directories: Vec<String> = (0..400)
        .map(|_| {
            let depth = 1 + random.below(4);
            (0..depth).map(|_| word(&mut random, 1, 3)).collect::<Vec<_>>().join("/")
        })
        .collect();
    let endings = ["rs", "txt", "json", "md", "toml"];
    let mut files = BTreeSet::new();
    while files.len() < FILES {
        let directory = random.pick(&directories).clone();
        let name = word(&mut random, 2, 4);
        files.insert(format!("{directory}/{name}.{}", random.pick(&endings)));
    }
    files.into_iter().collect()
}

fn word(random: &mut Random, least: usize, most: usize) -> String {
    let syllables = least + random.below(most - least + 1);
    (0..syllables)
        .flat_map(|_| [*random.pick(b"bcdfglmnprst"), *random.pick(b"aeiou")])
        .map(char::from)
        .collect()
}

/// The text of the policy: every file in one of the granting lists, patterns in each, the half of
/// them denying in any directory.
pub fn policy() -> String {
    let files = files();
    let mut text = String::from("version = 1\n[[preopen]]\nguest = \"/\"\nhost = \"host\"\n");
    let globs = PATTERNS / 2 / 4;
    for (list, key) in ["read", "write", "create", "delete"].into_iter().enumerate() {
        let _ = writeln!(text, "{key} = [");
        // Most files are only read.
        let own = |at: usize| at % 10 == list || (list == 0 && at % 10 > 3);
        for (_, file) in files.iter().enumerate().filter(|(at, _)| own(*at)) {
            let _ = writeln!(text, "    \"{file}\",");
        }
        let rest = if list == 0 { PATTERNS / 2 % 4 } else { 0 };
        for n in 0..globs + rest {
            let _ = writeln!(text, "    \"work-{key}/*/job-{n}/**\",");
        }
        text.push_str("]\n");
    }
    text.push_str("deny = [\n");
    for n in 0..PATTERNS / 2 {
        let _ = writeln!(text, "    \"**/*.private-{n}\",");
    }
    text.push_str("]\n");
    text
}

/// The text of a policy that denies every file instead, and what the patterns match.
pub fn denials() -> String {
    let mut text = String::from("version = 1\n[[preopen]]\nguest = \"/\"\nhost = \"host\"\n");
    text.push_str("read = [\"**\"]\ndeny = [\n");
    for file in files() {
        let _ = writeln!(text, "    \"{file}\",");
    }
    for n in 0..PATTERNS {
        let _ = writeln!(text, "    \"**/*.private-{n}\",");
    }
    text.push_str("]\n");
    text
}

#[cfg(test)]
mod tests {
    use wasi_guard_policy::evaluate::rights;
    use wasi_guard_policy::{Addresses, Source, compile, load};

    use super::*;

    /// Names that a rule is about, their neighbours and what lies below and above them.
    fn names() -> Vec<String> {
        let mut names: Vec<String> =
            ["work-read/a/job-1/b", "work-read/job-1/b", "work-write/a/job-1"]
                .map(str::to_owned)
                .into();
        for file in files().iter().step_by(97) {
            names.push(file.clone());
            names.push(format!("{file}x"));
            names.push(format!("{file}/below"));
            names.push(format!("{file}.private-7"));
            names.push(format!("x.private-49/{file}"));
            names.extend(file.rsplit_once('/').map(|(directory, _)| directory.to_owned()));
        }
        names
    }

    #[test]
    fn the_table_says_of_every_kind_of_name_what_the_evaluator_says() {
        for (text, more, kinds) in [(policy(), 0, 6), (denials(), 1, 50)] {
            let (policy, warnings) = load(&Source::new("files", text)).unwrap();
            assert_eq!((policy.rules.len() - more, warnings), (FILES + PATTERNS, vec![]));
            let table = compile(&policy, &Addresses::new()).unwrap();
            let mut different = BTreeSet::new();
            for name in names() {
                let path: Vec<&[u8]> = name.split('/').map(str::as_bytes).collect();
                let (meant, found) = (rights(&policy, 0, &path), table.rights(0, &path));
                assert_eq!(
                    (found.rights, found.deny_rule),
                    (meant.rights, meant.deny_rule),
                    "{name}"
                );
                different.insert((meant.rights, meant.deny_rule));
            }
            assert!(different.len() > kinds, "{different:?}");
        }
    }
}
