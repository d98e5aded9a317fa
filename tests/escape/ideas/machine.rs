//! The machine itself: its clock, name, modules, ports, its end; and whatever else the kernel
//! offers to processes that know each other.
//!
//! Stopped by: seccomp. Behind it the lack of capabilities.
//!
//! Where success would damage the machine, arguments are chosen that the kernel refuses after it
//! has looked at the rights, with another errno than that of missing rights.

use libc::{AT_FDCWD, EBADF, EFAULT, EINVAL, ENOENT, O_CREAT, O_RDWR};
use wasi_guard_captive::call;

use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Killed, Unlisted};
use crate::idea::{Idea, attempt};
use crate::scene::Scene;

pub(super) fn ideas(scene: &Scene) -> Vec<Idea<'_>> {
    let kexec = scene.answers(libc::SYS_kexec_load, &[0, 99, 0, 0]);
    let mut ideas = vec![
        // With neither a time nor a zone nothing is set.
        attempt("set_the_time", Works, Unlisted, |d| call!(d, SYS_settimeofday, 0, 0)),
        attempt("set_a_clock", Fails(EFAULT), Unlisted, |d| {
            call!(d, SYS_clock_settime, libc::CLOCK_REALTIME, 8)
        }),
        attempt("adjust_the_clock", Works, Unlisted, |d| {
            let nothing = d.zeros(256);
            call!(d, SYS_adjtimex, nothing)
        }),
        attempt("rename_the_machine", Works, Unlisted, |d| {
            if d.free {
                call!(d, SYS_unshare, libc::CLONE_NEWUTS);
            }
            let name = d.text("escaped");
            call!(d, SYS_sethostname, name, 7)
        }),
        attempt("rename_the_domain", Works, Unlisted, |d| {
            if d.free {
                call!(d, SYS_unshare, libc::CLONE_NEWUTS);
            }
            let name = d.text("escaped");
            call!(d, SYS_setdomainname, name, 7)
        }),
        // An order that there is not.
        attempt("reboot", Fails(EINVAL), Killed, |d| {
            call!(d, SYS_reboot, 0xfee1_dead_u32, 0x2812_1969, 99, 0)
        }),
        attempt("load_a_module", Fails(EFAULT), Killed, |d| {
            let options = d.text("");
            call!(d, SYS_init_module, 8, 64, options)
        }),
        attempt("load_a_module_from_a_file", Fails(EBADF), Killed, |d| {
            let options = d.text("");
            call!(d, SYS_finit_module, -1, options, 0)
        }),
        attempt("unload_a_module", Fails(ENOENT), Killed, |d| {
            let name = d.text("no_such_module");
            call!(d, SYS_delete_module, name, libc::O_NONBLOCK)
        }),
        attempt("load_another_kernel", Fails(kexec), Killed, |d| {
            // More segments than there can be.
            call!(d, SYS_kexec_load, 0, 99, 0, 0)
        }),
        attempt(
            "load_another_kernel_from_a_file",
            Fails(scene.answers(libc::SYS_kexec_file_load, &[0, 0, 0, 0, 1 << 20])),
            Killed,
            |d| call!(d, SYS_kexec_file_load, 0, 0, 0, 0, 1 << 20),
        ),
        attempt("use_ports", Works, Unlisted, |d| call!(d, SYS_ioperm, 0x80, 1, 1)),
        attempt("use_all_ports", Works, Unlisted, |d| call!(d, SYS_iopl, 3)),
        attempt("read_the_kernels_log", Works, Unlisted, |d| {
            // SYSLOG_ACTION_SIZE_BUFFER
            call!(d, SYS_syslog, 10, 0, 0)
        }),
        attempt("watch_files", Works, Unlisted, |d| call!(d, SYS_inotify_init1, 0)),
        attempt("watch_a_foreign_file", Works, Unlisted, |d| {
            let watch = if d.free { call!(d, SYS_inotify_init1, 0) } else { 0.into() };
            let path = d.text(Scene::text("outside/secret"));
            call!(d, SYS_inotify_add_watch, watch, path, libc::IN_ACCESS)
        }),
        attempt("watch_a_file_system", Works, Unlisted, |d| call!(d, SYS_fanotify_init, 0, 0)),
        attempt("watch_a_foreign_mount", Works, Unlisted, |d| {
            let watch = if d.free { call!(d, SYS_fanotify_init, 0, 0) } else { 0.into() };
            let path = d.text(Scene::text("outside"));
            // FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN
            call!(d, SYS_fanotify_mark, watch, 0x11, 0x20, AT_FDCWD, path)
        }),
        attempt("make_shared_memory", Works, Unlisted, |d| {
            let it = call!(d, SYS_shmget, libc::IPC_PRIVATE, 4096, 0o600 | libc::IPC_CREAT);
            call!(d, SYS_shmctl, it, libc::IPC_RMID, 0);
            it
        }),
        attempt("make_a_semaphore", Works, Unlisted, |d| {
            let it = call!(d, SYS_semget, libc::IPC_PRIVATE, 1, 0o600 | libc::IPC_CREAT);
            call!(d, SYS_semctl, it, 0, libc::IPC_RMID, 0);
            it
        }),
        attempt("make_a_message_queue", Works, Unlisted, |d| {
            let it = call!(d, SYS_msgget, libc::IPC_PRIVATE, 0o600 | libc::IPC_CREAT);
            call!(d, SYS_msgctl, it, libc::IPC_RMID, 0);
            it
        }),
        attempt("make_a_posix_message_queue", Works, Unlisted, |d| {
            let name = d.text("escape-suite");
            let it = call!(d, SYS_mq_open, name, O_CREAT | O_RDWR, 0o600, 0);
            call!(d, SYS_mq_unlink, name);
            it
        }),
    ];
    ideas.push(attempt("wait_for_all_processors", Works, Unlisted, |d| {
        // MEMBARRIER_CMD_QUERY
        call!(d, SYS_membarrier, 0, 0, 0)
    }));
    ideas
}
