//! Names of every length, content and depth.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use wasi_guard_abi::{operation::Reason, record::MAX_PATH};
use wasi_guard_tests::operation::{Answer, Chain, Do, Then, at};

use super::{cases, differential::compare};
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    names_of_every_length_are_read_to_their_end,
    names_of_every_length_are_read_from_their_start,
    a_name_that_shares_a_prefix_with_a_rule_is_another_name,
    names_with_line_feeds_and_without_utf8_are_judged_by_their_bytes,
    a_path_two_hundred_levels_deep_is_judged,
    a_path_longer_than_path_max_is_judged_and_its_record_cut,
    a_path_too_deep_to_walk_is_denied,
    what_a_directory_remembers_ends_when_a_name_is_moved,
    what_a_directory_remembers_is_one_policys,
    plain_names_in_lists_are_told_apart,
    preopens_are_told_apart,
    the_innermost_of_nested_preopens_decides,
    one_directory_under_two_guest_paths_follows_the_first,
    upper_and_lower_case_are_different_names,
    slashes_and_dots_in_a_path_change_nothing,
];

const R: u32 = libc::O_RDONLY as u32;

/// A stage whose files stay as `make` leaves them.
fn lasting(lab: &Lab, policy: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Stage> {
    let base = lab.directory()?;
    let data = base.join("data");
    std::fs::create_dir(&data)?;
    make(&data)?;
    let mut setup = Setup::new(base, policy, &[]);
    setup.fresh = false;
    setup.start(lab)
}

fn preopen(rules: &str) -> String {
    format!("[[preopen]]\nguest = \"/data\"\nhost = \"data\"\n{rules}\n")
}

fn open(path: impl AsRef<[u8]>) -> Do {
    Do::Open(at(0, path), R, Then::Close)
}

/// Around the lengths at which names leave the dentry: 31 bytes and a NUL fit into `d_iname` of
/// a dentry of 192 bytes with 32, 39 and a NUL with 40.
const LENGTHS: &[usize] = &[
    6, 7, 8, 9, 15, 16, 17, 23, 24, 25, 30, 31, 32, 33, 38, 39, 40, 41, 42, 47, 48, 49, 63, 64, 65,
    127, 128, 129, 200, 247, 248, 249, 254, 255,
];

fn names_of_every_length_are_read_to_their_end(lab: &Lab) -> Result<()> {
    let name = |length: usize, end: &str| {
        let mut name = "n".repeat(length - end.len());
        name.push_str(end);
        name
    };
    let mut stage = lasting(lab, &preopen("read = [\"*.yes\"]"), |data| {
        for length in LENGTHS {
            for end in [".yes", ".no!"] {
                std::fs::write(data.join(name(*length, end)), "")?;
            }
        }
        Ok(())
    })?;
    for length in LENGTHS {
        stage.allowed(&open(name(*length, ".yes")))?;
        stage.denied(&open(name(*length, ".no!")), Why::NotGranted)?;
    }
    Ok(())
}

fn names_of_every_length_are_read_from_their_start(lab: &Lab) -> Result<()> {
    let name = |length: usize, start: &str| {
        let mut name = String::from(start);
        name.push_str(&"n".repeat(length - start.len()));
        name
    };
    let rules = "read = [\"yes*\", \"deep/*/yes*\"]\ndeny = [\"yes*x\"]";
    let mut stage = lasting(lab, &preopen(rules), |data| {
        for length in LENGTHS {
            for start in ["yes", "no!"] {
                std::fs::write(data.join(name(*length, start)), "")?;
            }
            let deep = data.join("deep").join(name(*length, "d"));
            std::fs::create_dir_all(&deep)?;
            std::fs::write(deep.join("yes"), "")?;
            std::fs::write(deep.join("no!"), "")?;
        }
        Ok(())
    })?;
    for length in LENGTHS {
        stage.allowed(&open(name(*length, "yes")))?;
        stage.denied(&open(name(*length, "no!")), Why::NotGranted)?;
        let deep = name(*length, "d");
        stage.allowed(&open(format!("deep/{deep}/yes")))?;
        stage.denied(&open(format!("deep/{deep}/no!")), Why::NotGranted)?;
    }
    Ok(())
}

fn a_name_that_shares_a_prefix_with_a_rule_is_another_name(lab: &Lab) -> Result<()> {
    let mut stage = lab.stage(
        &preopen("read = [\"ab/cd\"]"),
        &[
            "data/ab/cd",
            "data/ab/c",
            "data/ab/cde",
            "data/a/cd",
            "data/abc/cd",
            "data/b/cd",
            "data/ab/x/cd",
            "data/x/ab/cd",
            "data/cd",
        ],
    )?;
    stage.allowed(&open("ab/cd"))?;
    let others = ["ab/c", "ab/cde", "a/cd", "abc/cd", "b/cd", "ab/x/cd", "x/ab/cd", "cd"];
    for other in others {
        stage.denied(&open(other), Why::NotGranted)?;
    }
    Ok(())
}

fn names_with_line_feeds_and_without_utf8_are_judged_by_their_bytes(lab: &Lab) -> Result<()> {
    let names: &[&[u8]] = &[
        b"line\nfeed",
        b"\xff\xfe",
        b"caf\xc3\xa9",
        b"caf\xe9",
        b" ",
        b"\\",
        b"*",
        b"\x01\x7f",
        b"\xed\xa0\x80",
        b"\"quoted\"",
    ];
    let mut stage = lasting(lab, &preopen("read = [\"yes/*\", \"one/?\"]"), |data| {
        for directory in ["yes", "no", "one"] {
            std::fs::create_dir(data.join(directory))?;
            for name in names {
                std::fs::write(data.join(directory).join(OsStr::from_bytes(name)), "")?;
            }
        }
        Ok(())
    })?;
    for name in names {
        stage.allowed(&open([b"yes/", *name].concat()))?;
        stage.denied(&open([b"no/", *name].concat()), Why::NotGranted)?;
    }
    stage.allowed(&open("one/*"))?;
    stage.denied(&open(b"one/\xff\xfe"), Why::NotGranted)
}

/// A chain of directories made one by one, with `yes` and `no` at its end; its names.
fn dig(data: &Path, name: &[u8], levels: usize) -> Result<Vec<Vec<u8>>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(data, flags, Mode::empty())?;
    for _ in 0..levels {
        rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755))?;
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
    }
    for leaf in ["yes", "no"] {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&directory, leaf, flags, Mode::from_raw_mode(0o644))?;
    }
    Ok(vec![name.to_vec(); levels])
}

