//! Reloads while other things happen: denials, silence, clients that mean nothing good.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use rustix::process::Signal;
use serde_json::json;

use super::{CLOSED, OPEN, READ_ONCE_DENIED, READ_THREE_TIMES, data, hang_up, reload, start};
use crate::lab::Lab;
use crate::program::guarded;

/// The supervisor stands still while something is denied, and finds the record together with the
/// order for another policy, in which the rule has another line.
pub(super) fn older_records(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    folder.file("policy.toml", CLOSED)?;
    let mut live = start(
        &folder,
        "policy.toml",
        &[
            "read",
            "/data/in",
            "pause",
            "1",
            "read",
            "/data/secret",
            "pause",
            "2",
            "read",
            "/data/secret",
        ],
    )?;
    live.wait_for("read /data/in: IN")?;
    live.signal(Signal::STOP)?;
    live.go_on()?;
    live.wait_for("EACCES")?;
    hang_up(&live, &folder, &format!("{OPEN}\n\n\ndeny = [\"secret\"]\n"))?;
    live.signal(Signal::CONT)?;
    live.wait_for_records("reload", 1)?;
    live.go_on()?;
    let outcome = live.finish()?;
    let start = outcome.of_kind("start")[0]["policy_digest"].clone();
    let reload = outcome.of_kind("reload")[0]["policy_digest"].clone();
    ensure!(start != reload, "{outcome:?}");
    outcome.exits(0)?.denials(&[
        json!({ "policy_digest": start, "rule": { "number": 3, "text": "secret", "line": 8 } }),
        json!({ "policy_digest": reload, "rule": { "number": 2, "text": "secret", "line": 9 } }),
    ])?;
    Ok(())
}

/// Two policies that deny one file by rules with different numbers in different lines replace each
/// other while it is denied all the time: each record names the rule of the policy that it names.
pub(super) fn under_load(lab: &Lab) -> Result<()> {
    const DENIALS: &str = "60000";
    let folder = data(lab)?;
    folder.file("policy.toml", CLOSED)?;
    let shifted = folder.file("shifted.toml", format!("{OPEN}\n\n\ndeny = [\"secret\"]\n"))?;
    let operations = ["read", "/data/in", "flood", "/data/secret", DENIALS];
    let mut live = start(&folder, "policy.toml", &operations)?;
    live.wait_for("read /data/in: IN")?;
    live.go_on()?;
    for number in 1..=4 {
        live.wait_for_records("denial", 100 * number)?;
        reload(&live, &folder, if number % 2 == 1 { "shifted.toml" } else { "policy.toml" })?;
    }
    let outcome = live.finish()?;
    outcome.exits(0)?.is_quiet()?;
    let expected = [
        (folder.text("policy.toml"), json!({ "number": 3, "line": 8 })),
        (shifted, json!({ "number": 2, "line": 9 })),
    ];
    let denials = outcome.of_kind("denial");
    for (policy, rule) in &expected {
        let of_it: Vec<_> = denials.iter().filter(|it| it["policy"] == *policy).collect();
        ensure!(of_it.len() > 50, "{} denials by {policy}", of_it.len());
        for denial in of_it {
            let found = &denial["rule"];
            ensure!(found["number"] == rule["number"] && found["line"] == rule["line"], "{denial}");
            ensure!(found["text"] == "secret", "{denial}");
        }
    }
    ensure!(outcome.of_kind("reload").len() == 4, "four reloads");
    Ok(())
}

/// Half requests, huge ones, silence, and many at once; then somebody who means it is heard.
pub(super) fn bad_clients(lab: &Lab) -> Result<()> {
    let folder = data(lab)?;
    let mut live = start(&folder, "policy.toml", &READ_THREE_TIMES)?;
    live.wait_for("read /data/secret: SECRET")?;
    let address = SocketAddrUnix::new(format!("/run/wasi-guard/guests/{}", live.guest()))?;
    let client = || -> Result<OwnedFd> {
        let fd =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        connect(&fd, &address).context("connect to the supervisor")?;
        Ok(fd)
    };
    for bytes in [&[][..], &[1], &[1, 3, b'a'], &[0xff; 500], &[1; 40_000], &[2, 0, 0]] {
        let fd = client()?;
        send(&fd, bytes, SendFlags::NOSIGNAL).context("send to the supervisor")?;
        // Heard, and let go: with an answer, or without one if there was nothing to answer.
        let mut answer = [0; 4096];
        let (count, _) = recv(&fd, &mut answer[..], RecvFlags::empty())?;
        let text = String::from_utf8_lossy(&answer[..count]);
        ensure!(bytes.is_empty() || text.contains("could not understand the request"), "{text}");
    }
    let crowd: Vec<OwnedFd> = (0..8).map(|_| client()).collect::<Result<_>>()?;
    drop(crowd);
    // Two that say nothing: each may take five seconds.
    let _silent = (client()?, client()?);
    let start = Instant::now();
    reload(&live, &folder, "closed.toml")?;
    ensure!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    live.go_on()?;
    live.wait_for("EACCES")?;
    // One that does not wait for the answer.
    drop(guarded(&["policy", "reload", &live.guest(), &folder.text("open.toml")]).start()?);
    reload(&live, &folder, "open.toml")?;
    live.go_on()?;
    let outcome = live.finish()?;
    outcome.exits(0)?.prints(READ_ONCE_DENIED)?.is_quiet()?;
    ensure!(outcome.of_kind("reload_refused").is_empty(), "{outcome:?}");
    Ok(())
}
