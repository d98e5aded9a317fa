//! Reach a file that no rule grants, by every route that there is to one.
//!
//! Stopped by: BPF, which looks at the file that is reached in the end; seccomp for the calls that
//! the worker does not need.

use libc::{AT_FDCWD, O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY};
use wasi_guard_captive::{Value, call};

use super::HIGH;
use crate::captive::PREOPEN;
use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Closed, Denied, Killed, Unlisted};
use crate::idea::{Draft, Idea, attempt};
use crate::scene::Scene;

pub(super) fn ideas(scene: &Scene) -> Vec<Idea<'_>> {
    let victim = scene.victim.pid();
    let proc = |name: &str| format!("/proc/{victim}/{name}");
    let below = |prefix: &str| format!("{prefix}{}", Scene::text("outside/secret"));
    let mut ideas = vec![
        opened("open_by_absolute_path", Scene::text("outside/secret"), O_RDONLY),
        opened("open_for_writing", Scene::text("outside/secret"), O_WRONLY),
        opened("open_what_a_rule_denies", Scene::text("data/secret/plan"), O_RDONLY),
        opened("open_for_writing_what_may_be_read", Scene::text("data/open"), O_RDWR),
        opened("open_a_directory", Scene::text("outside"), O_RDONLY | O_DIRECTORY),
        opened("open_a_new_file", Scene::text("outside/new"), O_WRONLY | O_CREAT),
        opened("open_a_file_without_name", Scene::text("outside/folder"), O_RDWR | O_TMPFILE),
        opened("open_by_proc_self_root", below("/proc/self/root"), O_RDONLY),
        opened("open_by_proc_self_cwd", below("/proc/self/cwd/../../../../../../.."), O_RDONLY),
        opened("open_by_a_threads_root", below("/proc/thread-self/root"), O_RDONLY),
    ];
    for (name, path, flags) in [
        ("open_by_another_processes_root", below(&proc("root")), O_RDONLY),
        ("open_another_processes_memory", proc("mem"), O_RDWR),
        ("open_another_processes_environment", proc("environ"), O_RDONLY),
        ("open_another_processes_map", proc("maps"), O_RDONLY),
        ("open_another_processes_syscall", proc("syscall"), O_RDONLY),
        ("open_own_memory", "/proc/self/mem".into(), O_RDWR),
        ("open_own_executable", "/proc/self/exe".into(), O_RDONLY),
        ("open_the_kernels_messages", "/dev/kmsg".into(), O_RDWR),
        ("open_a_sysctl", "/proc/sys/kernel/core_pattern".into(), O_WRONLY),
        ("open_the_kernels_symbols", "/proc/kallsyms".into(), O_RDONLY),
        ("open_sysrq", "/proc/sysrq-trigger".into(), O_WRONLY),
        ("open_ones_own_map_of_users", "/proc/self/uid_map".into(), O_RDWR),
        ("open_ones_own_rank_for_lack_of_memory", "/proc/self/oom_score_adj".into(), O_RDWR),
        ("open_ones_own_name", "/proc/thread-self/comm".into(), O_RDWR),
        ("open_the_pins", "/sys/fs/bpf".into(), O_RDONLY | O_DIRECTORY),
        ("open_the_lock_of_the_host", "/run/wasi-guard/lock".into(), O_RDWR),
        ("open_the_list_of_security_modules", "/sys/kernel/security/lsm".into(), O_RDONLY),
        ("open_the_policy", Scene::text("policy-1.toml"), O_RDWR),
        ("open_the_audit", Scene::text("audit-1.jsonl"), O_RDWR),
        ("open_null", "/dev/null".into(), O_RDWR),
    ] {
        ideas.push(closed(name, path, flags));
    }
    ideas.extend(routes());
    ideas
}

fn opened(name: &str, path: String, flags: i32) -> Idea<'_> {
    let operation = if flags & O_CREAT == 0 { "open" } else { "create" };
    attempt(name, Works, Denied(operation), move |d| {
        let it = open(d, &path, flags);
        if d.free && flags & O_CREAT != 0 {
            let new = d.text(&path);
            call!(d, SYS_unlinkat, AT_FDCWD, new, 0);
        }
        it
    })
}

fn closed(name: &str, path: String, flags: i32) -> Idea<'_> {
    attempt(name, Works, Closed("open"), move |d| open(d, &path, flags))
}

