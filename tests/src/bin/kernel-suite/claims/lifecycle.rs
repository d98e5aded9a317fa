//! Beginnings and ends: nothing is left behind, and nobody outlives the supervisor.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader},
    os::fd::AsFd as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Barrier,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use wasi_guard_enforce::{cgroup::Limits, guest::Guest, programs::Build};
use wasi_guard_tests::actor::own_program;
use wasi_guard_tests::{
    actor::{Actor, describe},
    operation::{Answer, Do, Then, at},
};

use super::cases;
use crate::{
    lab::Lab,
    stage::{Setup, Stage, open_path},
};

cases![
    a_dropped_guest_leaves_nothing,
    an_ended_guest_leaves_nothing_but_processes_that_end,
    who_waits_for_the_kernel_is_let_go,
    a_thousand_guests_at_work_leave_nothing,
    a_killed_supervisor_takes_its_guest_along_and_the_next_start_cleans_up,
    limits_are_set_on_the_cgroup,
    the_cgroups_of_guests_are_closed_to_other_users,
    taking_the_pins_loads_nothing_new,
    no_program_comes_near_the_limit_of_the_verifier,
];

const R: u32 = libc::O_RDONLY as u32;
const POLICY: &str = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"yes\"]\n";
const TREE: &[&str] = &["data/yes", "data/no"];

/// What a guest leaves if it leaves something: map entries, cgroups and pinned tables.
fn left(stage: &Stage) -> Result<(BTreeSet<u64>, BTreeSet<PathBuf>, Vec<PathBuf>)> {
    let parent = stage.guest.path().parent().context("a parent")?;
    let mut cgroups = BTreeSet::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        if path.is_dir() {
            cgroups.insert(path);
        }
    }
    let pins = stage.guest.pins();
    Ok((pins.guests().into_iter().collect(), cgroups, pins.pinned_tables()))
}

fn the_cgroups_of_guests_are_closed_to_other_users(lab: &Lab) -> Result<()> {
    let mode =
        |path: &Path| Ok::<_, anyhow::Error>(fs::metadata(path)?.permissions().mode() & 0o777);
    let first = lab.stage(POLICY, TREE)?;
    let parent = first.guest.path().parent().context("a parent")?.to_path_buf();
    ensure!(mode(&parent)? == 0o700, "{:o}", mode(&parent)?);
    // One that an older release made is closed by the next start.
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o755))?;
    let _second = lab.stage(POLICY, TREE)?;
    ensure!(mode(&parent)? == 0o700, "{:o}", mode(&parent)?);
    Ok(())
}

fn a_dropped_guest_leaves_nothing(lab: &Lab) -> Result<()> {
    let first = lab.stage(POLICY, TREE)?;
    let before = left(&first)?;
    let second = lab.stage(POLICY, TREE)?;
    let during = left(&first)?;
    let (id, path) = (second.guest.id(), second.guest.path().to_path_buf());
    ensure!(during.0.contains(&id) && during.1.contains(&path), "not there: {during:?}");
    let Stage { guest, inside, .. } = second;
    // The actor still runs: the end of the guest is its end.
    drop(guest);
    ensure!(left(&first)? == before, "left: {:?}", left(&first)?);
    let ended = inside.wait()?;
    ensure!(ended == wasi_guard_enforce::spawn::Ended::Killed(libc::SIGKILL), "{ended:?}");
    Ok(())
}

fn an_ended_guest_leaves_nothing_but_processes_that_end(lab: &Lab) -> Result<()> {
    let first = lab.stage(POLICY, TREE)?;
    let before = left(&first)?;
    let Stage { guest, inside, .. } = lab.stage(POLICY, TREE)?;
    let (id, path) = (guest.id(), guest.path().to_path_buf());
    let mut children = children()?;
    guest.end();
    let after = left(&first)?;
    ensure!(after == before, "left: {after:?}");
    ensure!(!after.0.contains(&id) && !path.exists(), "{id} is still there");
    inside.wait()?;
    let new: Vec<_> = self::children()?.difference(&children).copied().collect();
    ensure!(new.len() == 2, "{new:?} wait");
    for pid in new {
        let pid = rustix::process::Pid::from_raw(pid).context("a pid")?;
        let (_, status) =
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?
                .context("the end of a process")?;
        ensure!(status.exit_status() == Some(0), "{status:?}");
    }
    children.retain(|pid| Path::new(&format!("/proc/{pid}")).exists());
    ensure!(self::children()? == children, "others wait");
    Ok(())
}

