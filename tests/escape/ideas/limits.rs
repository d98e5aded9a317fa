//! Use up the machine: memory, threads, descriptors, disks.
//!
//! Stopped by: the limits of the policy, which the guest's cgroup has, and the caller's limit of
//! descriptors; for a disk BPF, where the policy does not let write, and the limit of memory, where
//! the disk is memory. Nothing stops who fills a real disk where the policy lets write.

use anyhow::{Context as _, Result, bail, ensure};
use libc::{
    AT_FDCWD, CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM,
    MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, O_CREAT, O_WRONLY, PROT_READ, PROT_WRITE, SIGKILL,
};
use rustix::mount::{MountFlags, UnmountFlags};
use wasi_guard_captive::{Entry, Script, Value, call};

use super::state;
use crate::idea::Free::Works;
use crate::idea::Guarded::{Denied, Unlisted};
use crate::idea::{Idea, attempt};
use crate::scene::Scene;
use crate::stops::UNLISTED;
use crate::trial::Lab;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("use_up_the_memory", memory),
        Idea::Case("use_up_the_huge_pages", huge_pages),
        Idea::Case("use_up_the_threads", threads),
        Idea::Case("use_up_the_descriptors", descriptors),
        attempt("fill_a_disk_that_is_not_granted", Works, Denied("create"), |d| {
            fill(d, "outside/full", 256)
        }),
        attempt("reserve_room_on_a_disk", Works, Unlisted, |d| {
            let path = d.text(Scene::text("data/out/room"));
            let file = call!(d, SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY, 0o600);
            let it = call!(d, SYS_fallocate, file, 0, 0, 1 << 20);
            call!(d, SYS_close, file);
            call!(d, SYS_unlinkat, AT_FDCWD, path, 0);
            it
        }),
        Idea::Case("fill_a_granted_disk_that_is_memory", disk),
    ]
}

/// Creates a file, writes so many times 64 KiB to it, and removes it. Stands for the creation.
fn fill(script: &mut Script, name: &str, times: u32) -> Value {
    const STEP: usize = 64 << 10;
    let (path, bytes) = (script.text(Scene::text(name)), script.zeros(STEP));
    let file = call!(script, SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY, 0o600);
    let arguments: [Value; 3] = [file, bytes.into(), STEP.into()];
    script.enter(Entry::Plain, libc::SYS_write as u64, &arguments, times);
    call!(script, SYS_close, file);
    call!(script, SYS_unlinkat, AT_FDCWD, path, 0);
    file
}

/// A directory on a tmpfs, where a worker may create and write what it likes: what it puts there is
/// memory that its cgroup is charged for.
fn disk(lab: &mut Lab<'_>) -> Result<()> {
    const MEMORY: u64 = 128;
    /// Some more than that many MiB, in 64 KiB.
    const TIMES: u32 = 3200;
    let place = Scene::path("disk");
    std::fs::create_dir(&place).context("make a directory")?;
    rustix::mount::mount("tmpfs", &place, "tmpfs", MountFlags::empty(), Some(c"size=512m"))
        .context("mount a tmpfs")?;
    let result = (|| {
        let mut script = Script::default();
        fill(&mut script, "disk/full", TIMES);
        outside(&script, 0)?;
        let policy = format!(
            "memory = \"{MEMORY}MiB\"\n[[preopen]]\nguest = \"/disk\"\nhost = \"./disk\"\n\
             write = [\"**\"]\ncreate = [\"**\"]\ndelete = [\"**\"]\n"
        );
        let mut captive = lab.captive(&policy)?;
        if let Some((answer, _)) = captive.ask(&script)? {
            bail!("the worker has filled the disk: {:?}", answer.results);
        }
        let end = captive.end()?;
        end.by_signal(&[SIGKILL])?;
        ensure!(end.limited_by("memory"), "no record of the limit: {end}");
        let full = place.join("full");
        let length = std::fs::metadata(&full).context("what it has written")?.len();
        ensure!((1..=MEMORY << 20).contains(&length), "it wrote {length} bytes");
        std::fs::remove_file(&full)?;
        outside(&script, 0)
    })();
    rustix::mount::unmount(&place, UnmountFlags::DETACH).context("unmount the tmpfs")?;
    std::fs::remove_dir(&place)?;
    result
}

