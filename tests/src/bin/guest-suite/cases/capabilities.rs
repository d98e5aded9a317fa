//! wasi-guard as another user than root, with capabilities of the file or of the service.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Gid, Uid, XattrFlags, removexattr, setxattr};
use rustix::process::Signal;
use rustix::thread::{self, CapabilitySet, CapabilitySets};

use crate::Case;
use crate::lab::{Folder, Lab, processes};
use crate::program::{Outcome, Program, guarded, program};

pub(super) const CASES: &[Case] = &[
    Case { name: "file_capabilities", run: file_capabilities },
    Case { name: "ambient_capabilities", run: ambient_capabilities },
];

const USER: u32 = 1000;
/// A copy that has capabilities, and its worker, which has none.
const COPY: &str = "/usr/local/bin/wasi-guard-by-user";
const WORKER: &str = "/usr/local/bin/wasi-guard-worker";
const WORKER_COPY: &str = "/usr/local/bin/wasi-guard-by-user-worker";
/// The least that a run takes, as docs/host-setup.md lists it, with the numbers of
/// uapi/linux/capability.h.
const LEAST: [(&str, u32); 5] = [
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// A program of root's that is no worker.
const OTHER: &str = "/usr/local/bin/guest-suite";

/// Gives the copy these capabilities.
fn grant(capabilities: impl Iterator<Item = u32>) -> Result<()> {
    grant_to(COPY, capabilities)
}

/// Gives a program these capabilities, permitted and effective (`struct vfs_cap_data`, version 2).
fn grant_to(program: &str, capabilities: impl Iterator<Item = u32>) -> Result<()> {
    const VERSION_2: u32 = 0x0200_0000;
    const EFFECTIVE: u32 = 1;
    let set = capabilities.fold(0_u64, |set, capability| set | 1 << capability);
    let (low, high) = (set as u32, (set >> 32) as u32);
    let mut value = Vec::new();
    for word in [VERSION_2 | EFFECTIVE, low, 0, high, 0] {
        value.extend(word.to_le_bytes());
    }
    setxattr(program, "security.capability", &value, XattrFlags::empty()).context("setxattr")
}

fn as_user(folder: &Folder, arguments: &[&str]) -> Program {
    let cache = folder.text("cache");
    let mut words = vec!["run", "--cache", &cache];
    words.extend(arguments);
    let mut program = program(COPY, &words);
    program.command.uid(USER).gid(USER).current_dir("/");
    program
}

/// A folder of the user's with a policy, a file of his that it grants, one that it does not, and
/// one that it grants and he may not read.
fn folder_of_user(lab: &Lab) -> Result<Folder> {
    let folder = lab.folder()?;
    folder.file(
        "policy.toml",
        "version = 1\n[[preopen]]\nguest = \"/d\"\nhost = \"data\"\nread = [\"own\", \"roots\"]\n\
         write = [\"new\"]\ncreate = [\"new\"]\n",
    )?;
    for name in ["own", "no", "roots"] {
        folder.file(&format!("data/{name}"), format!("text of {name}"))?;
        fs::set_permissions(
            folder.path(&format!("data/{name}")),
            PermissionsExt::from_mode(0o600),
        )?;
    }
    folder.directory("cache")?;
    fs::set_permissions(folder.path("cache"), PermissionsExt::from_mode(0o700))?;
    for name in ["policy.toml", "data", "data/own", "data/no", "cache"] {
        chown(folder.path(name), Some(USER), Some(USER)).with_context(|| name.to_owned())?;
    }
    Ok(folder)
}

/// What the guest tries there, and what it prints.
const WORDS: [&str; 9] =
    ["/guests/files.wasm", "read", "/d/own", "read", "/d/no", "read", "/d/roots", "make", "/d/new"];
const PRINTED: &str = "read /d/own: text of own\nread /d/no: EACCES\nread /d/roots: EACCES\n\
                       make /d/new: ok\n";

/// It ended as it should: files were reached as the user.
fn check_files(folder: &Folder, outcome: &Outcome) -> Result<()> {
    outcome.exits(0)?.prints(PRINTED)?;
    // What the user may not read is the file system's affair.
    let denied = outcome.of_kind("denial");
    ensure!(denied.len() == 1 && denied[0]["path"] == "/d/no", "{outcome:?}");
    let made = fs::metadata(folder.path("data/new"))?;
    ensure!((made.uid(), made.gid()) == (USER, USER), "the new file is {}'s", made.uid());
    fs::remove_file(folder.path("data/new")).context("remove the new file")
}

/// Whoever may execute the program may give it other names, but not another worker. Works under
/// another name in a directory of root's, refused in one of the user's, works again.
fn workers_of_users(folder: &Folder, all: &[&str]) -> Result<()> {
    // Of the same file system, or there is no hard link.
    let near = Path::new("/usr/local/bin/of-a-user");
    fs::create_dir(near)?;
    let (link, worker) = (near.join("wg"), near.join("wg-worker"));
    fs::hard_link(COPY, &link).context("give the program another name")?;
    let run = || {
        let mut words = vec!["run".to_owned(), "--cache".to_owned(), folder.text("cache")];
        words.extend(all.iter().map(|word| (*word).to_owned()));
        let mut program = program(&link.display().to_string(), &words);
        program.command.uid(USER).gid(USER).current_dir("/");
        program.finish()
    };
    fs::hard_link(WORKER_COPY, &worker).context("give its worker another name")?;
    check_files(folder, &run()?)?;
    chown(near, Some(USER), Some(USER))?;
    run()?.exits(125)?.prints("")?.says("its directory belongs to the user 1000")?;
    fs::remove_file(&worker)?;
    fs::copy(OTHER, &worker).context("make a worker of the user's own")?;
    chown(&worker, Some(USER), Some(USER))?;
    run()?.exits(125)?.prints("")?.says("it belongs to the user 1000")?;
    fs::remove_file(&worker)?;
    symlink(OTHER, &worker)?;
    run()?.exits(125)?.prints("")?.says("its directory belongs to the user 1000")?;
    fs::remove_file(&worker)?;
    run()?.exits(125)?.prints("")?.says("No such file")?;
    chown(near, Some(0), Some(0))?;
    fs::hard_link(WORKER_COPY, &worker).context("give its worker another name again")?;
    check_files(folder, &run()?)?;
    fs::remove_dir_all(near).context("remove the other names")
}

/// Files are reached as the user, whatever wasi-guard itself may; each capability is needed.
fn file_capabilities(lab: &Lab) -> Result<()> {
    fs::copy("/usr/local/bin/wasi-guard", COPY).context("copy wasi-guard")?;
    fs::copy(WORKER, WORKER_COPY).context("copy its worker")?;
    let folder = folder_of_user(lab)?;
    let policy = folder.text("policy.toml");
    let all = [&["--policy", &policy][..], &WORDS, &["x"]].concat();

    // Loads the programs anew.
    guarded(&["unload"]).finish()?.exits(0)?;
    grant(LEAST.iter().map(|(_, number)| *number))?;
    check_files(&folder, &as_user(&folder, &all).finish()?)?;
    lab.check_clean()?;

    // Nobody can have the capabilities used for orders of his own: a worker, which takes them, takes
    // none if somebody gave it capabilities as well.
    let by_hand = || {
        let mut worker = program(WORKER_COPY, &[] as &[&str]);
        worker.command.uid(USER).gid(USER);
        worker.finish()
    };
    by_hand()?.exits(125)?.says("take over the control socket")?;
    grant_to(WORKER_COPY, LEAST.iter().map(|(_, number)| *number))?;
    by_hand()?.exits(125)?.says("the executable gave it capabilities")?;
    removexattr(WORKER_COPY, "security.capability").context("removexattr")?;
    by_hand()?.exits(125)?.says("take over the control socket")?;
    workers_of_users(&folder, &all)?;

    // What the cgroup of its guest tells is read as root.
    let limited =
        folder.file("limited.toml", "version = 1\n[limits]\ncpu = 0.2\ntime = \"2s\"\n")?;
    let outcome =
        as_user(&folder, &["--policy", &limited, "/guests/endless.wasm", "compute"]).finish()?;
    outcome.exits(134)?;
    ensure!(outcome.of_kind("limit")[0]["limit"] == "cpu", "{outcome:?}");

    // Its own files are not reached with more than the user's rights.
    let audit = folder.text("data/roots");
    let outcome = as_user(&folder, &[&["--audit", &audit], &all[..]].concat()).finish()?;
    outcome.exits(125)?.prints("")?.says("open the audit file")?;
    folder.holds("data/roots", "text of roots")?;
    chown(folder.path("policy.toml"), Some(0), Some(0))?;
    fs::set_permissions(folder.path("policy.toml"), PermissionsExt::from_mode(0o600))?;
    as_user(&folder, &all).finish()?.exits(125)?.prints("")?.says("Permission denied")?;
    chown(folder.path("policy.toml"), Some(USER), Some(USER))?;

    for (left_out, number) in LEAST {
        grant(LEAST.iter().map(|(_, it)| *it).filter(|it| *it != number))?;
        as_user(&folder, &all).finish()?.exits(125)?.prints("")?.says(left_out)?;
    }
    grant(LEAST.iter().map(|(_, number)| *number))?;
    check_files(&folder, &as_user(&folder, &all).finish()?)?;
    // And root goes on with what the user has made.
    guarded(&["run", "/guests/hello.wasm"]).finish()?.exits(0)?.prints("hello\n")?;
    lab.check_clean()?;
    guarded(&["unload"]).finish()?.exits(0)?;
    fs::remove_file(WORKER_COPY).context("remove the worker's copy")?;
    fs::remove_file(COPY).context("remove the copy")
}

/// How this program starts another in the way of a service manager; see [`serve_if_asked`].
const AS_SERVICE: &str = "--as-service";

/// If this process was started for it: becomes the user, with the capabilities that the second
/// argument names by their bits, permitted, inheritable and ambient, as systemd does it for
/// `User=` and `AmbientCapabilities=`, and executes the rest of the arguments.
pub(crate) fn serve_if_asked() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(AS_SERVICE) {
        return Ok(());
    }
    let bits = arguments.next().context("the capabilities")?.parse().context("a number")?;
    let set = CapabilitySet::from_bits_retain(bits);
    let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
    thread::set_thread_groups(&[])?;
    thread::set_thread_res_gid(group, group, group)?;
    thread::set_keep_capabilities(true)?;
    thread::set_thread_res_uid(user, user, user)?;
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: set };
    thread::set_capabilities(None, sets).context("capset")?;
    for capability in set.iter() {
        thread::configure_capability_in_ambient_set(capability, true).context("raise")?;
    }
    let program = arguments.next().context("a program")?;
    Err(Command::new(&program).args(arguments).exec()).with_context(|| format!("start {program}"))
}