/// A guest that runs on does not keep the processes that brought its entries into the maps.
fn who_waits_for_the_kernel_is_let_go(lab: &Lab) -> Result<()> {
    let before = children()?;
    let mut stage = lab.stage(POLICY, TREE)?;
    let with = children()?;
    nobody_waits(&mut stage.guest)?;
    let new: BTreeSet<i32> = children()?.difference(&before).copied().collect();
    // Nobody has waited for the actors, who run: those that are gone were the others.
    let actors = [stage.inside.pid(), stage.outside.pid()];
    ensure!(new.iter().all(|pid| actors.contains(&pid.cast_unsigned())), "{new:?}, not {actors:?}");
    ensure!(with.is_superset(&new), "{new:?}, not {with:?}");
    stage.allowed(&Do::Open(at(0, "yes"), R, Then::Close)).map(drop)
}

/// The children of this thread's process that it began itself.
fn children() -> Result<BTreeSet<i32>> {
    let mut all = BTreeSet::new();
    for task in fs::read_dir("/proc/self/task").context("list the threads")?.flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(all)
}

/// What this process has: descriptors by what they are, and children.
fn owned() -> Result<(BTreeMap<PathBuf, usize>, usize)> {
    let mut descriptors = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")?.flatten() {
        // The listing's own is closed by now.
        if let Ok(what) = fs::read_link(entry.path()) {
            *descriptors.entry(what).or_default() += 1;
        }
    }
    let me = std::process::id();
    let children = fs::read_to_string(format!("/proc/{me}/task/{me}/children"))?;
    Ok((descriptors, children.split_whitespace().count()))
}

/// Waits until the kernel has ended the calls that made a guest's entries.
fn nobody_waits(guest: &mut Guest) -> Result<()> {
    let begun = Instant::now();
    while guest.waiting().next().is_some() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "they wait for more than a minute");
        std::thread::sleep(Duration::from_millis(1));
        guest.settle();
    }
    Ok(())
}

