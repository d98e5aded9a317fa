//! No idea, but what one sees of a worker from outside: that every thread is in the same
//! confinement, that nothing is open that should not be, that it leaves no core, and that in the
//! end all is as it was.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use libc::SIGSEGV;
use wasi_guard_captive::{Value, call};

use super::struct_of;
use crate::captive::{Captive, is_artifact};
use crate::idea::{Draft, Idea};
use crate::outside;
use crate::scene::Scene;
use crate::trial::Lab;

/// Before the other ideas.
pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("every_thread_is_confined", |lab| threads(lab.shared()?).map(drop)),
        Idea::Case("a_worker_has_namespaces_of_its_own", namespaces),
        Idea::Case("a_worker_is_a_user_of_its_own", identity),
        Idea::Case("a_worker_has_no_descriptor_but_its_own", descriptors),
        Idea::Case("a_worker_dumps_no_core", core),
    ]
}

/// After all others.
pub(super) fn in_the_end(_: &Scene) -> Vec<Idea<'_>> {
    vec![Idea::Case("nothing_on_the_machine_has_changed", unchanged)]
}

/// Looks at every thread of a worker and says how many there are.
pub(super) fn threads(captive: &mut Captive) -> Result<usize> {
    /// The lines of a status, and what they must say.
    const LINES: [(&str, &str); 7] = [
        ("Seccomp", "2"),
        ("NoNewPrivs", "1"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ];
    let (worker, cgroup) = (captive.worker()?, captive.cgroup()?);
    let mut count = 0;
    for thread in fs::read_dir(format!("/proc/{worker}/task")).context("list the threads")? {
        let thread = thread?.path();
        let status = fs::read_to_string(thread.join("status"))?;
        for (name, expected) in LINES {
            let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
            let found = line.with_context(|| format!("{name} is not in a status"))?.trim();
            ensure!(found == expected, "{}: {name} is {found}", thread.display());
        }
        let place = fs::read_to_string(thread.join("cgroup"))?;
        let below = place.trim().strip_prefix("0::").context("it is in no cgroup")?;
        let path = format!("/sys/fs/cgroup{below}");
        ensure!(Path::new(&path) == cgroup, "{}: it is in {path}", thread.display());
        count += 1;
    }
    ensure!(count > 0, "it has no threads");
    Ok(count)
}

/// Workers of one caller share none with each other and none with the host; but the network where
/// their policy grants some.
fn namespaces(lab: &mut Lab<'_>) -> Result<()> {
    const KINDS: [&str; 6] = ["user", "mnt", "pid", "ipc", "uts", "net"];
    let of = |process: u32| -> Result<Vec<PathBuf>> {
        let link = |kind| fs::read_link(format!("/proc/{process}/ns/{kind}"));
        KINDS.iter().map(|kind| link(kind).with_context(|| format!("{process}: {kind}"))).collect()
    };
    let (mut first, mut second, mut online) = (lab.offline()?, lab.offline()?, lab.captive("")?);
    let found = [
        of(std::process::id())?,
        of(first.worker()?)?,
        of(second.worker()?)?,
        of(online.worker()?)?,
    ];
    for (index, kind) in KINDS.iter().enumerate() {
        let of_kind: Vec<_> = found.iter().map(|namespaces| &namespaces[index]).collect();
        let different = of_kind.iter().collect::<HashSet<_>>().len();
        let expected = if *kind == "net" { 3 } else { 4 };
        ensure!(different == expected, "{kind}: {of_kind:?}");
    }
    ensure!(found[3][5] == found[0][5], "a granted address is on another network");
    first.end()?.in_order()?;
    second.end()?.in_order()?;
    online.end()?.in_order()
}

/// A user of its own, in all but what concerns files.
fn identity(lab: &mut Lab<'_>) -> Result<()> {
    let of = |process: u32, line: &str| -> Result<Vec<u32>> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let numbers =
            status.lines().find_map(|it| it.strip_prefix(line)).context("no such line")?;
        Ok(numbers.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    };
    let (mut first, mut second) = (lab.captive("")?, lab.captive("")?);
    let mut seen = HashSet::from([0]);
    for worker in [first.worker()?, second.worker()?] {
        for line in ["Uid:", "Gid:"] {
            let ids = of(worker, line)?;
            let own = ids[0];
            ensure!(ids == [own, own, own, 0], "{line} {ids:?}");
            ensure!(own >= 0x7000_0000, "{line} {ids:?}");
        }
        let user = of(worker, "Uid:")?[0];
        ensure!(seen.insert(user), "{user} is somebody else's as well: {seen:?}");
    }
    first.end()?.in_order()?;
    second.end()?.in_order()
}

/// Pipes and sockets of the caller, the control socket, the event loop, the directory of the policy,
/// the guest's compiled code: nothing else.
fn descriptors(lab: &mut Lab<'_>) -> Result<()> {
    let captive = lab.shared()?;
    let worker = captive.worker()?;
    let data = Scene::text("data");
    let mut sockets = 0;
    for entry in fs::read_dir(format!("/proc/{worker}/fd")).context("list the descriptors")? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().into_owned();
        let target = fs::read_link(entry.path())?.to_string_lossy().into_owned();
        let known = match number.as_str() {
            "0" | "1" => target.starts_with("pipe:"),
            _ if target.starts_with("socket:") => {
                sockets += 1;
                true
            }
            _ => target == data || target.starts_with("anon_inode:[event") || is_artifact(&target),
        };
        ensure!(known, "descriptor {number} is {target}");
    }
    // Stderr, the control socket, and what the event loop wakes itself for signals with.
    ensure!(sockets <= 4, "it has {sockets} sockets");
    Ok(())
}

