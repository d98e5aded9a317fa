//! Descriptors that come or go as messages.
//!
//! Stopped by: seccomp, which lists no call that takes descriptors; behind it BPF, whoever sends
//! them. What goes to the supervisor is dropped by the
//! kernel, as the supervisor offers no room for it.

use std::fs::{self, File};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail, ensure};
use wasi_guard_captive::{Answer, Buffer, Script, Value};

use crate::captive::CONTROL;
use crate::idea::Idea;
use crate::outside;
use crate::scene::Scene;
use crate::trial::Lab;

/// Stderr, a socket whose other end the caller has.
const GIVEN: i32 = 2;
/// Where a control message has its descriptor.
const DESCRIPTOR: std::ops::Range<usize> = 16..20;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("receive_a_descriptor", receive),
        Idea::Case("send_descriptors_to_the_supervisor", send),
    ]
}

/// Somebody outside sends a file that the policy does not grant: it arrives where nothing guards,
/// and a worker cannot ask for it.
fn receive(lab: &mut Lab<'_>) -> Result<()> {
    let secret = File::open(Scene::path("outside/secret")).context("open what is sent")?;
    let mut script = Script::default();
    let (_, control) = message(&mut script, libc::SYS_recvmsg, GIVEN.into(), 1);
    script.keep(control);
    let received = |answer: &Answer| {
        ensure!(answer.results.last() == Some(&1), "results {:?}", answer.results);
        let control = answer.kept.first().context("no control message")?;
        let number = control[DESCRIPTOR].first_chunk().copied().context("it is too short")?;
        Ok(u32::from_ne_bytes(number) != NONE)
    };
    let outside = |script: &Script| -> Result<()> {
        let (answer, _) = outside::run_with(script, Some(secret.as_fd()))?;
        ensure!(received(&answer.context("no answer")?)?, "it does not come where nothing guards");
        Ok(())
    };
    outside(&script)?;
    for second in [false, true] {
        script.thread = second;
        let captive = lab.shared()?;
        // It must run, or the message is sent to nobody.
        captive.worker()?;
        outside::send_descriptor(&captive.stderr, secret.as_fd())?;
        let Some((answer, records)) = captive.ask(&script)? else { bail!("the worker is gone") };
        let denied = -i64::from(libc::EACCES);
        ensure!(answer.results.last() == Some(&denied), "results {:?}", answer.results);
        let operations: Vec<_> = records.iter().map(|it| it["operation"].as_str()).collect();
        ensure!(operations == [Some("syscall")], "records {records:?}");
    }
    script.thread = false;
    outside(&script)
}

/// Nothing of it stays with the supervisor.
fn send(lab: &mut Lab<'_>) -> Result<()> {
    let captive = lab.shared()?;
    captive.worker()?;
    let folder = format!("/proc/{}/fd", captive.supervisor());
    let held = || Ok::<_, std::io::Error>(fs::read_dir(&folder)?.count());
    let before = held().context("count the supervisor's descriptors")?;
    let mut script = Script::default();
    let (header, _) = message(&mut script, libc::SYS_sendmsg, CONTROL, 10);
    let Some((answer, records)) = captive.ask(&script)? else { bail!("the worker is gone") };
    let sent = answer.results.last().copied().unwrap_or_default();
    // Sent, or refused for want of room.
    ensure!(sent == 1 || sent == -i64::from(libc::EAGAIN), "{header:?}: {:?}", answer.results);
    ensure!(records.is_empty(), "records {records:?}");
    let after = held()?;
    ensure!(after == before, "the supervisor has {after} descriptors instead of {before}");
    Ok(())
}

/// What no descriptor is.
const NONE: u32 = 0xffff;

/// A message of one byte and one descriptor, sent or received.
fn message(script: &mut Script, number: i64, socket: Value, times: u32) -> (Buffer, Buffer) {
    let (header, byte) = (script.zeros(56), script.zeros(1));
    let (part, control) = (script.zeros(16), script.zeros(24));
    script.put(part, 0, byte);
    script.put(part, 8, 1);
    script.put(header, 16, part);
    script.put(header, 24, 1);
    script.put(header, 32, control);
    script.put(header, 40, 24);
    script.put(control, 0, 20);
    script.put_word(control, 8, libc::SOL_SOCKET);
    script.put_word(control, 12, libc::SCM_RIGHTS);
    // To be sent: stdin. What is received is written over it.
    let descriptor: Value = if number == libc::SYS_sendmsg { 0.into() } else { NONE.into() };
    script.put_word(control, DESCRIPTOR.start, descriptor);
    let arguments = [socket, header.into(), libc::MSG_DONTWAIT.into()];
    script.enter(wasi_guard_captive::Entry::Plain, number as u64, &arguments, times);
    (header, control)
}
