//! Preopens that are single files.
//!
//! Only the host tells whether a preopen's `host` is a directory or a file, so a policy is read
//! as if all were directories, and [`Policy::with_files`] makes of it what it means. WASI knows
//! directories only: the guest gets a directory of the parent's name that holds nothing but these
//! files, a preopen of its own ([`PreopenKind::Holder`]).

use std::path::PathBuf;

use crate::guest_path::names;
use crate::model::{Origin, PathRule, Policy, Preopen, PreopenKind, Rule, RuleKind, RuleNumber};
use crate::pattern::Pattern;

/// Why a preopen cannot be a single file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A rule of it could only be about names below.
    #[error("{rule} can never match: \"{guest}\" is a single file, which `.` and `**` stand for")]
    Below {
        /// The rule.
        rule: Box<Rule>,
        /// The preopen.
        guest: String,
    },
    /// A rule of it grants what nobody has on a preopen itself.
    #[error("{rule} can never match: no guest may {} the single file \"{guest}\"", rule.kind)]
    Itself {
        /// The rule.
        rule: Box<Rule>,
        /// The preopen.
        guest: String,
    },
    /// Its guest path does not name a file.
    #[error("\"{guest}\"{} is no path of a file", at(*.line))]
    Name {
        /// The preopen.
        guest: String,
        /// Its line.
        line: Option<u32>,
    },
    /// The directory that it would be in is another preopen.
    #[error(
        "the single file \"{guest}\"{} would be in \"{other}\", which is a preopen itself; the guest has one directory of a name",
        at(*.line)
    )]
    Taken {
        /// The preopen.
        guest: String,
        /// Its line.
        line: Option<u32>,
        /// The other one.
        other: String,
    },
}

