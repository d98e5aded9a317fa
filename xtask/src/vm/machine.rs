//! A running machine: qemu, the agent's port, the console's log.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;
use wasi_guard_vm_agent::Frame;

use super::emulator::Emulator;
use super::kernel::{Kernel, Series};

/// What kind of machine to boot.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which kernel.
    pub kernel: Series,
    /// RAM in MiB.
    pub memory: u32,
    /// Processors. `icount` makes it one.
    pub cpus: u32,
    /// The processors run at the same time, so that programs race; else they take turns of up to
    /// 100 ms on one thread of the host. Where several machines run at a time that wins nothing, and
    /// qemu before 8.1 then sometimes goes on with code that the kernel has patched ("Oops: int3").
    pub at_once: bool,
    /// The machine's clock counts instructions, so that a cost is the same at every run.
    pub icount: bool,
    /// How long the boot may take.
    pub boot_limit: Duration,
}

impl Options {
    /// 2048 MiB, two processors that take turns, three minutes for the boot.
    pub fn new(kernel: Series) -> Self {
        Self {
            kernel,
            memory: 2048,
            cpus: 2,
            at_once: false,
            icount: false,
            boot_limit: Duration::from_secs(180),
        }
    }
}

/// Where output of a command came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The machine itself failed: whatever the command said does not count.
#[derive(Debug)]
pub struct Failure {
    /// What happened, in one line or with the kernel's words below it.
    pub what: String,
    /// The end of the console's log.
    pub console: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the VM failed: {}", self.what)?;
        if self.console.is_empty() {
            write!(f, "\n(its console is empty)")
        } else {
            write!(f, "\n--- end of its console ---\n{}\n---", self.console)
        }
    }
}

impl std::error::Error for Failure {}

/// A booted machine; it is killed when dropped. Its disks are snapshots, nothing can be lost.
pub struct Machine {
    qemu: Child,
    port: UnixStream,
    /// Console log, qemu's messages, snapshots.
    folder: TempDir,
    release: String,
    boot_time: Duration,
}

const CONSOLE_LINES: usize = 80;
/// How the kernel begins a line about its own failure, at any log level that the console shows.
const KERNEL_FAILURES: [&str; 6] = [
    "Kernel panic - not syncing",
    "Oops: ",
    "BUG: ",
    "kernel BUG at",
    "general protection fault",
    "WARNING: CPU",
];

impl Machine {
    pub(super) fn boot(
        runs: &Path,
        emulator: &Emulator,
        kernel: &Kernel,
        initramfs: &Path,
        root: &Path,
        scratch: &Path,
        options: &Options,
    ) -> Result<Self> {
        let start = Instant::now();
        let folder =
            super::named().tempdir_in(runs).context("cannot create a folder for the VM")?;
        // In the system's folder for temporary files: a socket's path must be short.
        let door = tempfile::tempdir().context("cannot create a temporary folder")?;
        let socket = door.path().join("agent");
        let listener = UnixListener::bind(&socket).context("cannot create the agent's socket")?;
        listener.set_nonblocking(true).context("cannot prepare the agent's socket")?;
        let messages = fs::File::create(folder.path().join("qemu"))
            .context("cannot create qemu's message file")?;
        let mut command = qemu(
            emulator,
            folder.path(),
            &socket,
            &kernel.image(),
            initramfs,
            root,
            scratch,
            options,
        );
        let mut qemu = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages)
            .spawn()
            .context("cannot start qemu")?;
        let port = loop {
            match listener.accept() {
                Ok((port, _)) => break port,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    let _ = (qemu.kill(), qemu.wait());
                    return Err(error).context("cannot accept the agent's connection");
                }
                Err(_) => {}
            }
            let ended = qemu.try_wait().context("cannot wait for qemu")?;
            if ended.is_some() || start.elapsed() > options.boot_limit {
                let _ = (qemu.kill(), qemu.wait());
                let what = format!("qemu did not start: {}", messages_of(folder.path()));
                return Err(Failure { what, console: String::new() }.into());
            }
            sleep(Duration::from_millis(5));
        };
        port.set_nonblocking(false).context("cannot prepare the agent's connection")?;
        let mut machine =
            Self { qemu, port, folder, release: String::new(), boot_time: Duration::ZERO };
        match machine.receive(start, options.boot_limit)? {
            Frame::Ready(release) => machine.release = release,
            other => return Err(machine.failure(format!("the agent began with {other:?}"))),
        }
        machine.boot_time = start.elapsed();
        Ok(machine)
    }

    /// The kernel's release, as `uname -r` prints it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// How long it took from the start of qemu until the machine was ready.
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// Runs one command and hands its output to `sink` as it comes. One word is a line for the
    /// shell; more words are a program and its arguments, which reach it unchanged. Returns the
    /// command's status, 128 + N where signal N ended it. A [`Failure`] is in the error when the
    /// machine failed or `limit` passed; the machine is of no use after that.
    pub fn run(
        &mut self,
        words: &[impl AsRef<str>],
        limit: Duration,
        mut sink: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> Result<u8> {
        let start = Instant::now();
        let words: Vec<String> = match words {
            [line] => ["sh", "-c", line.as_ref()].map(str::to_owned).into(),
            words => words.iter().map(|word| word.as_ref().to_owned()).collect(),
        };
        if let Err(error) = Frame::Run(words).write_to(&mut self.port) {
            return Err(self.failure(format!("its agent does not listen: {error}")));
        }
        loop {
            let frame = self.receive(start, limit)?;
            let handed_over = match &frame {
                Frame::Stdout(bytes) => sink(Stream::Stdout, bytes),
                Frame::Stderr(bytes) => sink(Stream::Stderr, bytes),
                Frame::Exit(status) => {
                    self.check_console()?;
                    return Ok(u8::try_from(*status).unwrap_or(u8::MAX));
                }
                Frame::Fault(what) => return Err(self.failure(what.clone())),
                Frame::Ready(_) | Frame::Run(_) => {
                    return Err(self.failure(format!("its agent sent {frame:?}")));
                }
            };
            handed_over.context("cannot hand on the output of the command")?;
        }
    }

    fn receive(&mut self, start: Instant, limit: Duration) -> Result<Frame> {
        let mut port = Timed { port: &self.port, start, limit };
        match Frame::read_from(&mut port) {
            Ok(frame) => Ok(frame),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let limit = limit.as_secs_f64();
                let what =
                    format!("no answer within {limit:.0} s: its command or its kernel hangs");
                Err(self.failure(what))
            }
            Err(error) => {
                // The port closes a moment before qemu ends.
                let patience = Instant::now() + Duration::from_secs(2);
                let mut ended = None;
                while ended.is_none() && Instant::now() < patience {
                    ended = self.qemu.try_wait().context("cannot wait for qemu")?;
                    sleep(Duration::from_millis(10));
                }
                let console = self.console();
                let what = if let Some(line) = kernel_failure(&console) {
                    format!("its kernel crashed: {line}")
                } else if let Some(status) = ended {
                    let messages = messages_of(self.folder.path());
                    format!("it ended ({status}) before its command did {messages}")
                } else {
                    format!("the connection to its agent broke: {error}")
                };
                Err(self.failure(what))
            }
        }
    }

    fn check_console(&mut self) -> Result<()> {
        match kernel_failure(&self.console()) {
            Some(line) => {
                let what = format!("its kernel complained: {line}");
                Err(self.failure(what))
            }
            None => Ok(()),
        }
    }

    fn failure(&mut self, what: String) -> anyhow::Error {
        let _ = (self.qemu.kill(), self.qemu.wait());
        let console = self.console();
        let lines: Vec<_> = console.lines().collect();
        let tail = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        Failure { what, console: tail }.into()
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.folder.path().join("console")).unwrap_or_default();
        // The firmware's escape sequences and carriage returns are of no interest.
        String::from_utf8_lossy(&bytes)
            .chars()
            .filter(|&c| c == '\n' || c == '\t' || !c.is_control())
            .collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = (self.qemu.kill(), self.qemu.wait());
    }
}

