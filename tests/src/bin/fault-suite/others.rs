//! A BPF LSM program of other software: listed, and left alone.

use std::{os::unix::fs::chroot, process::Command};

use anyhow::{Context as _, Result, ensure};
use wasi_guard_tests::sys::bpf::Foreign;

use crate::{Case, left, supervisor};
use wasi_guard_enforce::programs::Build;

pub(crate) const NAME: &str = "foreign_guard";

pub(crate) fn cases() -> Vec<Case> {
    vec![Case::new("programs_of_other_software_are_listed_and_left_alone", left_alone)]
}

fn said(word: &str) -> Result<String> {
    let output = Command::new("wasi-guard-faults").arg(word).output()?;
    ensure!(output.status.success(), "{word}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// It denies every chroot as long as it is attached.
pub(crate) fn works() -> Result<()> {
    let error = chroot("/").err().context("chroot works")?;
    ensure!(error.raw_os_error() == Some(libc::EPERM), "{error}");
    Ok(())
}

fn left_alone() -> Result<()> {
    chroot("/").context("before it is there")?;
    ensure!(!said("doctor")?.contains(NAME), "it is listed before it is there");
    supervisor::works(&Build::this(false))?;
    let foreign = Foreign::deny_chroot(NAME).context("load another program")?;
    works()?;
    let listed = said("doctor")?;
    ensure!(listed.contains(NAME), "not listed: {listed}");
    // Neither hinders the other.
    let mut command = Command::new("wasi-guard-faults");
    let hello = command.args(["run", "/guests/hello.wasm"]).output()?;
    ensure!(hello.status.success() && hello.stdout == b"hello\n", "{hello:?}");
    works().context("after a run")?;
    said("gc")?;
    works().context("after gc")?;
    ensure!(said("doctor")?.contains(NAME), "not listed any more");
    drop(foreign);
    ensure!(!said("doctor")?.contains(NAME), "listed after its end");
    chroot("/").context("after its end")?;
    left::nothing()
}
