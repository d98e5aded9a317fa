//! Execute another program, start another process.
//!
//! Stopped by: seccomp. Behind it BPF and Landlock.

use libc::{AT_EMPTY_PATH, AT_FDCWD, CLONE_VFORK, CLONE_VM, O_PATH, SIGCHLD};
use wasi_guard_captive::{Buffer, Value, call};

use super::struct_of;
use crate::idea::Free::{Executes, Works};
use crate::idea::Guarded::Unlisted;
use crate::idea::{Draft, Idea, attempt};
use crate::outside::EXECUTED;
use crate::scene::Scene;

/// This program, as a file of the machine.
const PROGRAM: &str = "/usr/local/bin/escape-suite";

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        attempt("execute", Executes, Unlisted, |d| {
            let (path, arguments) = program(d);
            call!(d, SYS_execve, path, arguments, 0)
        }),
        attempt("execute_ones_own_program", Executes, Unlisted, |d| {
            let (path, arguments) = (d.text("/proc/self/exe"), program(d).1);
            call!(d, SYS_execve, path, arguments, 0)
        }),
        attempt("execute_by_execveat", Executes, Unlisted, |d| {
            let (path, arguments) = program(d);
            call!(d, SYS_execveat, AT_FDCWD, path, arguments, 0, 0)
        }),
        attempt("execute_a_descriptor", Executes, Unlisted, |d| {
            let (path, arguments) = program(d);
            let file = call!(d, SYS_openat, AT_FDCWD, path, O_PATH);
            let empty = d.text("");
            let it = call!(d, SYS_execveat, file, empty, arguments, 0, AT_EMPTY_PATH);
            call!(d, SYS_close, file);
            it
        }),
        attempt("make_a_file_in_memory", Works, Unlisted, |d| {
            let name = d.text("program");
            call!(d, SYS_memfd_create, name, 0)
        }),
        attempt("execute_memory", Executes, Unlisted, |d| {
            let text = format!("#!{PROGRAM} {}\n", EXECUTED.0);
            let (name, length) = (d.text("program"), text.len());
            let (content, empty) = (d.bytes(text), d.text(""));
            let arguments = program(d).1;
            let file = call!(d, SYS_memfd_create, name, 0);
            call!(d, SYS_write, file, content, length);
            call!(d, SYS_execveat, file, empty, arguments, 0, AT_EMPTY_PATH)
        }),
        attempt("fork", Works, Unlisted, |d| call!(d, SYS_fork)),
        attempt("vfork", Works, Unlisted, |d| call!(d, SYS_vfork)),
        attempt("clone_a_process", Works, Unlisted, |d| call!(d, SYS_clone, SIGCHLD, 0, 0, 0, 0)),
        attempt("clone_a_process_in_this_memory", Works, Unlisted, |d| {
            call!(d, SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0)
        }),
        attempt("clone_a_sibling", Works, Unlisted, |d| {
            call!(d, SYS_clone, libc::CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)
        }),
        attempt("load_an_old_library", crate::idea::Free::Fails(libc::ENOSYS), Unlisted, |d| {
            let path = d.text(PROGRAM);
            call!(d, SYS_uselib, path)
        }),
    ]
}

/// The path of a program, and the arguments that tell it what to do.
fn program(d: &mut Draft) -> (Buffer, Value) {
    let (path, word) = (d.text(PROGRAM), d.text(EXECUTED.0));
    let arguments = struct_of(d, 24, &[(0, path.into()), (8, word.into())]);
    (path, arguments)
}
