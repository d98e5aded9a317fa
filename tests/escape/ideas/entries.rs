//! Other ways into the kernel than a list of 64-bit calls expects.
//!
//! Stopped by: seccomp, which looks at the way as well.

use libc::ENOSYS;
use wasi_guard_captive::{Entry, Value};

use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Killed, Unlisted};
use crate::idea::{Idea, attempt};
use crate::scene::Scene;
use crate::stops::{X32, X32_BIT};

pub(super) fn ideas(scene: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = Vec::new();
    // Kernels are built or booted without x32, and answer ENOSYS then.
    for (name, number) in [
        ("x32_getpid", libc::SYS_getpid as u64),
        ("x32_unshare", libc::SYS_unshare as u64),
        ("x32_ptrace", 521),
    ] {
        let free = match scene.answers((number | X32_BIT) as i64, &[]) {
            0 => Works,
            errno => Fails(errno),
        };
        ideas.push(attempt(name, free, X32, move |d| {
            d.enter(Entry::Plain, number | X32_BIT, &[], 1)
        }));
    }
    for (name, number, guarded) in
        [("a_call_that_does_not_exist", 9999, Unlisted), ("a_negative_call", u64::MAX, X32)]
    {
        ideas.push(attempt(name, Fails(ENOSYS), guarded, move |d| {
            d.enter(Entry::Plain, number, &[], 1)
        }));
    }
    // getpid of a 32-bit program.
    ideas.push(attempt("the_entry_for_32_bit_programs", Works, Killed, |d| {
        d.enter(Entry::Int80, 20, &[], 1)
    }));
    ideas.push(attempt("an_old_call_by_the_entry_for_32_bit_programs", Works, Killed, |d| {
        // socketcall's number is another call for 64-bit programs: umask.
        d.enter(Entry::Int80, 60, &[Value::from(0o22)], 1)
    }));
    ideas
}
