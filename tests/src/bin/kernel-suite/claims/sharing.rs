//! One table in the kernel for all guests under the same policy.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use wasi_guard_tests::operation::{Do, Then, at};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Setup, Stage},
};

cases![
    guests_under_the_same_policy_share_its_table,
    a_new_policy_for_one_guest_is_none_for_the_others,
];

const R: u32 = libc::O_RDONLY as u32;
const POLICY: &str = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"yes\"]\n";
const OTHER: &str = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"no\"]\n";
const TREE: &[&str] = &["data/yes", "data/no"];

fn open(name: &str) -> Do {
    Do::Open(at(0, name), R, Then::Close)
}

/// Two guests under the same policy, and their directory.
fn pair(lab: &Lab) -> Result<(Stage, Stage)> {
    let base: PathBuf = lab.directory()?;
    let start = || {
        let mut setup = Setup::new(base.clone(), POLICY, TREE);
        setup.ring = 4096;
        let mut stage = setup.start(lab)?;
        stage.reset()?;
        // One guest's files are the other's.
        stage.keep();
        Ok::<_, anyhow::Error>(stage)
    };
    Ok((start()?, start()?))
}

fn table(stage: &Stage) -> Result<u32> {
    stage.guest.table_id().context("the guest has no table")
}

fn judges(stage: &mut Stage, allowed: &str, denied: &str) -> Result<()> {
    stage.allowed(&open(allowed))?;
    stage.denied(&open(denied), Why::NotGranted)?;
    stage.allowed(&open(allowed)).map(drop)
}

fn guests_under_the_same_policy_share_its_table(lab: &Lab) -> Result<()> {
    let stranger = lab.stage(POLICY, TREE)?;
    let before = stranger.guest.pins().pinned_tables();
    let (mut first, mut second) = pair(lab)?;
    ensure!(table(&first)? == table(&second)?, "two tables");
    // The same text for another directory is another table.
    ensure!(table(&first)? != table(&stranger)?, "one table for two directories");
    let during = stranger.guest.pins().pinned_tables();
    ensure!(during.len() == before.len() + 1, "{during:?}, before {before:?}");
    judges(&mut first, "yes", "no")?;
    judges(&mut second, "yes", "no")?;
    drop(first);
    ensure!(stranger.guest.pins().pinned_tables() == during, "the table went with the first");
    judges(&mut second, "yes", "no")?;
    drop(second);
    let after = stranger.guest.pins().pinned_tables();
    ensure!(after == before, "left: {after:?}, before {before:?}");
    Ok(())
}

fn a_new_policy_for_one_guest_is_none_for_the_others(lab: &Lab) -> Result<()> {
    let (mut first, mut second) = pair(lab)?;
    let (before, shared) = (first.guest.pins().pinned_tables(), table(&second)?);
    first.replace_policy(OTHER)?;
    ensure!(table(&first)? != shared && table(&second)? == shared, "the wrong guest's");
    judges(&mut first, "no", "yes")?;
    judges(&mut second, "yes", "no")?;
    second.replace_policy(OTHER)?;
    ensure!(table(&first)? == table(&second)?, "two tables again");
    judges(&mut second, "no", "yes")?;
    let after = first.guest.pins().pinned_tables();
    ensure!(after.len() == before.len(), "a table that nobody uses: {after:?}");
    Ok(())
}