/// In waves: two hundred live at the same moment, as many as the machine has memory for.
fn a_thousand_guests_at_work_leave_nothing(lab: &Lab) -> Result<()> {
    const WAVES: usize = 5;
    const THREADS: usize = 8;
    const EACH: usize = 25;
    let mut first = lab.stage(POLICY, TREE)?;
    first.reset()?;
    let (barrier, build) = (Barrier::new(THREADS), &lab.build);
    let policy = crate::stage::load(&format!("version = 1\n{POLICY}"))?;
    let root = open_path(&first.roots[0])?;
    nobody_waits(&mut first.guest)?;
    let (before, had) = (left(&first)?, owned()?);
    let begin = || -> Result<(Guest, Actor)> {
        let mut guest =
            Guest::create(build, &Limits::default(), 4096, &own_program()?).map_err(describe)?;
        let mut table = wasi_guard_policy::compile(&policy, &Default::default())?;
        guest.root(&mut table, 0, root.as_fd()).map_err(describe)?;
        let actor = Actor::inside(&mut guest, &[(root.as_fd(), 0)])?;
        guest.arm(&table).map_err(describe)?;
        Ok((guest, actor))
    };
    let work = |guest: &mut Guest, actor: &Actor| -> Result<()> {
        let open = |name: &str| Do::Open(at(0, name), R, Then::Close);
        let seen = |guest: &mut Guest| -> Result<(u64, u64)> {
            let records = guest.records().context("records")?.count();
            Ok((records as u64, guest.counts().denied))
        };
        // What the actor was denied before the policy was in force.
        let (_, earlier) = seen(guest)?;
        let allowed = actor.ask(&open("yes"))?;
        ensure!(matches!(allowed, Answer::Done(_)), "allowed: {allowed:?}");
        let denied = actor.ask(&open("no"))?;
        ensure!(denied == Answer::Failed(0, libc::EACCES), "denied: {denied:?}");
        let (records, denied) = seen(guest)?;
        ensure!((records, denied - earlier) == (1, 1), "{records} records, {denied} denials");
        Ok(())
    };
    let wave = || -> Result<Vec<u64>> {
        let guests: Result<Vec<(Guest, Actor)>> = (0..EACH).map(|_| begin()).collect();
        // All of them live at this moment, or the test would show less than it says.
        barrier.wait();
        let known = guests.as_ref().ok().and_then(|guests| guests.first());
        let known = known.map_or(0, |(guest, _)| guest.pins().guests().len());
        barrier.wait();
        let mut guests = guests?;
        ensure!(known >= THREADS * EACH, "only {known} entries");
        for (guest, actor) in &mut guests {
            work(guest, actor)?;
        }
        Ok(guests.iter().map(|(guest, _)| guest.id()).collect())
    };
    let mut ids = BTreeSet::new();
    for _ in 0..WAVES {
        let found = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(wave)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
                .collect::<Result<Vec<Vec<u64>>>>()
        })?;
        ids.extend(found.into_iter().flatten());
        ensure!(left(&first)? == before, "left: {:?}, before {before:?}", left(&first)?);
        ensure!(owned()? == had, "descriptors and processes: {:?}, before {had:?}", owned()?);
    }
    ensure!(ids.len() == WAVES * THREADS * EACH, "{} different guests", ids.len());
    Ok(())
}

/// The policy of a supervisor that is there to be killed: its table is shared with nobody.
const ITS_POLICY: &str =
    "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"yes\", \"perhaps\"]\n";
/// argv[0] of that supervisor.
const SUPERVISOR: &str = "kernel-suite-supervisor";

/// Plays the supervisor if this process was started as one: makes a guest in the directory of
/// its argument, says its id, cgroup and the actor's pid, and waits for its end.
pub(crate) fn serve_if_asked() -> Result<bool> {
    let mut arguments = std::env::args_os();
    if arguments.next().is_none_or(|name| name != SUPERVISOR) {
        return Ok(false);
    }
    let base = PathBuf::from(arguments.next().context("the supervisor's directory")?);
    let root = base.join("data");
    let policy = crate::stage::load(&format!("version = 1\n{ITS_POLICY}"))?;
    let fd = open_path(&root)?;
    let build = Build::this(false);
    let mut guest =
        Guest::create(&build, &Limits::default(), 4096, &own_program()?).map_err(describe)?;
    let mut table = wasi_guard_policy::compile(&policy, &Default::default())?;
    let fd = std::os::fd::AsFd::as_fd(&fd);
    guest.root(&mut table, 0, fd).map_err(describe)?;
    let actor = Actor::inside(&mut guest, &[(fd, 0)])?;
    guest.arm(&table).map_err(describe)?;
    let answer = actor.ask(&Do::Open(at(0, "no"), R, Then::Close))?;
    ensure!(answer == Answer::Failed(0, libc::EACCES), "not guarded: {answer:?}");
    println!("{} {} {}", guest.id(), actor.pid(), guest.path().display());
    loop {
        std::thread::park();
    }
}

