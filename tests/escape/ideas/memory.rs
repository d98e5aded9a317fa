//! Make memory executable: new memory, memory that was writable, a file's.
//!
//! Stopped by: seccomp, where PROT_EXEC is asked for. Behind it BPF.

use anyhow::{Context as _, Result, ensure};
use libc::{
    AT_FDCWD, EACCES, EBADF, EINVAL, EPERM, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED,
    O_RDONLY, PROT_EXEC, PROT_READ, PROT_WRITE,
};
use wasi_guard_captive::{Script, Value, call};

use crate::captive::ARTIFACT;
use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::Unlisted;
use crate::idea::{Draft, Idea, attempt};
use crate::scene::Scene;
use crate::stops::{UNLISTED, is_of_seccomp};
use crate::trial::Lab;

const PAGE: usize = 4096;
const PRIVATE: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        attempt("map_executable_memory", Works, Unlisted, |d| {
            call!(d, SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, PRIVATE, -1, 0)
        }),
        attempt("map_memory_that_can_only_be_executed", Works, Unlisted, |d| {
            call!(d, SYS_mmap, 0, PAGE, PROT_EXEC, PRIVATE, -1, 0)
        }),
        attempt("map_shared_executable_memory", Works, Unlisted, |d| {
            call!(d, SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        }),
        // The kernel looks at more bits than a filter that compares 32 of them.
        attempt("map_executable_memory_with_high_bits", Works, Unlisted, |d| {
            let rights = (PROT_READ | PROT_EXEC) as u64 | (1 << 32);
            call!(d, SYS_mmap, 0, PAGE, rights, PRIVATE, -1, 0)
        }),
        attempt("make_written_memory_executable", Works, Unlisted, |d| {
            let page = page(d);
            call!(d, SYS_mprotect, page, PAGE, PROT_READ | PROT_EXEC)
        }),
        attempt("make_memory_executable_with_a_key", Works, Unlisted, |d| {
            let page = page(d);
            call!(d, SYS_pkey_mprotect, page, PAGE, PROT_READ | PROT_EXEC, -1)
        }),
        attempt("make_memory_executable_downwards", Fails(libc::EINVAL), Unlisted, |d| {
            let page = page(d);
            call!(d, SYS_mprotect, page, PAGE, PROT_READ | PROT_EXEC | libc::PROT_GROWSDOWN)
        }),
        attempt("map_a_file_as_code", Works, Unlisted, |d| {
            let file = granted(d);
            let it = call!(d, SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
            call!(d, SYS_close, file);
            it
        }),
        attempt("make_a_mapped_file_code", Works, Unlisted, |d| {
            let file = granted(d);
            let page = call!(d, SYS_mmap, 0, PAGE, PROT_READ, MAP_PRIVATE, file, 0);
            call!(d, SYS_close, file);
            call!(d, SYS_mprotect, page, PAGE, PROT_READ | PROT_EXEC)
        }),
        attempt("map_over_memory_as_code", Works, Unlisted, |d| {
            let page = page(d);
            let rights = PROT_READ | PROT_EXEC;
            call!(d, SYS_mmap, page, PAGE, rights, PRIVATE | MAP_FIXED, -1, 0)
        }),
        attempt("let_all_readable_memory_be_code", Works, Unlisted, |d| {
            call!(d, SYS_personality, libc::READ_IMPLIES_EXEC)
        }),
        attempt("remap_pages_of_a_file", Fails(libc::EINVAL), Unlisted, |d| {
            call!(d, SYS_remap_file_pages, 1, 0, 0, 0, 0)
        }),
        attempt("attach_shared_memory_as_code", Works, Unlisted, |d| {
            let memory = if d.free {
                call!(d, SYS_shmget, libc::IPC_PRIVATE, PAGE, 0o700 | libc::IPC_CREAT)
            } else {
                0.into()
            };
            let it = call!(d, SYS_shmat, memory, 0, libc::SHM_EXEC);
            if d.free {
                call!(d, SYS_shmctl, memory, libc::IPC_RMID, 0);
            }
            it
        }),
        attempt("set_a_segment_of_ones_own", Works, Unlisted, |d| {
            let place = d.zeros(64);
            call!(d, SYS_modify_ldt, 0, place, 64)
        }),
        Idea::Case("change_the_compiled_code", artifact),
        attempt("lock_memory", Works, Unlisted, |d| {
            let page = page(d);
            call!(d, SYS_mlock, page, PAGE)
        }),
    ]
}

fn page(d: &mut Draft) -> Value {
    call!(d, SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, PRIVATE, -1, 0)
}

/// A file that may be read.
fn granted(d: &mut Draft) -> Value {
    let path = d.text(Scene::text("data/open"));
    call!(d, SYS_openat, AT_FDCWD, path, O_RDONLY)
}

/// What the worker has open of its compiled code is sealed, or opened for reading only: nobody
/// else's code can be changed by it.
fn artifact(lab: &mut Lab<'_>) -> Result<()> {
    let mut script = Script::default();
    let byte = script.text("x");
    call!(script, SYS_pwrite64, ARTIFACT, byte, 1, 0);
    call!(script, SYS_ftruncate, ARTIFACT, 0);
    // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    call!(script, SYS_fallocate, ARTIFACT, 3, 0, PAGE);
    call!(script, SYS_mmap, 0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ARTIFACT, 0);
    call!(script, SYS_mmap, 0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, ARTIFACT, 0);
    let (answer, records) = lab.shared()?.ask(&script)?.context("the worker is gone")?;
    // EPERM of a seal; EBADF, EINVAL, EACCES of a file that is open for reading. The third is not on
    // the list.
    let sealed = [[EPERM, EPERM, UNLISTED, EPERM], [EBADF, EINVAL, UNLISTED, EACCES]];
    let errnos: Vec<i32> = answer.results.iter().map(|it| -(*it as i32)).collect();
    ensure!(
        sealed.iter().any(|it| errnos.starts_with(it)) && errnos.last() == Some(&UNLISTED),
        "errnos {errnos:?}"
    );
    ensure!(records.iter().all(is_of_seccomp), "records {records:?}");
    Ok(())
}