fn at_the_end(chain: &[Vec<u8>], leaf: &str) -> Do {
    let mut names = chain.to_vec();
    names.push(leaf.as_bytes().to_vec());
    Do::OpenDeep(0, Chain(names), R)
}

fn a_path_two_hundred_levels_deep_is_judged(lab: &Lab) -> Result<()> {
    let mut chain = Vec::new();
    let mut stage = lasting(lab, &preopen("read = [\"**/yes\"]"), |data| {
        chain = dig(data, b"level", 200)?;
        Ok(())
    })?;
    let plain = [vec![b"level".to_vec(); 200], vec![b"yes".to_vec()]].concat().join(&b'/');
    stage.allowed(&open(plain))?;
    stage.allowed(&at_the_end(&chain, "yes"))?;
    stage.denied(&at_the_end(&chain, "no"), Why::NotGranted)
}

/// Opens the leaf outside and inside; the one record that inside left.
fn denied_at_the_end(
    stage: &mut Stage,
    chain: &[Vec<u8>],
    leaf: &str,
) -> Result<wasi_guard_enforce::records::Denial> {
    let open = at_the_end(chain, leaf);
    for _ in 0..2 {
        let answer = stage.outside.ask(&open)?;
        ensure!(answer == Answer::Done(Vec::new()), "outside: {answer:?}");
        let answer = stage.inside.ask(&open)?;
        ensure!(answer == Answer::Failed(1, libc::EACCES), "inside: {answer:?}");
    }
    match &stage.records()?[..] {
        [first, second] if first.names == second.names => Ok(first.clone()),
        other => bail!("two equal records, not {} others", other.len()),
    }
}

fn a_path_longer_than_path_max_is_judged_and_its_record_cut(lab: &Lab) -> Result<()> {
    let mut chain = Vec::new();
    let mut stage = lasting(lab, &preopen("read = [\"**/yes\"]"), |data| {
        chain = dig(data, &[b'd'; 200], 40)?;
        Ok(())
    })?;
    stage.allowed(&at_the_end(&chain, "yes"))?;
    let record = denied_at_the_end(&mut stage, &chain, "no")?;
    ensure!(record.reason == Reason::NotGranted && record.cut, "{:?}", record.reason);
    let name = record.names.first().context("a name")?;
    // Whole names from the leaf up, as many as fit.
    ensure!(name.preopen.is_none() && name.path.ends_with(b"ddd/no"), "{name:?}");
    ensure!((MAX_PATH - 201..=MAX_PATH).contains(&name.path.len()), "{} bytes", name.path.len());
    Ok(())
}

fn a_path_too_deep_to_walk_is_denied(lab: &Lab) -> Result<()> {
    let mut chain = Vec::new();
    let mut stage = lasting(lab, &preopen("read = [\"**\"]"), |data| {
        chain = dig(data, b"d", 4200)?;
        Ok(())
    })?;
    let record = denied_at_the_end(&mut stage, &chain, "yes")?;
    ensure!(record.reason == Reason::Moving && record.cut, "{:?}", record.reason);
    // Half the way up everything is as usual.
    stage.allowed(&Do::OpenDeep(0, Chain(chain[..2000].to_vec()), R)).map(drop)
}

