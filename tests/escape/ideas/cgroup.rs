//! Leave the guest's cgroup, make one below it, or change its limits: the BPF programs guard by
//! place.
//!
//! Stopped by: BPF, for cgroups are files below no preopen; seccomp, for `clone3`.

use libc::{AT_FDCWD, O_DIRECTORY, O_PATH, O_RDONLY, O_WRONLY, SIGCHLD};
use wasi_guard_captive::{Script, call};

use super::struct_of;
use crate::idea::Free::Works;
use crate::idea::Guarded::{Answered, Denied, Unlisted};
use crate::idea::{Idea, attempt};
use crate::scene::Scene;
use crate::trial::Lab;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        moved("enter_another_cgroup", Scene::cgroup("cgroup.procs"), Works),
        moved("enter_the_root_cgroup", "/sys/fs/cgroup/cgroup.procs".into(), Works),
        attempt("enter_another_cgroup_as_a_thread", Works, Denied("open"), |d| {
            let path = d.text(Scene::cgroup("cgroup.threads"));
            call!(d, SYS_openat, AT_FDCWD, path, O_WRONLY)
        }),
        attempt("make_a_cgroup", Works, Denied("mkdir"), |d| {
            let path = d.text(Scene::cgroup("child"));
            let it = call!(d, SYS_mkdirat, AT_FDCWD, path, 0o755);
            call!(d, SYS_unlinkat, AT_FDCWD, path, libc::AT_REMOVEDIR);
            it
        }),
        attempt("see_which_processes_a_cgroup_has", Works, Denied("open"), |d| {
            let path = d.text(Scene::cgroup("cgroup.procs"));
            call!(d, SYS_openat, AT_FDCWD, path, O_RDONLY)
        }),
        attempt("start_a_process_in_another_cgroup", Works, Answered, |d| {
            /// `CLONE_INTO_CGROUP`, wider than libc's type.
            const INTO_CGROUP: u64 = 0x2_0000_0000;
            let path = d.text("/sys/fs/cgroup");
            let directory = call!(d, SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY);
            let arguments =
                struct_of(d, 88, &[(0, INTO_CGROUP.into()), (32, SIGCHLD.into()), (80, directory)]);
            let child = call!(d, SYS_clone3, arguments, 88);
            call!(d, SYS_close, directory);
            child
        }),
        attempt("start_a_process_by_clone3", Works, Answered, |d| {
            let arguments = struct_of(d, 88, &[(32, SIGCHLD.into())]);
            call!(d, SYS_clone3, arguments, 88)
        }),
        attempt("leave_the_session", Works, Unlisted, |d| call!(d, SYS_setsid)),
        Idea::Case("the_guests_own_cgroup_is_closed_to_it", own),
    ]
}

fn moved(name: &str, path: String, free: crate::idea::Free) -> Idea<'_> {
    attempt(name, free, Denied("open"), move |d| {
        let (path, zero) = (d.text(&path), d.text("0"));
        let file = call!(d, SYS_openat, AT_FDCWD, path, O_WRONLY);
        // To see it work outside: 0 is the writer.
        if d.free { call!(d, SYS_write, file, zero, 1) } else { file }
    })
}

/// The worker's own cgroup: its limits, its processes, a child, a rename of it. Each is denied,
/// from both threads, with a record.
fn own(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    let captive = lab.shared()?;
    let cgroup = captive.cgroup()?;
    let path = |name: &str| cgroup.join(name).to_string_lossy().into_owned();
    let mut script = Script::default();
    let mut expected = Vec::new();
    for name in [
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
        "memory.max",
        "pids.max",
        "cgroup.kill",
    ] {
        let path = script.text(path(name));
        call!(script, SYS_openat, AT_FDCWD, path, O_WRONLY);
        expected.push("open");
    }
    let (child, own) = (script.text(path("child")), script.text(path("")));
    call!(script, SYS_mkdirat, AT_FDCWD, child, 0o755);
    call!(script, SYS_unlinkat, AT_FDCWD, own, libc::AT_REMOVEDIR);
    let other = script.text(path("../other"));
    call!(script, SYS_renameat, AT_FDCWD, own, AT_FDCWD, other);
    expected.extend(["mkdir", "rmdir", "rename"]);
    lab.denied_in_a_row(script, &expected)
}
