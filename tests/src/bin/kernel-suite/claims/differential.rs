//! Random policies, files and operations: kernel and oracle must agree on every verdict.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use wasi_guard_policy::evaluate;
use wasi_guard_tests::{
    operation::{Answer, At, BASE, Do, Then, at},
    random::Random,
};

use super::cases;
use crate::{
    check::told,
    expect::Ground,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![kernel_and_evaluator_agree_on_random_policies];

/// Operations for each policy.
const OPERATIONS: usize = 500;
/// Operations until it is looked again which files there are: names of files that are gone by then
/// are names as well.
const LOOK: usize = 25;
const NAMES: &[&str] = &["a", "b", "ab", "x.y", "key"];
/// Pieces that patterns are made of.
const PIECES: &[&str] = &["a", "b", "ab", "a*", "*b", "?", "*", "**", "*.y", "[!a]*", "{a,key}"];

fn kernel_and_evaluator_agree_on_random_policies(lab: &Lab) -> Result<()> {
    println!("# differential test: --seed {} --cases {}", lab.seed, lab.worlds);
    let mut random = Random::new(lab.seed);
    let _here = OnOneCpu::enter()?;
    let mut setup = Setup::new(lab.directory()?, &policy(&mut random)?, &[]);
    setup.fresh = false;
    let mut stage = setup.start(lab)?;
    let (mut judged, mut denied) = (0, 0);
    for world in 0..lab.worlds {
        let text = policy(&mut random)?;
        stage.replace_policy(&text)?;
        grow(&mut random, &stage)?;
        let mut known = Vec::new();
        for step in 0..OPERATIONS {
            if step % LOOK == 0 {
                known = files(&stage)?;
            }
            let operation = operation(&mut random, &known);
            let verdict = compare(&mut stage, &operation).with_context(|| {
                format!("--seed {}, policy {world}, step {step}: {operation:?}\n{text}", lab.seed)
            })?;
            judged += u32::from(verdict.is_some());
            denied += u32::from(verdict == Some(false));
        }
    }
    let all = lab.worlds * OPERATIONS as u32;
    println!("# {judged} of {all} operations judged, {denied} denied");
    ensure!(judged * 2 >= all, "only {judged} of {all} operations came to a verdict");
    ensure!(denied * 10 > judged && denied * 10 < judged * 9, "{denied} of {judged} denied");
    Ok(())
}

/// Suite and actor take turns, a hundred thousand times: on one CPU nobody has to be woken on
/// another one, which under emulation takes longer than the operation.
struct OnOneCpu(CpuSet);

impl OnOneCpu {
    fn enter() -> Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).unwrap_or(0));
        sched_setaffinity(None, &one)?;
        Ok(Self(before))
    }
}