/// Removes what runs of processes that are gone have left (a killed xtask cannot).
pub(super) fn sweep(runs: &Path) {
    for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.split('-').next());
        if let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok())
            && !Path::new(&format!("/proc/{owner}")).exists()
        {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "a machine is made from so many things")]
fn qemu(
    emulator: &Emulator,
    folder: &Path,
    socket: &Path,
    kernel: &Path,
    initramfs: &Path,
    root: &Path,
    scratch: &Path,
    options: &Options,
) -> Command {
    // setpriv: no machine survives the xtask that started it.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).args(emulator.words());
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    // Emulated also where there is a /dev/kvm: nested KVM is often there and broken, and a result
    // must not depend on the host.
    command.args(["-machine", "q35", "-cpu", "max", "-m", &options.memory.to_string()]);
    if options.icount {
        command.args(["-accel", "tcg", "-smp", "1", "-icount", "shift=0,sleep=off"]);
    } else {
        let threads = if options.at_once { "tcg,thread=multi" } else { "tcg,thread=single" };
        command.args(["-accel", threads, "-smp", &options.cpus.to_string()]);
    }
    // The stock command line of Debian, the console, and every crash an end of the machine. A host
    // that stands still for half a minute is no lockup of the kernel's.
    command.args(["-append", "console=ttyS0 quiet panic=-1 oops=panic watchdog_thresh=60"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs);
    command.arg("-serial").arg(option("file:", &folder.join("console"), ""));
    command.arg("-chardev").arg(option("socket,id=agent,path=", socket, ""));
    command.args(["-device", "virtio-serial-pci"]);
    command.args(["-device", "virtserialport,chardev=agent,name=agent"]);
    for (id, disk) in [("root", root), ("scratch", scratch)] {
        let end = format!(",id={id},if=none,format=raw,snapshot=on,cache=unsafe");
        command.arg("-drive").arg(option("file=", disk, &end));
        command.args(["-device", &format!("virtio-blk-pci,drive={id}")]);
    }
    // Here go the snapshots.
    command.env("TMPDIR", folder);
    command
}

/// An argument of qemu with a path in it: a comma in the path is doubled.
fn option(front: &str, path: &Path, back: &str) -> String {
    format!("{front}{}{back}", path.to_string_lossy().replace(',', ",,"))
}

fn messages_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("qemu")).unwrap_or_default().trim().to_owned()
}

fn kernel_failure(console: &str) -> Option<&str> {
    console.lines().find(|line| KERNEL_FAILURES.iter().any(|mark| line.contains(mark)))
}

/// Reads from the port until a moment.
struct Timed<'a> {
    port: &'a UnixStream,
    start: Instant,
    limit: Duration,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.limit.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.port.set_read_timeout(Some(left))?;
        match (&mut &*self.port).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::TimedOut.into())
            }
            result => result,
        }
    }
}

/// Where a machine's folder is, for messages.
impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder: PathBuf = self.folder.path().into();
        f.debug_struct("Machine").field("release", &self.release).field("folder", &folder).finish()
    }
}