fn at(line: Option<u32>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

impl Policy {
    /// The policy as it is if the preopens `files` (by their index) are single files: patterns that
    /// match the preopen itself are about the file, and a [`PreopenKind::Holder`] for each of their
    /// directories follows the other preopens.
    ///
    /// # Errors
    /// All that stands against it.
    pub fn with_files(mut self, files: &[usize]) -> Result<Self, Vec<FileError>> {
        let mut errors = Vec::new();
        let mut holders: Vec<(String, String)> = Vec::new();
        for index in files {
            let Some(preopen) = self.preopens.get(*index) else { continue };
            errors.extend(self.rules_beside(*index, preopen));
            match self.holder(preopen) {
                Err(error) => errors.push(error),
                Ok(guest) => {
                    let same = |holder: &(String, String)| {
                        names(holder.0.as_bytes()) == names(guest.as_bytes())
                    };
                    if !holders.iter().any(same) {
                        holders.push((guest, preopen.guest.clone()));
                    }
                }
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        for index in files {
            let Some(preopen) = self.preopens.get_mut(*index) else { continue };
            preopen.kind = PreopenKind::File;
            for rule in preopen.read.iter_mut().chain(&mut preopen.write).chain(&mut preopen.deny) {
                rule.pattern = rule.pattern.clone().only_root();
            }
        }
        for (guest, file) in holders {
            self.add_holder(guest, &file);
        }
        Ok(self)
    }

    /// The rules of a single file that are not about it.
    fn rules_beside(&self, index: usize, preopen: &Preopen) -> Vec<FileError> {
        let guest = || preopen.guest.clone();
        let own = self.rules.iter().filter(|rule| rule.preopen == Some(index));
        own.filter_map(|rule| match rule.kind {
            RuleKind::Create | RuleKind::Delete => {
                Some(FileError::Itself { rule: Box::new(rule.clone()), guest: guest() })
            }
            _ if preopen.matches_root(rule.number) => None,
            _ => Some(FileError::Below { rule: Box::new(rule.clone()), guest: guest() }),
        })
        .collect()
    }

    /// The guest's name for the directory of a single file.
    fn holder(&self, preopen: &Preopen) -> Result<String, FileError> {
        let (guest, line) = (preopen.guest.clone(), preopen.line);
        let path = names(guest.as_bytes());
        let written = guest.trim_end_matches('/');
        let good = !path.is_empty()
            && written.len() == guest.len()
            && written.rsplit('/').next() != Some(".")
            && !path.contains(&&b".."[..]);
        let Some((_, parent)) = path.split_last().filter(|_| good) else {
            return Err(FileError::Name { guest, line });
        };
        // Two preopens of one name are refused before, so another one here is not this.
        let taken = |other: &&Preopen| names(other.guest.as_bytes()) == parent;
        if let Some(other) = self.preopens.iter().find(taken) {
            let other = other.guest.clone();
            return Err(FileError::Taken { guest, line, other });
        }
        let above = written.rsplit_once('/').map(|(above, _)| above.trim_end_matches('/'));
        Ok(match above {
            None => ".".into(),
            Some("") => "/".into(),
            Some(above) => above.into(),
        })
    }

    /// The single files in a holder: the index and the name of each.
    pub fn held_by(&self, holder: &Preopen) -> Vec<(usize, Vec<u8>)> {
        let directory = names(holder.guest.as_bytes());
        let files = self.preopens.iter().enumerate().filter(|(_, it)| it.kind == PreopenKind::File);
        files
            .filter_map(|(index, preopen)| {
                let path = names(preopen.guest.as_bytes());
                let (name, above) = path.split_last()?;
                (above == directory).then(|| (index, name.to_vec()))
            })
            .collect()
    }

    fn add_holder(&mut self, guest: String, file: &str) {
        let number = RuleNumber::try_from(self.rules.len() + 1).unwrap_or(RuleNumber::MAX);
        let pattern = Pattern::root();
        self.rules.push(Rule {
            number,
            kind: RuleKind::Read,
            preopen: Some(self.preopens.len()),
            text: pattern.text().into(),
            origin: Origin::Implied(format!("the directory of {file}")),
        });
        self.preopens.push(Preopen {
            guest,
            host: PathBuf::new(),
            kind: PreopenKind::Holder,
            read: vec![PathRule { number, pattern }],
            write: Vec::new(),
            create: Vec::new(),
            delete: Vec::new(),
            deny: Vec::new(),
            line: None,
        });
    }
}

impl Preopen {
    fn matches_root(&self, number: RuleNumber) -> bool {
        let lists = [&self.read, &self.write, &self.deny];
        let mut rules = lists.into_iter().flatten();
        rules.any(|rule| rule.number == number && rule.pattern.matches_root())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attempt, Place, Source, compile, evaluate, load};
    use wasi_guard_abi::operation::right::{READ, STAT, WRITE};

    fn policy(preopens: &[(&str, &str)]) -> Policy {
        let mut text = String::from("version = 1\n");
        for (guest, rules) in preopens {
            text += &format!(
                "[[preopen]]\nguest = \"{guest}\"\nhost = \"host{}\"\n{rules}\n",
                text.len()
            );
        }
        load(&Source::new("p.toml", text)).unwrap().0
    }

    fn refused(preopens: &[(&str, &str)], files: &[usize]) -> Vec<String> {
        let errors = policy(preopens).with_files(files).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_has_what_its_own_rules_say_and_its_directory_can_be_listed() {
        let policy = policy(&[
            ("/etc/app.conf", "read = [\"**\"]"),
            ("/data", "read = [\"**\"]"),
            ("/etc/state", "read = [\".\"]\nwrite = [\"{.,**}\"]"),
        ]);
        let policy = policy.with_files(&[0, 2]).unwrap();
        let holder = &policy.preopens[3];
        assert_eq!((holder.guest.as_str(), holder.kind), ("/etc", PreopenKind::Holder));
        assert_eq!(policy.preopens.len(), 4, "one directory for both");
        let table = compile(&policy, &Default::default()).unwrap();
        assert_eq!(table.rights(0, &[]).rights, READ | STAT);
        assert_eq!(table.rights(0, &[b"below"]).rights, 0);
        assert_eq!(table.rights(2, &[]).rights, READ | WRITE | STAT);
        assert_eq!(table.rights(3, &[]).rights, READ | STAT);
        assert_eq!(table.rights(3, &[b"app.conf"]).rights, 0);
        for (path, allowed) in
            [("/etc/app.conf", true), ("/etc", true), ("/etc/passwd", false), ("/", false)]
        {
            let path = policy.locate(path.as_bytes()).unwrap();
            let attempt = Attempt::Open { path, read: true, write: false, truncate: false };
            assert_eq!(evaluate(&policy, &attempt).allowed, allowed, "{attempt:?}");
        }
        let rule = policy.rules.last().unwrap();
        assert_eq!(rule.to_string(), "read \".\" (the directory of /etc/app.conf)");
        assert_eq!(policy.locate(b"/etc/state"), Ok(Place::under(2, "")));
    }

    #[test]
    fn a_deny_rule_below_a_file_is_refused_and_none_below_a_directory() {
        let policy = policy(&[("/a", "read = [\".\"]\nwrite = [\".\"]\ndeny = [\"x\"]")]);
        assert_eq!(policy.clone().with_files(&[0]).unwrap_err().len(), 1, "below a file");
        let directory = policy.with_files(&[]).unwrap();
        assert_eq!(directory.preopens.len(), 1, "no holder without a file");
    }

    #[test]
    fn rules_about_names_below_a_file_are_refused_with_their_line() {
        let rules = "read = [\".\", \"x\", \"*/**\"]\nwrite = [\"**\"]\ncreate = [\"**\"]\n\
                     delete = [\"x\"]";
        assert_eq!(
            refused(&[("/etc/app.conf", rules)], &[0]),
            [
                "read \"x\" (line 5) can never match: \"/etc/app.conf\" is a single file, which `.` and `**` stand for",
                "read \"*/**\" (line 5) can never match: \"/etc/app.conf\" is a single file, which `.` and `**` stand for",
                "create \"**\" (line 7) can never match: no guest may create the single file \"/etc/app.conf\"",
                "delete \"x\" (line 8) can never match: no guest may delete the single file \"/etc/app.conf\"",
            ]
        );
    }

    #[test]
    fn a_directory_that_is_a_preopen_itself_holds_no_single_file() {
        let read = "read = [\"**\"]";
        for (one, other) in
            [("/data", "/data/f"), ("data", "/./data//f"), ("/", "/f"), (".", "f"), ("/", "f")]
        {
            let text = refused(&[(one, read), (other, read)], &[1]);
            assert_eq!(
                text,
                [format!(
                    "the single file \"{other}\" (line 6) would be in \"{one}\", which is a preopen itself; the guest has one directory of a name"
                )]
            );
        }
        // A file below a file.
        assert_eq!(refused(&[("/a", read), ("/a/b", read)], &[0, 1]).len(), 1);
        // Beside a directory, and above one.
        let good = policy(&[("/etc/ssl", read), ("/etc/f", read), ("g", read), ("/h", read)]);
        let guests: Vec<String> = good
            .with_files(&[1, 2, 3])
            .unwrap()
            .preopens
            .iter()
            .map(|preopen| preopen.guest.clone())
            .collect();
        assert_eq!(guests[4..], ["/etc", "."], "{guests:?}");
    }

    #[test]
    fn a_path_without_a_file_name_is_refused() {
        for guest in ["/", ".", "/etc/app.conf/", "/etc/."] {
            let text = refused(&[(guest, "read = [\"**\"]")], &[0]);
            assert_eq!(text, [format!("\"{guest}\" (line 2) is no path of a file")]);
        }
    }
}