fn alive(pid: u32) -> bool {
    // A zombie that nobody has waited for yet runs no more.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

fn a_killed_supervisor_takes_its_guest_along_and_the_next_start_cleans_up(lab: &Lab) -> Result<()> {
    let mut stage = Setup::new(lab.directory()?, POLICY, TREE).start(lab)?;
    stage.reset()?;
    let before = left(&stage)?;
    let mut supervisor = Command::new("/proc/self/exe")
        .arg0(SUPERVISOR)
        .arg(&stage.base)
        .stdout(Stdio::piped())
        .spawn()
        .context("start a supervisor")?;
    let mut line = String::new();
    let output = supervisor.stdout.take().context("its output")?;
    BufReader::new(output).read_line(&mut line)?;
    let mut fields = line.trim_end().splitn(3, ' ');
    let mut field = || fields.next().with_context(|| format!("the supervisor said {line:?}"));
    let id: u64 = field()?.parse()?;
    let pid: u32 = field()?.parse()?;
    let cgroup = Path::new(field()?).to_path_buf();
    ensure!(alive(pid) && cgroup.is_dir(), "no actor {pid} or no cgroup {}", cgroup.display());

    supervisor.kill()?;
    supervisor.wait()?;
    let start = Instant::now();
    while alive(pid) {
        ensure!(start.elapsed() < Duration::from_secs(10), "the actor {pid} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The policy stays in force without the supervisor, until the next start.
    ensure!(stage.guest.pins().guests().contains(&id), "the entry went by itself?");
    ensure!(left(&stage)?.2.len() == before.2.len() + 1, "the table went by itself?");
    let next = lab.stage(POLICY, TREE)?;
    ensure!(!next.guest.pins().guests().contains(&id), "the entry is still there");
    ensure!(!cgroup.exists(), "{} is still there", cgroup.display());
    drop(next);
    ensure!(left(&stage)? == before, "left: {:?}", left(&stage)?);
    // Others were not touched.
    stage.allowed(&Do::Open(at(0, "yes"), R, Then::Close)).map(drop)
}

fn limits_are_set_on_the_cgroup(lab: &Lab) -> Result<()> {
    let (memory, cpu, pids) = (Some(64 << 20), Some(0.5), Some(3));
    let limits = Limits { memory, cpu, pids, ..Limits::default() };
    let guest = Guest::create(&lab.build, &limits, 4096, &own_program()?).map_err(describe)?;
    for (file, value) in
        [("memory.max", "67108864"), ("cpu.max", "50000 100000"), ("pids.max", "3")]
    {
        let is = fs::read_to_string(guest.path().join(file)).with_context(|| file.to_owned())?;
        ensure!(is.trim() == value, "{file} is {is:?}");
    }
    Ok(())
}

fn taking_the_pins_loads_nothing_new(lab: &Lab) -> Result<()> {
    let stage = lab.stage(POLICY, TREE)?;
    let links = || -> Result<BTreeSet<PathBuf>> {
        let entries = fs::read_dir(stage.guest.pins().dir())?;
        let mut pins: BTreeSet<PathBuf> =
            entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        // Tables of policies come and go with guests.
        for table in stage.guest.pins().pinned_tables() {
            pins.remove(&table);
        }
        Ok(pins)
    };
    let (attached, before) = (stage.guest.pins().attached(), links()?);
    let again = lab.stage(POLICY, TREE)?;
    ensure!(again.guest.pins().attached() == attached && links()? == before, "other pins");
    Ok(())
}

/// A small change of one program can multiply what the verifier follows in another.
fn no_program_comes_near_the_limit_of_the_verifier(lab: &Lab) -> Result<()> {
    /// `BPF_COMPLEXITY_LIMIT_INSNS` (linux/bpf.h).
    const LIMIT: u32 = 1_000_000;
    let stage = lab.stage(POLICY, TREE)?;
    let mut verified = stage.guest.pins().verified()?;
    verified.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let most: Vec<String> =
        verified.iter().take(6).map(|(hook, count)| format!("{hook} {count}")).collect();
    println!("# instructions followed by the verifier: {}", most.join(", "));
    ensure!(verified.len() == stage.guest.pins().attached(), "{verified:?}");
    ensure!(verified.iter().all(|(_, count)| (1..LIMIT / 3).contains(count)), "{verified:?}");
    Ok(())
}