impl Drop for OnOneCpu {
    fn drop(&mut self) {
        // At worst the cases after this one are slower.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// A policy for the two preopens `one` and `two` that the parser takes.
fn policy(random: &mut Random) -> Result<String> {
    for _ in 0..1000 {
        let mut text = String::new();
        for name in ["one", "two"] {
            text.push_str(&format!("[[preopen]]\nguest = \"/{name}\"\nhost = \"{name}\"\n"));
            for right in ["read", "write", "create", "delete", "deny"] {
                let most = if right == "deny" { 2 } else { 4 };
                let patterns: Vec<String> =
                    (0..random.below(most)).map(|_| pattern(random)).collect();
                let everything = right != "deny" && random.chance(30);
                if everything {
                    text.push_str(&format!("{right} = [\"**\"]\n"));
                } else if !patterns.is_empty() {
                    text.push_str(&format!("{right} = [{}]\n", patterns.join(", ")));
                }
            }
        }
        if crate::stage::load(&format!("version = 1\n{text}")).is_ok() {
            return Ok(text);
        }
    }
    bail!("no policy in a thousand is one")
}

fn pattern(random: &mut Random) -> String {
    let pieces: Vec<&str> = (0..=random.below(3)).map(|_| *random.pick(PIECES)).collect();
    format!("\"{}\"", pieces.join("/"))
}

/// New files in both preopens; the preopens stay.
fn grow(random: &mut Random, stage: &Stage) -> Result<()> {
    for root in &stage.roots {
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            if path.symlink_metadata()?.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        populate(random, root, 0)?;
    }
    Ok(())
}

fn populate(random: &mut Random, directory: &Path, depth: u32) -> Result<()> {
    for name in NAMES {
        let path = directory.join(name);
        if depth < 2 && random.chance(50) {
            fs::create_dir(&path)?;
            populate(random, &path, depth + 1)?;
        } else if random.chance(60) {
            fs::write(&path, "content")?;
        }
    }
    Ok(())
}

/// A name: mostly one that exists, sometimes by way of another handle.
fn name(random: &mut Random, files: &[At]) -> At {
    if !files.is_empty() && random.chance(80) {
        let at = random.pick(files);
        return match random.below(20) {
            0 => {
                let host = [&b"one/"[..], b"two/"][usize::from(at.handle)];
                At { handle: BASE, path: [host, &at.path].concat() }
            }
            _ => at.clone(),
        };
    }
    let names: Vec<&str> = (0..=random.below(3)).map(|_| *random.pick(NAMES)).collect();
    match random.below(20) {
        0 => at(BASE, names.join("/")),
        1 => at(0, format!("../two/{}", names.join("/"))),
        handle => at((handle % 2) as u8, names.join("/")),
    }
}

/// Everything below the preopens as it is now.
fn files(stage: &Stage) -> Result<Vec<At>> {
    let mut found = Vec::new();
    for (handle, root) in stage.roots.iter().enumerate() {
        let mut work = vec![root.clone()];
        while let Some(directory) = work.pop() {
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                let below = path.strip_prefix(root)?.as_os_str().as_encoded_bytes();
                found.push(at(handle as u8, below));
                if path.symlink_metadata()?.is_dir() {
                    work.push(path);
                }
            }
        }
    }
    found.sort_by(|one, two| (one.handle, &one.path).cmp(&(two.handle, &two.path)));
    Ok(found)
}

/// A name that does not exist, next to one that does.
fn beside(random: &mut Random, files: &[At]) -> At {
    let mut at = name(random, files);
    let directory = at.path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    if random.chance(70) {
        at.path.truncate(directory);
        at.path.extend(random.pick(&["new", "b", "ax", "z.y"]).bytes());
    }
    at
}

fn operation(random: &mut Random, files: &[At]) -> Do {
    let from = name(random, files);
    match random.below(15) {
        0..=4 => {
            let mut flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            flags |= *random.pick(&[libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR]);
            for flag in [libc::O_CREAT, libc::O_TRUNC] {
                if random.chance(25) {
                    flags |= flag;
                }
            }
            let from = if random.chance(20) { beside(random, files) } else { from };
            let then = match random.below(4) {
                0 => Then::Stat,
                1 => Then::Times,
                _ => Then::Close,
            };
            Do::Open(from, flags as u32, then)
        }
        5..=6 => Do::Stat(from, true),
        7 => Do::Mkdir(beside(random, files)),
        8 => Do::Rmdir(from),
        9 => Do::Unlink(from),
        10..=11 => {
            let flags = *random.pick(&[0, 0, libc::RENAME_EXCHANGE, libc::RENAME_NOREPLACE]);
            Do::Rename(from, beside(random, files), flags)
        }
        12 => Do::Link(from, beside(random, files)),
        13 => Do::Mknod(beside(random, files), libc::S_IFREG),
        _ => Do::Times(from),
    }
}

/// Whether the operation was allowed; `None` if it failed before anything was judged, or for
/// another reason after it was allowed.
pub(super) fn compare(stage: &mut Stage, operation: &Do) -> Result<Option<bool>> {
    let ground = Ground { base: &stage.base, roots: &stage.roots, leads_to: None };
    let verdicts: Vec<_> = ground
        .judgements(operation)?
        .into_iter()
        .map(|judgement| (evaluate::evaluate(&stage.policy, &judgement.attempt), judgement))
        .collect();
    let refused = verdicts.iter().find(|(verdict, _)| !verdict.allowed);
    let answer = stage.inside.ask(operation)?;
    let records = stage.records()?;
    match (&answer, refused) {
        (Answer::Done(_), None) => {
            ensure!(records.is_empty(), "allowed, but there is a record: {}", told(&records));
            Ok(Some(true))
        }
        (Answer::Done(_), Some((verdict, _))) => bail!("the oracle denies it: {verdict:?}"),
        (Answer::Failed(_, libc::EACCES), None) => {
            bail!("the oracle allows it: {}", told(&records))
        }
        (Answer::Failed(call, libc::EACCES), Some((verdict, judgement))) => {
            ensure!(*call == judgement.call, "call {call}, not {}", judgement.call);
            let [record] = &records[..] else { bail!("one record, not {}", told(&records)) };
            ensure!(
                Some(record.reason) == verdict.reason
                    && record.rule == verdict.rule
                    && record.second == verdict.second
                    && record.wanted == verdict.wanted
                    && record.rights == verdict.rights,
                "{} for {verdict:?}",
                told(&records)
            );
            Ok(Some(false))
        }
        // Names that are not there, directories that are not empty, and the like.
        (Answer::Failed(..), _) => {
            ensure!(records.is_empty(), "{answer:?}, but a record: {}", told(&records));
            Ok(None)
        }
    }
}