/// wasi-guard as a service of the user, with these capabilities.
fn as_service(folder: &Folder, capabilities: u64, arguments: &[&str]) -> Program {
    let (bits, cache) = (capabilities.to_string(), folder.text("cache"));
    let words = [AS_SERVICE, &bits, "/usr/local/bin/wasi-guard", "run", "--cache", &cache];
    let mut program = program("/proc/self/exe", &[&words[..], arguments].concat());
    program.command.current_dir("/");
    program
}

/// The same by `AmbientCapabilities=`; the guest's process has nothing of them.
fn ambient_capabilities(lab: &Lab) -> Result<()> {
    let folder = folder_of_user(lab)?;
    let policy = folder.text("policy.toml");
    let all = [&["--policy", &policy][..], &WORDS, &["x"]].concat();
    let least = LEAST.iter().fold(0, |set, (_, number)| set | 1 << number);

    // Loads the programs anew.
    guarded(&["unload"]).finish()?.exits(0)?;
    check_files(&folder, &as_service(&folder, least, &all).finish()?)?;
    lab.check_clean()?;

    let waiting = ["--policy", &policy, "/guests/endless.wasm", "wait"];
    let live = as_service(&folder, least, &waiting).start()?;
    live.wait_for("started")?;
    let workers: Vec<_> = processes()?.into_iter().filter(|(pid, _)| *pid != live.pid()).collect();
    ensure!(workers.len() == 1, "not one worker: {workers:?}");
    for (pid, has) in [(live.pid(), least), (workers[0].0, 0)] {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        for set in ["CapInh", "CapPrm", "CapAmb"] {
            let line = format!("{set}:\t{has:016x}");
            ensure!(status.lines().any(|it| it == line), "process {pid}: no {line:?} in {status}");
        }
    }
    live.signal(Signal::TERM)?;
    live.finish()?.ends_by(Signal::TERM)?;
    lab.check_clean()?;

    for (left_out, number) in LEAST {
        let outcome = as_service(&folder, least & !(1 << number), &all).finish()?;
        outcome.refuses(left_out, "run as root")?;
    }
    check_files(&folder, &as_service(&folder, least, &all).finish()?)
}
