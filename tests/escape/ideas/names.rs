//! Change or look at files that no rule grants, without opening them.
//!
//! Stopped by: BPF; seccomp for the calls that the worker does not need. Where a name of no preopen
//! is to become one of a preopen, Landlock is asked first and answers EXDEV, without a record.

use libc::{AT_FDCWD, AT_REMOVEDIR, EXDEV, O_PATH};
use wasi_guard_captive::call;

use super::HIGH;
use crate::idea::Free::Works;
use crate::idea::Guarded::{Denied, Refused, Unlisted};
use crate::idea::{Idea, attempt};
use crate::scene::Scene;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = judged();
    for (name, number) in
        [("truncate", libc::SYS_truncate), ("change_the_mode_of", libc::SYS_chmod)]
    {
        ideas.push(attempt(format!("{name}_a_file"), Works, Unlisted, move |d| {
            let path = d.text(Scene::text("outside/folder/unused"));
            if d.free {
                let it = call!(d, SYS_creat, path, 0o666);
                call!(d, SYS_close, it);
            }
            d.call(number, &[path.into(), 0o666.into()])
        }));
    }
    ideas.extend([
        attempt("change_the_owner_of_a_file", Works, Unlisted, |d| {
            let path = d.text(Scene::text("outside/secret"));
            call!(d, SYS_chown, path, 0, 0)
        }),
        attempt("change_the_mode_below_a_directory", Works, Unlisted, |d| {
            let path = d.text(Scene::text("outside/secret"));
            call!(d, SYS_fchmodat, AT_FDCWD, path, 0o666)
        }),
        attempt("set_an_attribute", Works, Unlisted, |d| {
            let (path, name) = (d.text(Scene::text("outside/secret")), d.text("trusted.escape"));
            call!(d, SYS_setxattr, path, name, name, 4, 0)
        }),
        attempt("list_attributes", Works, Unlisted, |d| {
            let path = d.text(Scene::text("outside/secret"));
            call!(d, SYS_listxattr, path, 0, 0)
        }),
        attempt("make_a_device", Works, Unlisted, |d| {
            let path = d.text(Scene::text("data/out/device"));
            // What /dev/null is.
            let it = call!(d, SYS_mknodat, AT_FDCWD, path, libc::S_IFCHR | 0o666, 0x103);
            call!(d, SYS_unlinkat, AT_FDCWD, path, 0);
            it
        }),
        attempt("exchange_two_names", Works, Unlisted, |d| {
            let (a, b) =
                (d.text(Scene::text("outside/secret")), d.text(Scene::text("data/out/mine")));
            let it = call!(d, SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2);
            call!(d, SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2);
            it
        }),
    ]);
    ideas
}