fn core(lab: &mut Lab<'_>) -> Result<()> {
    const PATTERN: &str = "/proc/sys/kernel/core_pattern";
    let cores = || -> Result<usize> {
        let entries = fs::read_dir(Scene::path("")).context("list the folder")?.flatten();
        Ok(entries.filter(|it| it.file_name().as_encoded_bytes().starts_with(b"core.")).count())
    };
    let before = fs::read(PATTERN).context("read the pattern of cores")?;
    fs::write(PATTERN, Scene::text("core.%P"))?;
    let result = (|| {
        let (script, _) = Draft::write(true, &crash);
        let (_, status) = outside::run(&script)?;
        ensure!(
            status.signal() == Some(SIGSEGV) && cores()? == 1,
            "where nothing guards: {status}"
        );
        let mut captive = lab.doomed()?;
        if captive.ask(&Draft::write(false, &crash).0)?.is_some() {
            bail!("the worker lives");
        }
        captive.end()?.by_signal(&[SIGSEGV])?;
        ensure!(cores()? == 1, "the worker has left a core");
        let (_, status) = outside::run(&script)?;
        ensure!(cores()? == 2, "where nothing guards, the second time: {status}");
        Ok(())
    })();
    fs::write(PATTERN, before)?;
    result
}

/// An end that dumps core, where one may: no memory is left to go on with. Signals to itself would
/// not end a worker, which is the first process of its pid namespace.
fn crash(d: &mut Draft) -> Value {
    /// `TASK_SIZE_MAX` (asm/page_64_types.h).
    const ALL: i64 = 0x7fff_ffff_f000;
    let much = struct_of(d, 16, &[(0, u64::MAX.into()), (8, u64::MAX.into())]);
    call!(d, SYS_prlimit64, 0, libc::RLIMIT_CORE, much, 0);
    call!(d, SYS_munmap, 0, ALL)
}

fn unchanged(lab: &mut Lab<'_>) -> Result<()> {
    for name in
        ["outside/secret", "outside/fence", "data/open", "data/out/mine", "data/secret/plan"]
    {
        let text = fs::read_to_string(Scene::path(name)).with_context(|| name.to_owned())?;
        ensure!(text == name, "{name} holds {text:?}");
    }
    for (folder, expected) in [("outside/folder", 0), ("data/out", 1), ("data", 3), ("outside", 4)]
    {
        let found = fs::read_dir(Scene::path(folder))?.flatten();
        // What ideas leave behind where nothing guards has this name.
        let found = found.filter(|it| it.file_name() != "unused").count();
        ensure!(found == expected, "{folder} has {found} entries");
    }
    ensure!(lab.scene.victim.secret()? == outside::SECRET, "the victim's secret has changed");
    Ok(())
}
