use std::fs::{create_dir_all, hard_link, write};
use std::path::Path as HostPath;

use tempfile::TempDir;
use wasi_guard_abi::operation::right::{CREATE, DELETE, READ, STAT, WRITE};
use wasi_guard_policy::{Addresses, Source, compile, load};

use super::*;

const POLICY: &str = r#"version = 1
[[preopen]]
guest = "/a"
host = "a"
read = ["**"]
write = ["w/**"]
deny = ["key", "w/key"]
[[preopen]]
guest = "/b"
host = "b"
read = ["x"]
"#;

/// The preopens `a` and `b` below a new directory, and these links: existing name, new name.
fn world(files: &[&str], links: &[(&str, &str)]) -> TempDir {
    let base = tempfile::tempdir().unwrap();
    let make = |path: &str| {
        let path = base.path().join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    make("a/w/-");
    make("b/-");
    for file in files {
        write(make(file), file).unwrap();
    }
    for (old, new) in links {
        hard_link(base.path().join(old), make(new)).unwrap();
    }
    base
}

fn directory(path: &HostPath) -> Root {
    super::super::plan::open_root(path, &path.display().to_string(), false).unwrap()
}

fn found(base: &TempDir, policy: &str, hosts: &[&str]) -> Vec<LinkedFile> {
    let policy = load(&Source::new("policy.toml", policy)).unwrap().0;
    let table = compile(&policy, &Addresses::new()).unwrap();
    let directories: Vec<_> = hosts.iter().map(|host| directory(&base.path().join(host))).collect();
    search(&policy, &table, &directories).unwrap()
}

fn is(file: &LinkedFile, base: &TempDir, path: &str) -> bool {
    let stat = rustix::fs::stat(base.path().join(path)).unwrap();
    id(&fstat(&file.fd).unwrap()) == id(&stat)
}

const OF_NAMES: u16 = CREATE | DELETE;

#[test]
fn a_denied_file_is_denied_under_its_other_name() {
    let base = world(&["a/key", "a/w/other"], &[("a/key", "a/deep/er/innocent")]);
    let found = found(&base, POLICY, &["a", "b"]);
    assert_eq!(found.len(), 1);
    assert!(is(&found[0], &base, "a/key"));
    assert_eq!((found[0].rights, found[0].deny_rule), (OF_NAMES, 3));
}

#[test]
fn a_file_has_what_all_its_names_have() {
    let base = world(
        &["a/w/f", "a/equal", "a/w/key"],
        &[("a/w/f", "a/f"), ("a/equal", "a/equal2"), ("a/w/key", "b/x")],
    );
    let mut found = found(&base, POLICY, &["a", "b"]);
    found.sort_by_key(|file| file.deny_rule);
    assert_eq!(found.len(), 2);
    assert!(is(&found[0], &base, "a/f"));
    assert_eq!((found[0].rights, found[0].deny_rule), (READ | STAT | OF_NAMES, 0));
    assert!(is(&found[1], &base, "b/x"), "across preopens");
    assert_eq!((found[1].rights, found[1].deny_rule), (OF_NAMES, 4));
}

#[test]
fn names_outside_the_preopens_do_not_count() {
    let base = world(&["a/w/f"], &[("a/w/f", "elsewhere/f")]);
    assert!(found(&base, POLICY, &["a", "b"]).is_empty());
}

#[test]
fn a_preopen_inside_another_is_looked_at_by_its_own_rules() {
    let base = world(&["a/w/f"], &[("a/w/f", "a/b/x")]);
    let text = POLICY.replace("host = \"b\"", "host = \"a/b\"");
    let found = found(&base, &text, &["a", "a/b"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].rights, READ | STAT | OF_NAMES);
    assert!(found[0].rights & WRITE == 0);
}

#[test]
fn where_all_names_have_the_same_rights_nothing_is_looked_at() {
    let base = world(&["a/f"], &[("a/f", "a/g")]);
    let policy = "version = 1\n[[preopen]]\nguest = \"/a\"\nhost = \"a\"\nread = [\"**\"]\n";
    std::fs::remove_dir_all(base.path().join("a")).unwrap();
    create_dir_all(base.path().join("a")).unwrap();
    assert!(found(&base, policy, &["a"]).is_empty());
}

#[test]
fn symbolic_links_are_not_followed() {
    let base = world(&["out/key"], &[("out/key", "out/key2")]);
    std::os::unix::fs::symlink("../out", base.path().join("a/link")).unwrap();
    std::os::unix::fs::symlink(".", base.path().join("a/loop")).unwrap();
    assert!(found(&base, POLICY, &["a", "b"]).is_empty());
}

#[test]
fn names_of_any_bytes_and_deep_trees_are_found() {
    use std::os::unix::ffi::OsStrExt as _;
    let base = world(&["a/key"], &[]);
    let mut deep = base.path().join("a");
    for _ in 0..200 {
        deep.push("d");
    }
    create_dir_all(&deep).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff\xfe\n");
    hard_link(base.path().join("a/key"), deep.join(name)).unwrap();
    assert_eq!(found(&base, POLICY, &["a", "b"]).len(), 1);
}
