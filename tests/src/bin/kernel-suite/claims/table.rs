//! Tables and ring buffers: replacing the one, filling the other.

use anyhow::{Result, ensure};
use wasi_guard_tests::operation::{Answer, Do, Tally, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    replacing_a_policy_takes_effect_at_once,
    replacing_a_policy_is_atomic,
    a_full_ring_buffer_loses_records_but_no_verdict,
    a_policy_of_hundreds_of_rules_is_enforced,
];

const R: u32 = libc::O_RDONLY as u32;
/// Opens at one go, while tables change.
const OPENS: u32 = 12_000;
/// Tables that come into force meanwhile, at least.
const TABLES: u32 = 12;
const TREE: &[&str] = &["data/a", "data/b", "data/both", "data/none"];

fn policy(reads: &str) -> String {
    format!("[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [{reads}]\n")
}

fn open(path: &str) -> Do {
    Do::Open(at(0, path), R, Then::Close)
}

fn replacing_a_policy_takes_effect_at_once(lab: &Lab) -> Result<()> {
    let mut stage = lab.stage(&policy("\"a\""), TREE)?;
    for _ in 0..5 {
        stage.allowed(&open("a"))?;
        stage.denied(&open("b"), Why::NotGranted)?;
        stage.replace_policy(&policy("\"b\""))?;
        stage.allowed(&open("b"))?;
        stage.denied(&open("a"), Why::NotGranted)?;
        stage.replace_policy(&policy("\"a\""))?;
    }
    Ok(())
}

/// Opens `path` again and again while tables change; what came of it.
fn hammer(stage: &mut Stage, path: &str) -> Result<Tally> {
    let one = crate::stage::load(&format!("version = 1\n{}", policy("\"both\", \"a\"")))?;
    let two = crate::stage::load(&format!("version = 1\n{}", policy("\"both\", \"b\"")))?;
    let mut tables = Vec::new();
    for policy in [one, two] {
        stage.policy = policy;
        tables.push(stage.table()?);
    }
    let (mut sum, mut replaced) = (Tally::default(), 0);
    // However fast the machine does the one and the other.
    while replaced < TABLES {
        stage.inside.tell(&Do::Hammer(at(0, path), OPENS))?;
        let answer = loop {
            for table in &tables {
                stage.guest.arm(table).map_err(wasi_guard_tests::actor::describe)?;
                replaced += 1;
            }
            stage.records()?;
            if let Some(answer) = stage.inside.answered()? {
                break answer;
            }
        };
        let Answer::Done(bytes) = answer else { anyhow::bail!("{answer:?}") };
        let tally: Tally = postcard::from_bytes(&bytes)?;
        ensure!(tally.absent + tally.other == 0, "{tally:?}");
        ensure!(tally.opened + tally.denied == OPENS, "{tally:?}");
        sum.opened += tally.opened;
        sum.denied += tally.denied;
    }
    Ok(sum)
}

fn replacing_a_policy_is_atomic(lab: &Lab) -> Result<()> {
    let mut stage = lab.stage(&policy("\"both\", \"a\""), TREE)?;
    stage.reset()?;
    let both = hammer(&mut stage, "both")?;
    ensure!(both.denied == 0, "what each table grants: {both:?}");
    let none = hammer(&mut stage, "none")?;
    ensure!(none.opened == 0, "what no table grants: {none:?}");
    let either = hammer(&mut stage, "a")?;
    ensure!(either.opened > 0 && either.denied > 0, "no table was replaced: {either:?}");
    Ok(())
}

fn a_full_ring_buffer_loses_records_but_no_verdict(lab: &Lab) -> Result<()> {
    let mut setup = Setup::new(lab.directory()?, &policy("\"a\""), TREE);
    setup.ring = 4096;
    let mut stage = setup.start(lab)?;
    stage.reset()?;
    let answer = stage.inside.ask(&Do::Hammer(at(0, "none"), 200))?;
    let Answer::Done(bytes) = answer else { anyhow::bail!("{answer:?}") };
    let tally: Tally = postcard::from_bytes(&bytes)?;
    ensure!(tally.denied == 200, "{tally:?}");
    let counts = stage.guest.counts();
    let records = stage.records()?.len() as u64;
    ensure!(counts.denied == 200 && counts.errors == 0, "{counts:?}");
    ensure!(records > 0 && counts.lost > 0, "{records} records, {counts:?}");
    ensure!(records + counts.lost == 200, "{records} records, {counts:?}");
    stage.allowed(&open("a"))?;
    // Read, the buffer has room again.
    stage.denied(&open("none"), Why::NotGranted)
}

fn a_policy_of_hundreds_of_rules_is_enforced(lab: &Lab) -> Result<()> {
    let rules: Vec<String> =
        (0..300).map(|number| format!("\"dir-{number}/**/file-{}.*\"", number * 7 % 300)).collect();
    let base = lab.directory()?;
    for number in [0, 1, 150, 299] {
        let directory = base.join(format!("data/dir-{number}/x"));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join(format!("file-{}.txt", number * 7 % 300)), "")?;
        std::fs::write(directory.join(format!("file-{}.txt", (number * 7 + 1) % 300)), "")?;
    }
    let mut setup = Setup::new(base, &policy(&rules.join(", ")), &[]);
    setup.fresh = false;
    let mut stage = setup.start(lab)?;
    ensure!(stage.table()?.chunks().len() > 3, "the table should not fit into one chunk a region");
    for number in [0, 1, 150, 299] {
        let right = format!("dir-{number}/x/file-{}.txt", number * 7 % 300);
        let wrong = format!("dir-{number}/x/file-{}.txt", (number * 7 + 1) % 300);
        stage.allowed(&open(&right))?;
        stage.denied(&open(&wrong), Why::NotGranted)?;
    }
    Ok(())
}
