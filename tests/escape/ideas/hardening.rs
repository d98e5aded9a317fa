//! Undo what the worker did to itself, or become somebody else.
//!
//! Stopped by: seccomp. Behind it locked secure bits, empty sets of capabilities, `no_new_privs`.

use libc::{EINVAL, PR_CAP_AMBIENT, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_MM, PR_SET_SECCOMP};
use wasi_guard_captive::call;

use super::struct_of;
use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::Unlisted;
use crate::idea::{Idea, attempt};
use crate::scene::Scene;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = Vec::new();
    for (name, option, argument, free) in [
        ("let_oneself_be_dumped", PR_SET_DUMPABLE, 1, Works),
        ("outlive_the_supervisor", libc::PR_SET_PDEATHSIG, 0, Works),
        ("keep_capabilities", PR_SET_KEEPCAPS, 1, Works),
        ("unlock_the_secure_bits", libc::PR_SET_SECUREBITS, 0, Works),
        ("add_a_filter_of_mode_1", PR_SET_SECCOMP, 99, Fails(EINVAL)),
        ("raise_an_ambient_capability", PR_CAP_AMBIENT, 99, Fails(EINVAL)),
        ("move_ones_own_memory_map", PR_SET_MM, 99, Fails(EINVAL)),
        ("let_others_trace", 0x5961_6d61 /* PR_SET_PTRACER */, 0, Works),
        ("adopt_orphans", libc::PR_SET_CHILD_SUBREAPER, 1, Works),
        ("drop_from_the_bounding_set", libc::PR_CAPBSET_DROP, 1, Works),
        ("dispatch_system_calls", 59 /* PR_SET_SYSCALL_USER_DISPATCH */, 0, Works),
        ("forbid_the_time_stamp_counter", libc::PR_SET_TSC, libc::PR_TSC_ENABLE, Works),
        ("read_whether_one_can_be_dumped", libc::PR_GET_DUMPABLE, 0, Works),
    ] {
        ideas.push(attempt(name, free, Unlisted, move |d| {
            call!(d, SYS_prctl, option, argument, 0, 0, 0)
        }));
    }
    for (name, number, arguments) in [
        ("setuid", libc::SYS_setuid, 1),
        ("setgid", libc::SYS_setgid, 1),
        ("setreuid", libc::SYS_setreuid, 2),
        ("setregid", libc::SYS_setregid, 2),
        ("setresuid", libc::SYS_setresuid, 3),
        ("setresgid", libc::SYS_setresgid, 3),
        ("setfsuid", libc::SYS_setfsuid, 1),
        ("setfsgid", libc::SYS_setfsgid, 1),
        ("setgroups", libc::SYS_setgroups, 2),
    ] {
        ideas.push(attempt(name, Works, Unlisted, move |d| {
            d.call(number, &vec![0.into(); arguments])
        }));
    }
    ideas.extend([
        attempt("set_capabilities", Works, Unlisted, |d| {
            // _LINUX_CAPABILITY_VERSION_3, this process; none.
            let (header, none) = (struct_of(d, 8, &[(0, 0x2008_0522.into())]), d.zeros(24));
            call!(d, SYS_capset, header, none)
        }),
        attempt("read_capabilities", Works, Unlisted, |d| {
            let (header, place) = (struct_of(d, 8, &[(0, 0x2008_0522.into())]), d.zeros(24));
            call!(d, SYS_capget, header, place)
        }),
        attempt("add_a_seccomp_filter", Fails(EINVAL), Unlisted, |d| {
            call!(d, SYS_seccomp, 99, 0, 0)
        }),
        attempt("make_a_landlock_ruleset", Works, Unlisted, |d| {
            // LANDLOCK_CREATE_RULESET_VERSION
            call!(d, SYS_landlock_create_ruleset, 0, 0, 1)
        }),
        attempt("set_the_base_of_a_segment", Works, Unlisted, |d| {
            let place = d.zeros(8);
            // ARCH_GET_FS
            call!(d, SYS_arch_prctl, 0x1003, place)
        }),
        attempt("type_into_the_terminal", Fails(libc::ENOTTY), Unlisted, |d| {
            let byte = d.text("x");
            call!(d, SYS_ioctl, 0, libc::TIOCSTI, byte)
        }),
        attempt("paste_into_the_terminal", Fails(libc::ENOTTY), Unlisted, |d| {
            let byte = d.bytes([3]);
            call!(d, SYS_ioctl, 0, libc::TIOCLINUX, byte)
        }),
        attempt("type_into_the_terminal_with_high_bits", Fails(libc::ENOTTY), Unlisted, |d| {
            let byte = d.text("x");
            call!(d, SYS_ioctl, 0, libc::TIOCSTI | (1 << 32), byte)
        }),
        attempt("get_a_signal_for_input", Works, Unlisted, |d| {
            let off = d.zeros(4);
            call!(d, SYS_ioctl, 0, libc::FIOASYNC, off)
        }),
        attempt("resize_a_pipe", Works, Unlisted, |d| {
            call!(d, SYS_fcntl, 0, libc::F_SETPIPE_SZ, 4096)
        }),
        attempt("duplicate_over_a_descriptor", Works, Unlisted, |d| call!(d, SYS_dup2, 0, 70)),
        attempt("lock_a_file", Works, Unlisted, |d| {
            let path = d.text(Scene::text("data/open"));
            let file = call!(d, SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY);
            let it = call!(d, SYS_flock, file, libc::LOCK_EX | libc::LOCK_NB);
            call!(d, SYS_close, file);
            it
        }),
    ]);
    ideas
}