/// What a worker does here, a process that nothing guards does as well, so far as the machine can
/// bear it.
fn outside(script: &Script, last: i64) -> Result<()> {
    let (answer, status) = crate::outside::run(script)?;
    let answer = answer.with_context(|| format!("no answer: {status}"))?;
    ensure!(answer.results.iter().all(|it| *it >= last), "where nothing guards: {answer:?}");
    Ok(())
}

fn memory(lab: &mut Lab<'_>) -> Result<()> {
    /// Twice what the policy grants.
    const STEP: usize = 16 << 20;
    let mut script = Script::default();
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    let arguments: [Value; 6] = [
        0.into(),
        STEP.into(),
        (PROT_READ | PROT_WRITE).into(),
        flags.into(),
        (-1).into(),
        0.into(),
    ];
    script.enter(Entry::Plain, libc::SYS_mmap as u64, &arguments, 16);
    outside(&script, 0)?;
    let mut captive = lab.captive("memory = \"128MiB\"")?;
    if let Some((answer, _)) = captive.ask(&script)? {
        bail!("the worker got its memory: {:?}", answer.results);
    }
    let end = captive.end()?;
    end.by_signal(&[SIGKILL])?;
    ensure!(end.limited_by("memory"), "no record of the limit: {end}");
    outside(&script, 0)
}

/// Pages that an administrator has set aside for somebody are no part of what a cgroup's limit
/// counts.
fn huge_pages(lab: &mut Lab<'_>) -> Result<()> {
    const SWITCH: &str = "/proc/sys/vm/nr_hugepages";
    let (count, page): (u32, usize) = (16, 2 << 20);
    std::fs::write(SWITCH, count.to_string()).context("set huge pages aside")?;
    let mut script = Script::default();
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | libc::MAP_HUGETLB;
    let arguments: [Value; 6] = [
        0.into(),
        page.into(),
        (PROT_READ | PROT_WRITE).into(),
        flags.into(),
        (-1).into(),
        0.into(),
    ];
    script.enter(Entry::Plain, libc::SYS_mmap as u64, &arguments, count);
    outside(&script, 0)?;
    let answer = lab.shared()?.ask(&script)?.context("the worker is gone");
    let ended = outside(&script, 0);
    std::fs::write(SWITCH, "0")?;
    let (answer, _) = answer?;
    ensure!(answer.results == [-i64::from(UNLISTED)], "results {:x?}", answer.results);
    ended
}

fn threads(lab: &mut Lab<'_>) -> Result<()> {
    const LIMIT: usize = 24;
    let thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    let mut script = Script::default();
    let arguments: [Value; 5] = [thread.into(), 0.into(), 0.into(), 0.into(), 0.into()];
    script.enter(Entry::Stay, libc::SYS_clone as u64, &arguments, 3 * LIMIT as u32);
    outside(&script, 1)?;
    let mut captive = lab.captive(&format!("pids = {LIMIT}"))?;
    let (answer, _) = captive.ask(&script)?.context("the worker is gone")?;
    let refused = -i64::from(libc::EAGAIN);
    ensure!(answer.results == [refused], "results {:?}", answer.results);
    let found = state::threads(&mut captive)?;
    ensure!(found == LIMIT, "{found} threads instead of {LIMIT}");
    captive.end()?.in_order()?;
    outside(&script, 1)
}

fn descriptors(lab: &mut Lab<'_>) -> Result<()> {
    let mut script = Script::default();
    let arguments: [Value; 3] = [0.into(), libc::F_DUPFD_CLOEXEC.into(), 0.into()];
    script.enter(Entry::Plain, libc::SYS_fcntl as u64, &arguments, 2_000_000);
    // Room for what comes next.
    call!(script, SYS_close, 300);
    outside(&script, -i64::from(libc::EMFILE))?;
    let mut captive = lab.doomed()?;
    let (answer, records) = captive.ask(&script)?.context("the worker is gone")?;
    ensure!(answer.results == [-i64::from(libc::EMFILE), 0], "results {:?}", answer.results);
    ensure!(records.is_empty(), "records {records:?}");
    captive.end()?.in_order()
}
