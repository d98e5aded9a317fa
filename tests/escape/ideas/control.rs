//! Talk to the supervisor: what comes over the control socket is the guest's own word.
//!
//! Stopped by: the supervisor, which takes bounded, typed messages, and stops listening at the
//! first one that is none. Neither may it crash, nor hang, nor lose the records of the guest.

use anyhow::{Context as _, Result, ensure};
use wasi_guard_captive::{Entry, Script, Value, call};

use crate::captive::{CONTROL, Captive};
use crate::idea::Idea;
use crate::scene::Scene;
use crate::trial::Lab;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("forge_messages_to_the_supervisor", forged),
        Idea::Case("send_garbage_to_the_supervisor", garbage),
        Idea::Case("send_too_much_to_the_supervisor", long),
        Idea::Case("flood_the_supervisor", flood),
        Idea::Case("hang_up_on_the_supervisor", hang_up),
    ]
}

/// Messages of every kind that a worker may send at another time: whole ones, with every length.
fn forged(lab: &mut Lab<'_>) -> Result<()> {
    kept(lab, |script| {
        // Ended: with exit code 0, with a trap.
        for message in [&[3, 0, 0][..], &[3, 1, 4, b'f', b'u', b'e', b'l']] {
            send(script, CONTROL, message);
        }
        // One more than there are.
        for kind in 0..10 {
            for length in 0..6 {
                send(script, CONTROL, &[&[kind][..], &vec![0; length]].concat());
            }
        }
    })
}

/// Half messages, lengths beyond the message, nothing at all.
fn garbage(lab: &mut Lab<'_>) -> Result<()> {
    kept(lab, |script| {
        for message in [&[0xff; 40][..], &[3], &[4, 0x80, 0x80, 0x80, 0x80, 0x10], &[]] {
            send(script, CONTROL, message);
        }
    })
}

/// More than a message may have.
fn long(lab: &mut Lab<'_>) -> Result<()> {
    kept(lab, |script| send(script, CONTROL, &vec![3; 100_000]))
}

/// As many as fit, and more: the sender, not the supervisor, has to wait.
fn flood(lab: &mut Lab<'_>) -> Result<()> {
    kept(lab, |script| {
        let message = script.bytes([3, 0, 0]);
        let wait_not = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let arguments = [CONTROL, message.into(), 3.into(), wait_not.into(), 0.into(), 0.into()];
        script.enter(Entry::Plain, libc::SYS_sendto as u64, &arguments, 20_000);
    })
}

fn hang_up(lab: &mut Lab<'_>) -> Result<()> {
    kept(lab, |script| {
        call!(script, SYS_shutdown, CONTROL, libc::SHUT_RDWR);
        call!(script, SYS_close, CONTROL);
    })
}

/// Sends over one of the worker's sockets, without waiting.
pub(super) fn send(script: &mut Script, socket: Value, message: &[u8]) {
    let length = message.len();
    let message = script.bytes(message);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    call!(script, SYS_sendto, socket, message, length, flags, 0, 0);
}

/// [`survives`], without any record.
fn kept(lab: &mut Lab<'_>, write: impl FnOnce(&mut Script)) -> Result<()> {
    let (_, records) = survives(lab.doomed()?, write)?;
    ensure!(records.is_empty(), "records {records:?}");
    Ok(())
}

/// After this the guest is still guarded, its denials are still recorded, and its run ends in order.
/// Returns the results of the script's steps, and the other records.
pub(super) fn survives(
    mut captive: Captive,
    write: impl FnOnce(&mut Script),
) -> Result<(Vec<i64>, Vec<serde_json::Value>)> {
    let mut script = Script::default();
    write(&mut script);
    // The fence behind each script is denied, and its record comes.
    let (answer, mut records) = captive.ask(&script)?.context("the worker is gone")?;
    let (_, later) = captive.ask(&Script::default())?.context("the worker is gone")?;
    records.extend(later);
    captive.end()?.in_order()?;
    Ok((answer.results, records))
}