/// A directory remembers where it is from one decision to the next. It, or one above it, is moved
/// by somebody else in between.
fn what_a_directory_remembers_ends_when_a_name_is_moved(lab: &Lab) -> Result<()> {
    let mut stage = lasting(lab, &preopen("read = [\"open/**\"]"), |data| {
        std::fs::create_dir_all(data.join("open/d/e"))?;
        std::fs::create_dir(data.join("shut"))?;
        Ok(std::fs::write(data.join("open/d/e/f"), "")?)
    })?;
    let data = stage.roots[0].clone();
    for (from, to) in [("open/d/e", "shut/e"), ("open/d", "shut/d"), ("open", "elsewhere")] {
        let there = "open/d/e/f".replace(from, to);
        for _ in 0..3 {
            stage.allowed(&open("open/d/e/f"))?;
        }
        std::fs::rename(data.join(from), data.join(to))?;
        for _ in 0..3 {
            stage.denied(&open(&there), Why::NotGranted)?;
        }
        std::fs::rename(data.join(to), data.join(from))?;
        stage.allowed(&open("open/d/e/f"))?;
    }
    Ok(())
}

/// Two guests use one directory in turn, under policies that do not agree about it.
fn what_a_directory_remembers_is_one_policys(lab: &Lab) -> Result<()> {
    let mut one = lasting(lab, &preopen("read = [\"a/d/**\"]"), |data| {
        std::fs::create_dir_all(data.join("a/d"))?;
        std::fs::write(data.join("a/d/f"), "")?;
        Ok(std::fs::write(data.join("a/d/g"), "")?)
    })?;
    let base = one.roots[0].parent().map(Path::to_path_buf).context("the preopen's directory")?;
    let mut setup = Setup::new(base, &preopen("read = [\"a/d/g\"]"), &[]);
    setup.fresh = false;
    let mut two = setup.start(lab)?;
    for _ in 0..3 {
        one.allowed(&open("a/d/f"))?;
        two.denied(&open("a/d/f"), Why::NotGranted)?;
        two.allowed(&open("a/d/g"))?;
        one.allowed(&open("a/d/g"))?;
    }
    Ok(())
}

/// Many plain names in one directory are found by a hash of the whole name, short ones and such as
/// do not lie in their dentry, in a directory's own list and in the one that directories share.
fn plain_names_in_lists_are_told_apart(lab: &Lab) -> Result<()> {
    let name = |n: usize| format!("{n:02}-{}", "n".repeat(n * 7));
    let list = |prefix: &str, from: usize| -> String {
        (from..from + 12).map(|n| format!("\"{prefix}{}\", ", name(n))).collect()
    };
    let rules = format!(
        "read = [{}\"**/x*\"]\nwrite = [{}\"free/**\"]\ndeny = [{}]",
        list("own/", 0),
        list("own/", 6),
        list("**/", 20)
    );
    let mut stage = lasting(lab, &preopen(&rules), |data| {
        for directory in ["own", "free", "free/sub"] {
            std::fs::create_dir(data.join(directory))?;
            for n in 0..32 {
                std::fs::write(data.join(directory).join(name(n)), "")?;
                std::fs::write(data.join(directory).join(format!("x{}", name(n))), "")?;
            }
        }
        Ok(())
    })?;
    let write = libc::O_WRONLY as u32;
    let (mut read, mut written) = ([0; 2], [0; 2]);
    for directory in ["own", "free", "free/sub"] {
        for n in 0..32 {
            for prefix in ["", "x"] {
                let file = format!("{directory}/{prefix}{}", name(n));
                for (flags, counts) in [(R, &mut read), (write, &mut written)] {
                    let open = Do::Open(at(0, &file), flags, Then::Close);
                    let allowed = compare(&mut stage, &open).with_context(|| file.clone())?;
                    counts[usize::from(allowed.context("an answer without a verdict")?)] += 1;
                }
            }
        }
    }
    // Denied and allowed. Read: 12 plain names of one directory, and all that begin with an x.
    ensure!((read, written) == ([84, 108], [76, 116]), "{read:?} {written:?}");
    Ok(())
}