fn open(d: &mut Draft, path: &str, flags: i32) -> Value {
    let path = d.text(path);
    call!(d, SYS_openat, AT_FDCWD, path, flags, 0o666)
}

/// The directory that the policy grants.
fn data(d: &mut Draft) -> Value {
    if d.free { open(d, &Scene::text("data"), O_PATH | O_DIRECTORY) } else { PREOPEN }
}

fn routes() -> Vec<Idea<'static>> {
    vec![
        attempt("open_upwards_from_the_given_directory", Works, Denied("open"), |d| {
            let (data, path) = (data(d), d.text("../outside/secret"));
            call!(d, SYS_openat, data, path, O_RDONLY)
        }),
        attempt("openat2_upwards_from_the_given_directory", Works, Denied("open"), |d| {
            let (data, path, how) = (data(d), d.text("../outside/secret"), d.zeros(24));
            call!(d, SYS_openat2, data, path, how, 24)
        }),
        attempt("open_again_what_was_opened_as_a_path", Works, Denied("open"), |d| {
            let low = open(d, &Scene::text("outside/secret"), O_PATH);
            let high = call!(d, SYS_fcntl, low, libc::F_DUPFD_CLOEXEC, HIGH);
            let again = open(d, &format!("/proc/self/fd/{HIGH}"), O_RDONLY);
            call!(d, SYS_close, high);
            call!(d, SYS_close, low);
            again
        }),
        attempt("open_below_a_directory_opened_as_a_path", Works, Denied("open"), |d| {
            let directory = open(d, &Scene::text("outside"), O_PATH | O_DIRECTORY);
            let path = d.text("secret");
            let it = call!(d, SYS_openat, directory, path, O_RDONLY);
            call!(d, SYS_close, directory);
            it
        }),
        attempt("open_again_for_writing_what_may_be_read", Works, Denied("open"), |d| {
            let low = open(d, &Scene::text("data/open"), O_RDONLY);
            let high = call!(d, SYS_fcntl, low, libc::F_DUPFD_CLOEXEC, HIGH);
            let again = open(d, &format!("/proc/self/fd/{HIGH}"), O_RDWR);
            call!(d, SYS_close, high);
            call!(d, SYS_close, low);
            again
        }),
        attempt("open_by_a_symbolic_link_of_ones_own", Works, Denied("open"), |d| {
            let (target, link) =
                (d.text("../../outside/secret"), d.text(Scene::text("data/out/link")));
            call!(d, SYS_symlinkat, target, AT_FDCWD, link);
            let it = call!(d, SYS_openat, AT_FDCWD, link, O_RDONLY);
            call!(d, SYS_unlinkat, AT_FDCWD, link, 0);
            it
        }),
        attempt("open_by_the_older_call", Works, Unlisted, |d| {
            let path = d.text(Scene::text("outside/secret"));
            call!(d, SYS_open, path, O_RDONLY)
        }),
        attempt("create_by_the_older_call", Works, Unlisted, |d| {
            let path = d.text(Scene::text("outside/new"));
            let it = call!(d, SYS_creat, path, 0o666);
            call!(d, SYS_unlinkat, AT_FDCWD, path, 0);
            it
        }),
        attempt("make_a_handle_of_a_file", Works, Unlisted, |d| {
            let (path, handle, mount) = handle(d);
            call!(d, SYS_name_to_handle_at, AT_FDCWD, path, handle, mount, 0)
        }),
        attempt("open_by_handle", Works, Killed, |d| {
            let (path, handle, mount) = handle(d);
            call!(d, SYS_name_to_handle_at, AT_FDCWD, path, handle, mount, 0);
            let root = open(d, &Scene::text("data"), O_RDONLY | O_DIRECTORY);
            call!(d, SYS_open_by_handle_at, root, handle, O_RDONLY)
        }),
        attempt("open_by_a_handle_of_nothing", Fails(libc::EBADF), Killed, |d| {
            let handle = handle(d).1;
            call!(d, SYS_open_by_handle_at, -1, handle, O_RDONLY)
        }),
    ]
}

/// A path, room for a handle of it, and for the number of its mount.
fn handle(d: &mut Draft) -> (Value, Value, Value) {
    let path = d.text(Scene::text("outside/secret"));
    let handle = d.zeros(8 + libc::MAX_HANDLE_SZ as usize);
    let size = libc::MAX_HANDLE_SZ;
    d.put_word(handle, 0, size);
    let mount = d.zeros(4);
    (path.into(), handle.into(), mount.into())
}
