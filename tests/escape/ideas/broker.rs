//! Talk to the broker, which loads and attaches what the policy's `[bpf]` lists: whatever comes over
//! its socket, and whatever lies in the window, is a hostile guest's.
//!
//! Stopped by: the broker, which takes bounded, typed questions, one at a time, and does nothing that
//! the policy does not list. Neither may it crash, nor hang, nor keep its supervisor from ending the
//! guest in order.

use anyhow::{Result, ensure};
use wasi_guard_captive::{Entry, Script, call};

use super::control::{send, survives};
use crate::captive::{BROKER, WINDOW};
use crate::idea::Idea;
use crate::scene::Scene;
use crate::trial::Lab;

/// `Request::LastError` of the broker's protocol, the last kind and the shortest question.
const LAST: u8 = 11;

pub(super) fn ideas(_: &Scene) -> Vec<Idea<'_>> {
    vec![
        Idea::Case("forge_questions_to_the_broker", forged),
        Idea::Case("send_garbage_to_the_broker", garbage),
        Idea::Case("send_too_much_to_the_broker", long),
        Idea::Case("flood_the_broker_and_hear_nothing", flood),
        Idea::Case("hang_up_on_the_broker", hang_up),
        Idea::Case("load_what_the_window_does_not_hold", window),
    ]
}

/// Questions of every kind, about objects and maps that are not there, whole and cut.
fn forged(lab: &mut Lab<'_>) -> Result<()> {
    tried(lab, |script| {
        // One more kind than there are.
        for kind in 0..=LAST + 1 {
            for filling in [0, 1, 0x7f] {
                for length in 0..8 {
                    send(script, BROKER, &[&[kind][..], &vec![filling; length]].concat());
                }
            }
        }
    })
}

fn garbage(lab: &mut Lab<'_>) -> Result<()> {
    tried(lab, |script| {
        for message in [&[0xff; 40][..], &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], &[]] {
            send(script, BROKER, message);
        }
    })
}

fn long(lab: &mut Lab<'_>) -> Result<()> {
    tried(lab, |script| send(script, BROKER, &vec![LAST; 100_000]))
}

/// Each question has an answer, for which there is soon no room.
fn flood(lab: &mut Lab<'_>) -> Result<()> {
    tried(lab, |script| {
        let message = script.bytes([LAST]);
        let wait_not = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let arguments = [BROKER, message.into(), 1.into(), wait_not.into(), 0.into(), 0.into()];
        script.enter(Entry::Plain, libc::SYS_sendto as u64, &arguments, 20_000);
    })
}

fn hang_up(lab: &mut Lab<'_>) -> Result<()> {
    tried(lab, |script| {
        send(script, BROKER, &[LAST]);
        call!(script, SYS_shutdown, BROKER, libc::SHUT_RDWR);
        call!(script, SYS_close, BROKER);
    })
}

/// An object that is none, and lengths up to beyond the window's end.
fn window(lab: &mut Lab<'_>) -> Result<()> {
    tried(lab, |script| {
        let object = script.bytes([&b"\x7fELF\x02\x01\x01"[..], &[0xff; 500]].concat());
        call!(script, SYS_pwrite64, WINDOW, object, 507, 0);
        // `Request::Load(Bytes::Window(length))`, the length as postcard writes numbers.
        for length in
            [&[0xfb, 0x03][..], &[0x80, 0x80, 0x80, 0x04], &[0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            send(script, BROKER, &[&[0, 1][..], length].concat());
        }
    })
}

/// In a worker that has a broker, which answers before, and may have its records.
fn tried(lab: &mut Lab<'_>, write: impl FnOnce(&mut Script)) -> Result<()> {
    let (results, records) = survives(lab.tool()?, |script| {
        send(script, BROKER, &[LAST]);
        let answer = script.zeros(4096);
        call!(script, SYS_recvfrom, BROKER, answer, 4096, 0, 0, 0);
        write(script);
    })?;
    ensure!(results[0] == 1 && results[1] > 0, "the broker is not reached: {results:?}");
    let operations: Vec<_> = records.iter().map(|it| it["operation"].as_str()).collect();
    let of_broker = operations.iter().all(|it| *it == Some("wasm_bpf"));
    ensure!(of_broker, "other records: {records:?}");
    Ok(())
}
