//! Two builds with maps of different layouts, one beside the other, and one after the other.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use wasi_guard_enforce::programs::{Build, HostLock, unload};

use wasi_guard_tests::sys::bpf::Foreign;

use crate::{
    Case, left, others,
    supervisor::{self, Live, Until},
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("two_builds_guard_their_own_guests", beside),
        Case::new("gc_cleans_up_after_another_build", gc),
        Case::new("unload_waits_for_guests_of_every_build_and_removes_all", unloading),
    ]
}

fn live(build: &Build) -> Result<Live> {
    let mut live = Live::start(None, Until::Told, build)?;
    live.word("worker")?;
    Ok(live)
}

fn beside() -> Result<()> {
    let (this, other) = (Build::this(false), Build::other());
    let first = live(&this)?;
    let second = live(&other).context("the other build")?;
    ensure!(this.pin_dir().exists() && other.pin_dir().exists(), "two directories of pins");
    // Starts and ends of the one leave the other's guest as it is.
    supervisor::works(&this)?;
    supervisor::works(&other)?;
    let collected = left::collect()?;
    ensure!(collected == Default::default(), "guests that run were collected: {collected:?}");
    first.end()?.lived()?;
    second.end()?.lived()?;
    left::nothing()
}

fn gc() -> Result<()> {
    let other = Build::other();
    let mut killed = live(&other)?;
    killed.kill()?;
    killed.end()?.was_killed()?;
    // This build's start does not touch the other's guests, gc does.
    supervisor::works(&Build::this(false))?;
    ensure!(!left::everything()?.is_empty(), "cleaned by another build's start");
    let collected = left::collect()?;
    ensure!((collected.cgroups, collected.entries, collected.tables) == (1, 1, 1), "{collected:?}");
    left::nothing()
}

fn unloading() -> Result<()> {
    let (this, other) = (Build::this(false), Build::other());
    supervisor::works(&this)?;
    let running = live(&other)?;
    let refused = HostLock::take().and_then(|lock| unload(&lock));
    ensure!(refused.is_err(), "unloaded while a guest runs: {refused:?}");
    ensure!(other.pin_dir().exists(), "the pins of a running guest are gone");
    running.end()?.lived()?;
    // A killed supervisor's guest is no guest that runs.
    let mut killed = live(&other)?;
    killed.kill()?;
    killed.end()?.was_killed()?;
    // Somebody else's program stays.
    let foreign = Foreign::deny_chroot(others::NAME)?;
    unload(&HostLock::take()?)?;
    others::works().context("another program after unload")?;
    drop(foreign);
    ensure!(!this.pin_dir().exists() && !other.pin_dir().exists(), "pins are left");
    let cgroups = fs::read_dir("/sys/fs/cgroup")?.flatten();
    let ours = cgroups.filter(|it| it.file_name().to_string_lossy().starts_with("wasi-guard-"));
    ensure!(ours.count() == 0, "cgroups are left");
    Ok(())
}
