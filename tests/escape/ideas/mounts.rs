//! Change what paths mean: mounts by the old calls and the new ones, another root.
//!
//! Stopped by: seccomp. Behind it BPF, and the lack of capabilities.

use libc::{AT_FDCWD, EBADF, EFAULT, EINVAL, ENOENT, MS_BIND, O_DIRECTORY, O_PATH};
use wasi_guard_captive::{Value, call};

use super::struct_of;
use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Killed, Unlisted};
use crate::idea::{Draft, Idea, attempt};
use crate::scene::Scene;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        attempt("mount_a_tmpfs", Works, Killed, |d| {
            let (kind, target) = (d.text("tmpfs"), d.text(Scene::text("data/out")));
            let it = call!(d, SYS_mount, kind, target, kind, 0, 0);
            call!(d, SYS_umount2, target, libc::MNT_DETACH);
            it
        }),
        attempt("bind_a_foreign_directory_to_a_granted_one", Works, Killed, |d| {
            let (from, to) = (d.text(Scene::text("outside")), d.text(Scene::text("data/out")));
            let it = call!(d, SYS_mount, from, to, 0, MS_BIND, 0);
            call!(d, SYS_umount2, to, libc::MNT_DETACH);
            it
        }),
        // What is no mount point: root gets past the check of rights, to this answer.
        attempt("unmount", Fails(EINVAL), Killed, |d| {
            let path = d.text(Scene::text("data/out"));
            call!(d, SYS_umount2, path, 0)
        }),
        attempt("copy_a_tree", Works, Killed, |d| {
            let path = d.text(Scene::text("outside"));
            // OPEN_TREE_CLONE
            call!(d, SYS_open_tree, AT_FDCWD, path, 1)
        }),
        attempt("open_a_file_system", Works, Killed, file_system),
        attempt("configure_a_file_system", Works, Unlisted, |d| {
            let file_system = if d.free { file_system(d) } else { 0.into() };
            // FSCONFIG_CMD_CREATE
            call!(d, SYS_fsconfig, file_system, 6, 0, 0, 0)
        }),
        attempt("mount_a_file_system_of_ones_own", Works, Killed, |d| {
            let file_system = if d.free { file_system(d) } else { 0.into() };
            if d.free {
                call!(d, SYS_fsconfig, file_system, 6, 0, 0, 0);
            }
            call!(d, SYS_fsmount, file_system, 0, 0)
        }),
        attempt("pick_a_file_system", Works, Unlisted, |d| {
            let path = d.text("/tmp");
            call!(d, SYS_fspick, AT_FDCWD, path, 0)
        }),
        attempt("move_a_mount", Fails(EINVAL), Killed, |d| {
            let (from, to) = (d.text(Scene::text("outside")), d.text(Scene::text("data/out")));
            call!(d, SYS_move_mount, AT_FDCWD, from, AT_FDCWD, to, 0)
        }),
        attempt("change_a_mounts_attributes", Fails(ENOENT), Unlisted, |d| {
            // MOUNT_ATTR_RDONLY is to be set.
            let (path, attributes) = (d.text("/tmp/nowhere"), struct_of(d, 32, &[(0, 1.into())]));
            call!(d, SYS_mount_setattr, AT_FDCWD, path, 0, attributes, 32)
        }),
        attempt("change_the_root", Works, Killed, |d| {
            let path = d.text(Scene::text("outside"));
            call!(d, SYS_chroot, path)
        }),
        attempt("swap_the_root", Fails(EINVAL), Killed, |d| {
            let path = d.text(Scene::text("outside"));
            call!(d, SYS_pivot_root, path, path)
        }),
        attempt("change_the_directory", Works, Unlisted, |d| {
            let path = d.text(Scene::text("outside"));
            call!(d, SYS_chdir, path)
        }),
        attempt("change_to_a_descriptors_directory", Works, Unlisted, |d| {
            let path = d.text(Scene::text("outside"));
            let directory = call!(d, SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY);
            let it = call!(d, SYS_fchdir, directory);
            call!(d, SYS_close, directory);
            it
        }),
        attempt("ask_for_a_file_systems_kind", Fails(EINVAL), Unlisted, |d| {
            call!(d, SYS_sysfs, 9, 0, 0)
        }),
        attempt("set_quotas", Fails(ENOENT), Unlisted, |d| {
            // Q_QUOTAON of user quotas.
            let path = d.text("/tmp/nowhere");
            call!(d, SYS_quotactl, 0x8000_0200_u32, path, 0, 0)
        }),
        attempt("set_quotas_by_descriptor", Fails(EBADF), Unlisted, |d| {
            call!(d, SYS_quotactl_fd, -1, 0x8000_0200_u32, 0, 0)
        }),
        attempt("swap_to_a_file", Fails(ENOENT), Unlisted, |d| {
            let path = d.text("/tmp/nowhere");
            call!(d, SYS_swapon, path, 0)
        }),
        attempt("swap_no_more", Fails(ENOENT), Unlisted, |d| {
            let path = d.text("/tmp/nowhere");
            call!(d, SYS_swapoff, path)
        }),
        attempt("write_accounts", Fails(ENOENT), Unlisted, |d| {
            let path = d.text("/tmp/nowhere");
            call!(d, SYS_acct, path)
        }),
        attempt("look_into_a_file_system", Fails(EFAULT), Unlisted, |d| {
            let path = d.text("/tmp");
            call!(d, SYS_statfs, path, 8)
        }),
    ]
}

fn file_system(d: &mut Draft) -> Value {
    let kind = d.text("tmpfs");
    call!(d, SYS_fsopen, kind, 0)
}
