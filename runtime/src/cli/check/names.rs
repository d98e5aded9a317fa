//! Names in rules that this host does not have.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use wasi_guard_policy::evaluate::names_creatable;
use wasi_guard_policy::{Diagnostic, PathRule, Policy, Preopen, Rule, RuleKind};

use super::super::PolicyFile;

/// Warnings about rules that name one file or directory which is not there and which the guest
/// may not make, or is a symbolic link. Preopens whose directory is missing are left out.
pub(super) fn warnings(file: &PolicyFile, policy: &Policy) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for preopen in &policy.preopens {
        let root = file.resolve(&preopen.host);
        if !root.symlink_metadata().is_ok_and(|root| root.is_dir()) {
            continue;
        }
        // What `create` names need not exist.
        let lists = [&preopen.read, &preopen.write, &preopen.delete, &preopen.deny];
        for path_rule in lists.into_iter().flatten() {
            let Some(rule) = policy.rule(path_rule.number) else { continue };
            if let Some((message, hint)) = problem(&root, preopen, path_rule, rule) {
                found.push((rule, message, hint));
            }
        }
    }
    Diagnostic::warnings_about(&file.source, found)
}

/// Message and hint for the first name that a rule is wrong about.
fn problem(
    root: &Path,
    preopen: &Preopen,
    path_rule: &PathRule,
    rule: &Rule,
) -> Option<(String, String)> {
    for pattern in path_rule.pattern.alternatives() {
        let names = pattern.literal_names()?;
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let shown = String::from_utf8_lossy(&names.join(&b'/')).into_owned();
        match look(root, &names) {
            Found::Missing if !names_creatable(preopen, &names) => {
                return Some((
                    format!("`{shown}` does not exist in {}", preopen.host.display()),
                    "is it spelled right? The guest may not create it either".into(),
                ));
            }
            // Removing a link is about the link.
            Found::Link(at) if at < names.len() || rule.kind != RuleKind::Delete => {
                let link = String::from_utf8_lossy(&names.get(..at)?.join(&b'/')).into_owned();
                return Some((
                    format!("`{link}` is a symbolic link, and this rule is not about its target"),
                    "name the file that it leads to".into(),
                ));
            }
            Found::Missing | Found::Link(_) | Found::There => {}
        }
    }
    None
}

enum Found {
    There,
    Missing,
    /// So many of the names lead to a symbolic link.
    Link(usize),
}

fn look(root: &Path, names: &[&[u8]]) -> Found {
    let mut path = root.to_owned();
    for (at, name) in names.iter().enumerate() {
        path.push(OsStr::from_bytes(name));
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => return Found::Link(at + 1),
            Ok(_) => {}
            Err(error) => {
                return match error.kind() {
                    ErrorKind::NotFound | ErrorKind::NotADirectory => Found::Missing,
                    // Whoever checks may see less than whoever runs.
                    _ => Found::There,
                };
            }
        }
    }
    Found::There
}