fn preopens_are_told_apart(lab: &Lab) -> Result<()> {
    let policy = "[[preopen]]\nguest = \"/a\"\nhost = \"a\"\nread = [\"x\"]\nwrite = [\"y\"]\n\
                  [[preopen]]\nguest = \"/b\"\nhost = \"b\"\nread = [\"y\"]\nwrite = [\"x\"]\n";
    let mut stage = lab.stage(policy, &["a/x", "a/y", "b/x", "b/y"])?;
    let write = libc::O_WRONLY as u32;
    for (preopen, read, written) in [(0, "x", "y"), (1, "y", "x")] {
        stage.allowed(&Do::Open(at(preopen, read), R, Then::Close))?;
        stage.allowed(&Do::Open(at(preopen, written), write, Then::Close))?;
        stage.denied(&Do::Open(at(preopen, written), R, Then::Close), Why::NotGranted)?;
        stage.denied(&Do::Open(at(preopen, read), write, Then::Close), Why::NotGranted)?;
    }
    stage.allowed(&Do::Open(at(0, "../b/y"), R, Then::Close))?;
    stage.denied(&Do::Open(at(0, "../b/x"), R, Then::Close), Why::NotGranted)
}

fn the_innermost_of_nested_preopens_decides(lab: &Lab) -> Result<()> {
    let policy = "[[preopen]]\nguest = \"/outer\"\nhost = \"outer\"\nread = [\"**\"]\n\
                  [[preopen]]\nguest = \"/inner\"\nhost = \"outer/in\"\nwrite = [\"f\"]\n";
    let mut stage = lab.stage(policy, &["outer/f", "outer/in/f", "outer/in/g"])?;
    let write = libc::O_WRONLY as u32;
    let open = |handle, path: &str, flags| Do::Open(at(handle, path), flags, Then::Close);
    stage.allowed(&open(0, "f", R))?;
    for (handle, path) in [(0, "in/f"), (1, "f")] {
        stage.allowed(&open(handle, path, write))?;
        stage.denied(&open(handle, path, R), Why::NotGranted)?;
    }
    stage.denied(&open(0, "in/g", R), Why::NotGranted)?;
    stage.denied(&Do::Mkdir(at(0, "in/new")), Why::NotGranted)
}

fn one_directory_under_two_guest_paths_follows_the_first(lab: &Lab) -> Result<()> {
    let policy = "[[preopen]]\nguest = \"/one\"\nhost = \"data\"\nread = [\"f\"]\n\
                  [[preopen]]\nguest = \"/two\"\nhost = \"alias\"\nwrite = [\"f\"]\n";
    let base = lab.directory()?;
    std::fs::create_dir(base.join("data"))?;
    std::fs::write(base.join("data/f"), "x")?;
    std::os::unix::fs::symlink("data", base.join("alias"))?;
    let mut setup = Setup::new(base, policy, &[]);
    setup.fresh = false;
    let mut stage = setup.start(lab)?;
    let open = |handle, flags| Do::Open(at(handle, "f"), flags, Then::Close);
    for handle in [0, 1] {
        let (read, write) = (open(handle, R), open(handle, libc::O_WRONLY as u32));
        let answer = stage.inside.ask(&read)?;
        ensure!(answer == Answer::Done(Vec::new()), "handle {handle}: {answer:?}");
        ensure!(stage.outside.ask(&write)? == Answer::Done(Vec::new()));
        ensure!(stage.inside.ask(&write)? == Answer::Failed(0, libc::EACCES), "handle {handle}");
        ensure!(stage.outside.ask(&write)? == Answer::Done(Vec::new()));
        let records = stage.records()?;
        ensure!(records.len() == 1 && records[0].names[0].preopen == Some(0), "{records:?}");
    }
    Ok(())
}

fn upper_and_lower_case_are_different_names(lab: &Lab) -> Result<()> {
    let tree = &["data/Key", "data/key", "data/KEY"];
    let mut stage = lab.stage(&preopen("read = [\"*\"]\ndeny = [\"key\"]"), tree)?;
    stage.allowed(&open("Key"))?;
    stage.allowed(&open("KEY"))?;
    stage.denied(&open("key"), Why::Deny("key"))
}

fn slashes_and_dots_in_a_path_change_nothing(lab: &Lab) -> Result<()> {
    let rules = "read = [\"in\", \"in/**\"]\ndeny = [\"in/key\"]";
    let mut stage = lab.stage(&preopen(rules), &["data/in/sub/f", "data/in/key"])?;
    for path in ["in//sub///f", "./in/./sub/./f", "in/sub/../sub/f", "in/../in/sub/f"] {
        stage.allowed(&open(path))?;
    }
    for path in ["in//key", "./in/./key", "in/sub/../key", "in/sub//..///key"] {
        stage.denied(&open(path), Why::Deny("in/key"))?;
    }
    for path in ["in/", "in/.", "in//", "in/sub/.."] {
        let directory = (libc::O_RDONLY | libc::O_DIRECTORY) as u32;
        stage.allowed(&Do::Open(at(0, path), directory, Then::List))?;
    }
    Ok(())
}
