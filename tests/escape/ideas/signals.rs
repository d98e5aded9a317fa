//! Signal a process outside.
//!
//! Stopped by: seccomp, which lists `tgkill` for the worker's own process alone. Behind it BPF, and
//! Landlock from Linux 6.12 on.

use libc::{SIGCONT, SIGIO};
use wasi_guard_captive::{Value, call};

use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Refused, Unlisted};
use crate::idea::{Draft, Idea, attempt};
use crate::scene::Scene;

pub(super) fn ideas(scene: &Scene) -> Vec<Idea<'_>> {
    let victim = scene.victim.pid();
    vec![
        attempt("kill_another_process", Works, Unlisted, move |d| {
            call!(d, SYS_kill, victim, SIGCONT)
        }),
        attempt("kill_everybody", Works, Unlisted, |d| call!(d, SYS_kill, -1, 0)),
        attempt("kill_ones_own_process", Works, Unlisted, |d| {
            call!(d, SYS_kill, Value::OwnPid, SIGCONT)
        }),
        attempt("tkill_another_thread", Works, Unlisted, move |d| {
            call!(d, SYS_tkill, victim, SIGCONT)
        }),
        attempt("tgkill_another_process", Works, Unlisted, move |d| {
            call!(d, SYS_tgkill, victim, victim, SIGCONT)
        }),
        // The filter lets it through; the kernel looks whether the thread is one of the process.
        attempt(
            "tgkill_anothers_thread_as_ones_own",
            Fails(libc::ESRCH),
            Refused(libc::ESRCH),
            move |d| call!(d, SYS_tgkill, Value::OwnPid, victim, SIGCONT),
        ),
        attempt("rt_sigqueueinfo", Works, Unlisted, move |d| {
            let info = info(d);
            call!(d, SYS_rt_sigqueueinfo, victim, SIGCONT, info)
        }),
        attempt("rt_tgsigqueueinfo", Works, Unlisted, move |d| {
            let info = info(d);
            call!(d, SYS_rt_tgsigqueueinfo, victim, victim, SIGCONT, info)
        }),
        attempt("pidfd_send_signal", Works, Unlisted, move |d| {
            let pidfd = if d.free { call!(d, SYS_pidfd_open, victim, 0) } else { Value::from(0) };
            call!(d, SYS_pidfd_send_signal, pidfd, SIGCONT, 0, 0)
        }),
        attempt("signal_by_the_owner_of_a_descriptor", Works, Unlisted, move |d| {
            call!(d, SYS_fcntl, 0, libc::F_SETOWN, victim)
        }),
        attempt("signal_by_another_number_for_a_descriptor", Works, Unlisted, |d| {
            call!(d, SYS_fcntl, 0, 10 /* F_SETSIG */, SIGIO)
        }),
        attempt("signal_by_a_timer", Works, Unlisted, |d| {
            let (event, timer) = (d.zeros(64), d.zeros(8));
            // sigev_notify: SIGEV_NONE.
            d.put_word(event, 12, 1);
            call!(d, SYS_timer_create, libc::CLOCK_MONOTONIC, event, timer)
        }),
    ]
}

/// A siginfo as sigqueue(3) makes it.
fn info(d: &mut Draft) -> Value {
    let info = d.zeros(128);
    d.put_word(info, 0, SIGCONT);
    // si_code: SI_QUEUE.
    d.put_word(info, 8, -1);
    info.into()
}