/// Calls that the worker needs.
fn judged() -> Vec<Idea<'static>> {
    vec![
        attempt("link_a_foreign_file_to_a_granted_name", Works, Refused(EXDEV), |d| {
            let (from, to) =
                (d.text(Scene::text("outside/secret")), d.text(Scene::text("data/out/link")));
            let it = call!(d, SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
            call!(d, SYS_unlinkat, AT_FDCWD, to, 0);
            it
        }),
        attempt("link_a_denied_file_to_a_granted_name", Works, Denied("link"), |d| {
            let (from, to) =
                (d.text(Scene::text("data/secret/plan")), d.text(Scene::text("data/out/link")));
            let it = call!(d, SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
            call!(d, SYS_unlinkat, AT_FDCWD, to, 0);
            it
        }),
        attempt("move_a_foreign_file_to_a_granted_name", Works, Refused(EXDEV), |d| {
            let (from, to) =
                (d.text(Scene::text("outside/secret")), d.text(Scene::text("data/out/moved")));
            let it = call!(d, SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
            call!(d, SYS_renameat, AT_FDCWD, to, AT_FDCWD, from);
            it
        }),
        attempt("move_a_denied_directory", Works, Denied("rename"), |d| {
            let (from, to) =
                (d.text(Scene::text("data/secret")), d.text(Scene::text("data/out/moved")));
            let it = call!(d, SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
            call!(d, SYS_renameat, AT_FDCWD, to, AT_FDCWD, from);
            it
        }),
        attempt("rename_the_given_directory", Works, Denied("rename"), |d| {
            let (from, to) = (d.text(Scene::text("data")), d.text(Scene::text("moved")));
            let it = call!(d, SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
            call!(d, SYS_renameat, AT_FDCWD, to, AT_FDCWD, from);
            it
        }),
        attempt("remove_a_foreign_directory", Works, Denied("rmdir"), |d| {
            let path = d.text(Scene::text("outside/folder"));
            let it = call!(d, SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
            if d.free {
                call!(d, SYS_mkdirat, AT_FDCWD, path, 0o777);
            }
            it
        }),
        attempt("remove_a_foreign_file", Works, Denied("unlink"), |d| {
            let path = d.text(Scene::text("outside/unused"));
            if d.free {
                let it = call!(d, SYS_creat, path, 0o666);
                call!(d, SYS_close, it);
                return call!(d, SYS_unlinkat, AT_FDCWD, path, 0);
            }
            let secret = d.text(Scene::text("outside/secret"));
            call!(d, SYS_unlinkat, AT_FDCWD, secret, 0)
        }),
        attempt("make_a_link_elsewhere", Works, Denied("symlink"), |d| {
            let path = d.text(Scene::text("outside/link"));
            let it = call!(d, SYS_symlinkat, path, AT_FDCWD, path);
            if d.free {
                call!(d, SYS_unlinkat, AT_FDCWD, path, 0);
            }
            it
        }),
        attempt("see_metadata_by_the_older_call", Works, Unlisted, |d| {
            let (path, place) = (d.text(Scene::text("outside/secret")), d.zeros(144));
            call!(d, SYS_newfstatat, AT_FDCWD, path, place, 0)
        }),
        attempt("see_metadata_by_statx", Works, Denied("stat"), |d| {
            let (path, place) = (d.text(Scene::text("outside/secret")), d.zeros(256));
            call!(d, SYS_statx, AT_FDCWD, path, 0, 0xfff, place)
        }),
        attempt("see_metadata_of_what_was_opened_as_a_path", Works, Denied("stat"), |d| {
            let (path, place) = (d.text(Scene::text("outside/secret")), d.zeros(256));
            let empty = d.text("");
            let file = call!(d, SYS_openat, AT_FDCWD, path, O_PATH);
            let it = call!(d, SYS_statx, file, empty, libc::AT_EMPTY_PATH, 0xfff, place);
            call!(d, SYS_close, file);
            it
        }),
        attempt("read_a_link", Works, Denied("readlink"), |d| {
            let (path, place) = (d.text("/proc/self/exe"), d.zeros(64));
            call!(d, SYS_readlinkat, AT_FDCWD, path, place, 64)
        }),
        attempt("set_times", Works, Denied("setattr"), |d| {
            let path = d.text(Scene::text("outside/secret"));
            call!(d, SYS_utimensat, AT_FDCWD, path, 0, 0)
        }),
        attempt("set_times_of_what_may_be_read", Works, Denied("setattr"), |d| {
            let path = d.text(Scene::text("data/open"));
            let file = call!(d, SYS_openat, AT_FDCWD, path, libc::O_RDONLY);
            let it = call!(d, SYS_utimensat, file, 0, 0, 0);
            call!(d, SYS_close, file);
            it
        }),
        attempt("link_what_was_opened_as_a_path", Works, Refused(EXDEV), |d| {
            let (from, to) =
                (d.text(Scene::text("outside/secret")), d.text(Scene::text("data/out/link")));
            let low = call!(d, SYS_openat, AT_FDCWD, from, O_PATH);
            let file = call!(d, SYS_fcntl, low, libc::F_DUPFD_CLOEXEC, HIGH);
            let again = d.text(format!("/proc/self/fd/{HIGH}"));
            let follow = libc::AT_SYMLINK_FOLLOW;
            let it = call!(d, SYS_linkat, AT_FDCWD, again, AT_FDCWD, to, follow);
            call!(d, SYS_close, low);
            call!(d, SYS_close, file);
            call!(d, SYS_unlinkat, AT_FDCWD, to, 0);
            it
        }),
    ]
}
