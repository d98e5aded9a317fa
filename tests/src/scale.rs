//! A policy of as many rules as one likes, and what Landlock can express of it.
//!
//! Four rules grant everything below one directory, where costs are measured. The others are about
//! single files ([`crate::single_files`]), and one in a hundred denies a pattern in any directory.

use std::{fs, io, path::Path};

use landlock::{
    ABI, Access as _, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus,
};

use crate::single_files;

/// The directory below which everything is granted, and one as long that no rule is about.
pub const GRANTED: &str = "place";
/// See [`GRANTED`].
pub const NOT_GRANTED: &str = "stone";

/// A policy of `rules` rules, at least 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// How many rules.
    pub rules: usize,
}

impl Scale {
    /// The sizes that benches measure.
    pub const EVERY: [Self; 4] =
        [Self { rules: 10 }, Self { rules: 100 }, Self { rules: 1_000 }, Self { rules: 10_000 }];

    fn denials(self) -> usize {
        (self.rules / 100).max(1)
    }

    /// The files that a rule each is about.
    fn files(self) -> Vec<String> {
        let mut files = single_files::files();
        files.truncate(self.rules - 4 - self.denials());
        files
    }

    /// The policy's text; its preopen is `host`.
    pub fn policy(self, host: &str) -> String {
        let list = |key: &str, entries: Vec<String>| {
            let entries: String =
                entries.iter().map(|entry| format!("    \"{entry}\",\n")).collect();
            format!("{key} = [\n{entries}]\n")
        };
        let place = || vec![format!("{GRANTED}/**")];
        [
            format!("version = 1\n[[preopen]]\nguest = \"/\"\nhost = \"{host}\"\n"),
            list("read", [place(), self.files()].concat()),
            list("write", place()),
            list("create", place()),
            list("delete", place()),
            list("deny", (0..self.denials()).map(|n| format!("**/*.private-{n}")).collect()),
        ]
        .concat()
    }

    /// Makes the files below `root`.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn prepare(self, root: &str) -> io::Result<()> {
        for file in self.files() {
            let path = Path::new(root).join(file);
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(path, "")?;
        }
        Ok(())
    }

    /// Restricts this process to what the policy grants below `root`: Landlock has no denials.
    ///
    /// # Errors
    /// If the kernel refuses, or enforces less than was asked for; as text.
    pub fn landlock(self, root: &str) -> Result<(), String> {
        let status = self.restrict(root).map_err(|error| error.to_string())?;
        match status {
            RulesetStatus::FullyEnforced => Ok(()),
            other => Err(format!("Landlock is {other:?}")),
        }
    }

    fn restrict(self, root: &str) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
        // Every right of Landlock's second version, which all our kernels have.
        let every = AccessFs::from_all(ABI::V2);
        let read = AccessFs::ReadFile;
        let mut ruleset = Ruleset::default().handle_access(every)?.create()?;
        ruleset =
            ruleset.add_rule(PathBeneath::new(PathFd::new(format!("{root}/{GRANTED}"))?, every))?;
        for file in self.files() {
            let file = PathFd::new(format!("{root}/{file}"))?;
            ruleset = ruleset.add_rule(PathBeneath::new(file, read))?;
        }
        let status = ruleset.restrict_self().map_err(|error: RulesetError| error)?;
        Ok(status.ruleset)
    }
}

#[cfg(test)]
mod tests {
    use wasi_guard_abi::operation::right::{DELETE, READ, STAT};
    use wasi_guard_policy::{Addresses, Source, compile, load};

    use super::*;

    #[test]
    fn a_scale_has_as_many_rules_as_it_says() {
        for scale in &Scale::EVERY[..3] {
            let (policy, warnings) = load(&Source::new("scale", scale.policy("root"))).unwrap();
            assert_eq!((policy.rules.len(), warnings), (scale.rules, vec![]));
            let table = compile(&policy, &Addresses::new()).unwrap();
            let rights = |path: &[&str]| {
                let path: Vec<&[u8]> = path.iter().map(|name| name.as_bytes()).collect();
                table.rights(0, &path)
            };
            assert_ne!(rights(&[GRANTED, "a", "x.bin"]).rights & DELETE, 0);
            assert_eq!(rights(&[NOT_GRANTED, "x.bin"]).rights & !STAT, 0);
            assert_eq!(rights(&[GRANTED, "x.private-0"]).rights, 0);
            let file = &scale.files()[0];
            let file: Vec<&str> = file.split('/').collect();
            assert_eq!(rights(&file).rights, READ | STAT);
        }
    }
}
