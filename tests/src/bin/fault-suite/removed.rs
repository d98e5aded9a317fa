//! What guests stand on is taken away while they run.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::UnmountFlags;
use wasi_guard_enforce::programs::{BPFFS, Build};

use crate::{
    Case, left,
    supervisor::{self, Live, Until},
    whole,
};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("the_cgroup_of_a_guest_cannot_be_removed", cgroup_stays),
        Case::new("a_guest_that_is_moved_out_of_its_cgroup_is_ended", moved_out),
        Case::new("the_program_is_exchanged_under_a_guest", exchanged),
        Case::new("a_guest_is_guarded_while_bpffs_is_gone", bpffs_gone),
    ]
}

/// A guest that runs, its cgroup and its process.
fn live() -> Result<(Live, String, String)> {
    let mut live = Live::start(None, Until::Told, &Build::this(false))?;
    let cgroup = live.word("cgroup")?;
    let worker = live.word("worker")?;
    Ok((live, cgroup, worker))
}

fn cgroup_stays() -> Result<()> {
    let (live, cgroup, _) = live()?;
    let error = fs::remove_dir(&cgroup).err().context("the cgroup is gone")?;
    ensure!(error.raw_os_error() == Some(libc::EBUSY), "{error}");
    // The prober tries on.
    std::thread::sleep(Duration::from_millis(50));
    live.end()?.lived()?;
    left::nothing()
}

/// Only root can: it is the host's administrator who does it. The supervisor sees that the cgroup is
/// empty and ends a worker that is still there.
fn moved_out() -> Result<()> {
    let mut child = Command::new("wasi-guard-faults")
        .args(["run", "/guests/endless.wasm", "wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let cgroup =
        format!("/sys/fs/cgroup/wasi-guard-{}/guest-{}-0", Build::this(false).short(), child.id());
    // Before the guest runs, the self-test refuses a worker that was moved.
    let mut said = String::new();
    let stdout = child.stdout.take().context("it has no stdout")?;
    BufReader::new(stdout).read_line(&mut said)?;
    ensure!(said == "started\n", "{said:?}");
    let procs = fs::read_to_string(Path::new(&cgroup).join("cgroup.procs"))?;
    fs::write("/sys/fs/cgroup/cgroup.procs", procs.trim()).context("move the worker out")?;
    let start = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > Duration::from_secs(60) {
            child.kill()?;
            bail!("the worker runs on outside");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut errors = String::new();
    child.stderr.take().context("it has no stderr")?.read_to_string(&mut errors)?;
    ensure!(
        status.code() == Some(137) && errors.contains("no longer in its cgroup"),
        "{status}: {errors}"
    );
    left::wait_for_the_end_of("wasi-guard-faults")?;
    left::nothing()
}

/// An update: another file under the program's name, by a rename or made anew. The guest goes on,
/// guarded, by the old one; the next one starts by the new one.
fn exchanged() -> Result<()> {
    const PROGRAM: &str = "/usr/local/bin/wasi-guard-faults";
    const READ: [&str; 2] = ["read /d/yes: granted\n", "read /d/no: EACCES\n"];
    whole::prepare()?;
    let folder = Path::new("/tmp/fault-suite/installed");
    fs::create_dir_all(folder)?;
    let installed = folder.join("wasi-guard-faults");
    fs::copy(PROGRAM, &installed)?;
    fs::copy(format!("{PROGRAM}-worker"), folder.join("wasi-guard-faults-worker"))?;
    let begin = |words: &[&str]| {
        let mut command = Command::new(&installed);
        command.args(["run", "--policy", &format!("{}/p.toml", whole::FOLDER)]);
        command.args(["--cache", &format!("{}/cache", whole::FOLDER), "/guests/files.wasm"]);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("start the installed program")
    };
    let read = ["read", "/d/yes", "read", "/d/no"];
    let pause = ["pause", "x"];
    let mut guest = begin(&[&read[..], &pause, &read, &pause, &read].concat())?;
    let mut stdin = guest.stdin.take().context("it has no stdin")?;
    let mut lines = BufReader::new(guest.stdout.take().context("it has no stdout")?);
    let mut hears = |expected: &str| -> Result<()> {
        let mut said = String::new();
        lines.read_line(&mut said)?;
        ensure!(said == expected, "the guest says {said:?}, not {expected:?}");
        Ok(())
    };
    READ.iter().try_for_each(|line| hears(line)).context("before")?;
    let busy = fs::OpenOptions::new().write(true).open(&installed).err();
    let busy = busy.context("a program that runs can be written")?;
    ensure!(busy.raw_os_error() == Some(libc::ETXTBSY), "{busy}");
    for by_rename in [true, false] {
        let before = fs::metadata(&installed)?.ino();
        let new = folder.join("new");
        // What stands behind the program's end is nothing to it, but tells the files apart.
        fs::write(&new, [fs::read(PROGRAM)?, vec![u8::from(by_rename)]].concat())?;
        fs::set_permissions(&new, fs::metadata(PROGRAM)?.permissions())?;
        if by_rename {
            fs::rename(&new, &installed)?;
        } else {
            fs::remove_file(&installed)?;
            fs::copy(&new, &installed)?;
        }
        ensure!(fs::metadata(&installed)?.ino() != before, "it is the same file");
        stdin.write_all(b"x")?;
        hears("pause x: ok\n")?;
        READ.iter().try_for_each(|line| hears(line)).context("after")?;
        let next = begin(&read)?.wait_with_output()?;
        let said = String::from_utf8_lossy(&next.stdout);
        ensure!(next.status.success() && said == READ.concat(), "the new program: {next:?}");
    }
    ensure!(guest.wait()?.success(), "the guest ends in another way");
    left::nothing()
}

fn bpffs_gone() -> Result<()> {
    let (first, _, _) = live()?;
    let pins = fs::read_dir(BPFFS)?.count();
    ensure!(pins > 0, "nothing is pinned");
    // Another mount of the same file system would keep it; there is none in this machine.
    rustix::mount::unmount(BPFFS, UnmountFlags::DETACH).context("unmount bpffs")?;
    let refused = Command::new("wasi-guard-faults").args(["run", "/guests/hello.wasm"]).output()?;
    let mounted =
        rustix::mount::mount("bpf", BPFFS, "bpf", rustix::mount::MountFlags::empty(), None);
    mounted.context("mount bpffs again")?;
    let errors = String::from_utf8_lossy(&refused.stderr);
    ensure!(
        refused.status.code() == Some(125) && errors.contains("the layer `bpffs` is missing"),
        "{refused:?}"
    );
    // Fresh programs beside those that the first supervisor still holds. Both sets see all guests,
    // and each denies what it does not know: the first guest is denied everything from here on, and
    // a new one cannot start as long as the first runs.
    let second = supervisor::run(None, Until::End)?;
    ensure!(second.status.code() == Some(2), "two sets of programs: {second:?}");
    ensure!(second.errors.contains("Permission denied"), "{second:?}");
    first.end()?.lived().context("the guest from before")?;
    left::nothing()?;
    supervisor::works(&Build::this(false)).context("a start on a new bpffs")?;
    left::nothing()
}
