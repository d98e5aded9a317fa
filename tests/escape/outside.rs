//! This program once more, in a process that nothing guards: it runs scripts, or it is whom they
//! attack.

use std::fs::File;
use std::io::{IoSlice, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::stdio::{stdin, stdout};
use wasi_guard_captive::{Answer, Script, receive, send, serve};

/// Its first argument where it was executed by a script, and its exit status then.
pub(crate) const EXECUTED: (&str, u8) = ("--executed", 77);
/// What the memory of a victim holds.
pub(crate) const SECRET: &[u8; 29] = b"the secret of another process";
const OBEY: &str = "--obey";
const SUFFER: &str = "--suffer";

/// Serves and says how to end if this process was started for it; `main` calls it first.
pub(crate) fn serve_if_asked() -> Option<ExitCode> {
    // A script that was made executable brings its name after the argument.
    let word = std::env::args().nth(1)?;
    match word.as_str() {
        OBEY => Some(match serve(stdin(), stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }),
        SUFFER => Some(suffer()),
        _ if word == EXECUTED.0 => Some(ExitCode::from(EXECUTED.1)),
        _ => None,
    }
}

/// Says where a secret lies and waits for its end.
fn suffer() -> ExitCode {
    let secret = Box::new(*SECRET);
    let told = writeln!(std::io::stdout(), "{}", secret.as_ptr().expose_provenance());
    let mut rest = Vec::new();
    let waited = std::io::stdin().read_to_end(&mut rest);
    std::hint::black_box(&secret);
    if told.is_ok() && waited.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a script. `None` if the process ended before it could answer; how it ended.
pub(crate) fn run(script: &Script) -> Result<(Option<Answer>, ExitStatus)> {
    run_with(script, None)
}

/// The same; a descriptor waits for the script at its stderr.
pub(crate) fn run_with(
    script: &Script,
    waiting: Option<BorrowedFd<'_>>,
) -> Result<(Option<Answer>, ExitStatus)> {
    // What a worker's stderr is; see `captive.rs`.
    let (stderr, ours) = UnixDatagram::pair().context("make a socket pair")?;
    if let Some(descriptor) = waiting {
        send_descriptor(&ours, descriptor)?;
    }
    let mut child = Command::new("/proc/self/exe")
        .arg(OBEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::os::fd::OwnedFd::from(stderr))
        .spawn()
        .context("start a process that nothing guards")?;
    let input = child.stdin.take().context("it has no stdin")?;
    let output = child.stdout.take().context("it has no stdout")?;
    send(&input, script).context("send it a script")?;
    let answer = receive(output.as_fd()).unwrap_or_default();
    drop(input);
    Ok((answer, child.wait().context("wait for its end")?))
}

/// Sends one byte and a descriptor.
pub(crate) fn send_descriptor(socket: &UnixDatagram, descriptor: BorrowedFd<'_>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "no room for a message");
    let byte = [IoSlice::new(b"x")];
    sendmsg(socket, &byte, &mut control, SendFlags::empty()).context("send a descriptor")?;
    Ok(())
}

/// A process of somebody else.
pub(crate) struct Victim {
    child: Child,
    /// Where its secret lies.
    pub(crate) address: u64,
}

impl Victim {
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("victim")
            .arg(SUFFER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a victim")?;
        let mut line = Vec::new();
        let mut output = child.stdout.take().context("it has no stdout")?;
        let mut byte = [0];
        while output.read(&mut byte)? == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        let address = String::from_utf8(line)?.parse().context("it says where its secret is")?;
        Ok(Self { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its secret.
    pub(crate) fn secret(&self) -> Result<Vec<u8>> {
        let memory = File::open(format!("/proc/{}/mem", self.pid())).context("open its memory")?;
        let mut secret = vec![0; SECRET.len()];
        memory.read_exact_at(&mut secret, self.address).context("read its memory")?;
        Ok(secret)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It may have been killed by a script, which then has failed already.
        let _ = (self.child.kill(), self.child.wait());
    }
}
