//! wasi-guard as another user than root, with file capabilities.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{XattrFlags, setxattr};

use crate::Case;
use crate::lab::{Folder, Lab};
use crate::program::{Program, guarded, program};

pub(super) const CASES: &[Case] = &[Case { name: "file_capabilities", run: file_capabilities }];

const USER: u32 = 1000;
/// A copy that has capabilities.
const COPY: &str = "/usr/local/bin/wasi-guard-by-user";
/// The least that a run takes, as docs/host-setup.md lists it, with the numbers of
/// uapi/linux/capability.h.
const LEAST: [(&str, u32); 5] = [
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// Gives the copy these capabilities, permitted and effective (`struct vfs_cap_data`, version 2).
fn grant(capabilities: impl Iterator<Item = u32>) -> Result<()> {
    const VERSION_2: u32 = 0x0200_0000;
    const EFFECTIVE: u32 = 1;
    let set = capabilities.fold(0_u64, |set, capability| set | 1 << capability);
    let (low, high) = (set as u32, (set >> 32) as u32);
    let mut value = Vec::new();
    for word in [VERSION_2 | EFFECTIVE, low, 0, high, 0] {
        value.extend(word.to_le_bytes());
    }
    setxattr(COPY, "security.capability", &value, XattrFlags::empty()).context("setxattr")
}

fn as_user(folder: &Folder, arguments: &[&str]) -> Program {
    let cache = folder.text("cache");
    let mut words = vec!["run", "--cache", &cache];
    words.extend(arguments);
    let mut program = program(COPY, &words);
    program.command.uid(USER).gid(USER).current_dir("/");
    program
}

/// Files are reached as the user, whatever wasi-guard itself may; each capability is needed.
fn file_capabilities(lab: &Lab) -> Result<()> {
    fs::copy("/usr/local/bin/wasi-guard", COPY).context("copy wasi-guard")?;
    let folder = lab.folder()?;
    let policy = folder.file(
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
    let guest = ["--policy", &policy, "/guests/files.wasm"];
    let words = ["read", "/d/own", "read", "/d/no", "read", "/d/roots", "make", "/d/new", "x"];
    let all = [&guest[..], &words[..]].concat();
    let printed = "read /d/own: text of own\nread /d/no: EACCES\nread /d/roots: EACCES\n\
                   make /d/new: ok\n";

    // Loads the programs anew.
    guarded(&["unload"]).finish()?.exits(0)?;
    grant(LEAST.iter().map(|(_, number)| *number))?;
    let outcome = as_user(&folder, &all).finish()?;
    outcome.exits(0)?.prints(printed)?;
    // What the user may not read is the file system's affair.
    let denied = outcome.of_kind("denial");
    ensure!(denied.len() == 1 && denied[0]["path"] == "/d/no", "{outcome:?}");
    let made = fs::metadata(folder.path("data/new"))?;
    ensure!((made.uid(), made.gid()) == (USER, USER), "the new file is {}'s", made.uid());
    lab.check_clean()?;

    // Nobody can have the capabilities used for orders of his own: started under the worker's name
    // it would take them.
    let mut worker = program(COPY, &[] as &[&str]);
    worker.command.arg0("wasi-guard-worker").uid(USER).gid(USER);
    worker.finish()?.exits(125)?.says("the executable gave it capabilities")?;
    let mut worker = program("/usr/local/bin/wasi-guard", &[] as &[&str]);
    worker.command.arg0("wasi-guard-worker").uid(USER).gid(USER);
    worker.finish()?.exits(125)?.says("take over the control socket")?;

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
    fs::remove_file(folder.path("data/new"))?;
    grant(LEAST.iter().map(|(_, number)| *number))?;
    as_user(&folder, &all).finish()?.exits(0)?.prints(printed)?;
    // And root goes on with what the user has made.
    fs::remove_file(folder.path("data/new"))?;
    guarded(&["run", "/guests/hello.wasm"]).finish()?.exits(0)?.prints("hello\n")?;
    lab.check_clean()?;
    guarded(&["unload"]).finish()?.exits(0)?;
    fs::remove_file(COPY).context("remove the copy")
}
