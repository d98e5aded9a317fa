//! A worker, real in every respect, in which native code does what it is told.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value as Json;
use wasi_guard_captive::{Answer, Script, Value, call, receive, send};

use crate::scene::Scene;

/// How long anything may take. The first start loads the BPF programs, which takes an emulated
/// machine up to a minute.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a record may take from the kernel to its file.
const RECORD: Duration = Duration::from_secs(10);
/// A denied file that is opened after each script: when its record is there, so are all before it.
const FENCE: &str = "outside/fence";

/// In a script for a worker: the descriptor of the directory that its policy grants.
pub(crate) const PREOPEN: Value = Value::Given(0);
/// The control socket to the supervisor.
pub(crate) const CONTROL: Value = Value::Given(1);
const CONTROL_NUMBER: u64 = 3;
/// The guest's compiled code.
pub(crate) const ARTIFACT: Value = Value::Given(2);

/// Of a worker that has a broker: the socket to it, and the memory that both have.
pub(crate) const BROKER: Value = Value::Given(3);
pub(crate) const WINDOW: Value = Value::Given(4);

/// A run of wasi-guard whose worker obeys. Killed if dropped before its end.
pub(crate) struct Captive {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// The other end of the run's stderr.
    pub(crate) stderr: UnixDatagram,
    says: String,
    audit: PathBuf,
    /// Bytes of the audit that were looked at.
    seen: usize,
    /// Known when the guest runs: the worker's process, its cgroup, its descriptors.
    place: Option<Place>,
}

struct Place {
    worker: u32,
    cgroup: PathBuf,
    given: Vec<u64>,
}

/// How a run ended.
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    pub(crate) records: Vec<Json>,
    says: String,
}

impl Captive {
    /// Starts one, without waiting for it.
    pub(crate) fn start(scene: &Scene, number: u32, limits: &str, network: bool) -> Result<Self> {
        let policy = scene.policy(number, limits, network)?;
        let audit = Scene::path(&format!("audit-{number}.jsonl"));
        // Stderr is a socket, for ideas that need one of another kind than the policy grants.
        let (ours, theirs) = UnixDatagram::pair().context("make a socket pair")?;
        ours.set_nonblocking(true)?;
        let mut child = Command::new("wasi-guard-unchecked")
            .args(["run", "--policy"])
            .arg(&policy)
            .arg("--audit")
            .arg(&audit)
            .arg("/guests/captive.wat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(OwnedFd::from(theirs))
            .spawn()
            .context("start wasi-guard-unchecked")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("it has no stdout")?;
        let says = String::new();
        Ok(Self { child, stdin, stdout, stderr: ours, says, audit, seen: 0, place: None })
    }

    /// Waits until the guest runs and finds its place.
    fn place(&mut self) -> Result<&Place> {
        if self.place.is_none() {
            let alive = self.exchange(&Script::default())?;
            if alive.is_none() {
                let says = self.listen().to_owned();
                bail!("the guest did not start: {says}");
            }
            self.place = Some(self.find()?);
        }
        self.place.as_ref().context("it has no place")
    }

    fn find(&self) -> Result<Place> {
        let name = format!("guest-{}-0", self.child.id());
        let parents = fs::read_dir("/sys/fs/cgroup").context("list the cgroups")?.flatten();
        let cgroup = parents
            .map(|parent| parent.path().join(&name))
            .find(|path| path.is_dir())
            .with_context(|| format!("there is no cgroup {name}"))?;
        let processes = fs::read_to_string(cgroup.join("cgroup.procs"))?;
        let worker = processes
            .trim()
            .parse()
            .with_context(|| format!("not one process is in its cgroup, but {processes:?}"))?;
        let data = Scene::text("data");
        let preopen = descriptor(worker, |target| target == data)?;
        let artifact = descriptor(worker, is_artifact)?;
        let mut given = vec![preopen, CONTROL_NUMBER, artifact];
        if let Ok(window) =
            descriptor(worker, |target| target.starts_with("/memfd:wasi-guard-window"))
        {
            given.extend([other_socket(worker)?, window]);
        }
        Ok(Place { worker, cgroup, given })
    }

    /// The worker's process.
    pub(crate) fn worker(&mut self) -> Result<u32> {
        Ok(self.place()?.worker)
    }

    /// The worker's cgroup.
    pub(crate) fn cgroup(&mut self) -> Result<PathBuf> {
        Ok(self.place()?.cgroup.clone())
    }

    /// The supervisor's process.
    pub(crate) fn supervisor(&self) -> u32 {
        self.child.id()
    }

    /// Has a script run. `None` if the worker ended by it; else its answer and the records that
    /// it left.
    pub(crate) fn ask(&mut self, script: &Script) -> Result<Option<(Answer, Vec<Json>)>> {
        let mut script = script.clone();
        script.given = self.place()?.given.clone();
        // A race comes after the steps, so the fence needs a script of its own.
        let raced = script.race.is_some();
        let raced = if raced { self.exchange(&std::mem::take(&mut script))? } else { None };
        let fence = script.text(Scene::text(FENCE));
        call!(script, SYS_openat, libc::AT_FDCWD, fence, libc::O_RDONLY);
        let Some(mut answer) = self.exchange(&script)? else { return Ok(None) };
        let fenced = answer.results.pop();
        if let Some(raced) = raced {
            answer = raced;
        }
        ensure!(fenced == Some(-i64::from(libc::EACCES)), "the fence was answered {fenced:?}");
        Ok(Some((answer, self.records_to_the_fence()?)))
    }

    fn exchange(&mut self, script: &Script) -> Result<Option<Answer>> {
        let stdin = self.stdin.as_ref().context("its stdin is closed")?;
        if send(stdin, script).is_err() {
            return Ok(None);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.listen();
            let mut fds = [PollFd::new(&self.stdout, PollFlags::IN)];
            let short = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            if poll(&mut fds, Some(&short))? > 0 {
                return receive(self.stdout.as_fd()).context("hear what the worker answers");
            }
            ensure!(Instant::now() < deadline, "no answer within {PATIENCE:?}: {}", self.says);
        }
    }

    /// Takes what came on stderr, so that nobody waits for room there.
    fn listen(&mut self) -> &str {
        let mut bytes = [0; 8192];
        while let Ok(length) = self.stderr.recv(&mut bytes) {
            self.says.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        &self.says
    }

    fn records_to_the_fence(&mut self) -> Result<Vec<Json>> {
        let deadline = Instant::now() + RECORD;
        let mut records = Vec::new();
        loop {
            for record in self.new_records()? {
                let path = record["path"].as_str().unwrap_or_default();
                if record["record"] == "denial" && path.ends_with(FENCE) {
                    return Ok(records);
                }
                if record["record"] != "start" {
                    records.push(record);
                }
            }
            ensure!(Instant::now() < deadline, "no record of the fence, but {records:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn new_records(&mut self) -> Result<Vec<Json>> {
        let text = fs::read_to_string(&self.audit).context("read the audit")?;
        let new = text.get(self.seen..).unwrap_or_default();
        // A line that is still being written comes next time.
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.seen += whole;
        let lines = new.get(..whole).unwrap_or_default().lines();
        lines.map(|line| serde_json::from_str(line).context("an audit line is no JSON")).collect()
    }

    /// Waits for its end, after closing its stdin.
    pub(crate) fn end(mut self) -> Result<End> {
        self.stdin = None;
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            self.listen();
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(Instant::now() < deadline, "it did not end within {PATIENCE:?}: {}", self.says);
            std::thread::sleep(Duration::from_millis(5));
        };
        let records = self.new_records()?;
        let says = self.listen().to_owned();
        let end = End { status, records, says };
        if let Some(place) = &self.place {
            ensure!(!place.cgroup.exists(), "its cgroup is still there: {end}");
        }
        Ok(end)
    }
}

impl Drop for Captive {
    fn drop(&mut self) {
        // Already ended in every idea that passed.
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Whether this is what a descriptor of compiled code shows: fresh from the compiler, or cached.
pub(crate) fn is_artifact(target: &str) -> bool {
    target.starts_with("/memfd:wasi-guard-artifact") || target.starts_with("/var/cache/wasi-guard/")
}

/// The number of a process's descriptor of what is wanted.
fn descriptor(process: u32, wanted: impl Fn(&str) -> bool) -> Result<u64> {
    let found = descriptors(process, wanted)?;
    found.first().copied().with_context(|| format!("a descriptor of process {process} is missing"))
}

/// The socket of a worker that is neither stdio nor the control socket.
fn other_socket(process: u32) -> Result<u64> {
    let mut found = descriptors(process, |target| target.starts_with("socket:"))?;
    found.retain(|number| *number > CONTROL_NUMBER);
    ensure!(found.len() == 1, "sockets of the worker: {found:?}");
    Ok(found[0])
}

/// The numbers of a process's descriptors of what is wanted.
fn descriptors(process: u32, wanted: impl Fn(&str) -> bool) -> Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd")).context("list descriptors")?.flatten()
    {
        if fs::read_link(entry.path()).is_ok_and(|it| wanted(&it.to_string_lossy())) {
            let name = entry.file_name();
            found.push(name.to_string_lossy().parse().context("a descriptor is a number")?);
        }
    }
    Ok(found)
}

impl End {
    fn last(&self) -> &Json {
        self.records.last().unwrap_or(&Json::Null)
    }

    /// The guest ended by itself, with success.
    pub(crate) fn in_order(&self) -> Result<()> {
        ensure!(self.status.success(), "{self}");
        ensure!(self.last()["record"] == "end" && self.last()["exit_code"] == 0, "{self}");
        ensure!(self.last()["errors"] == 0, "errors of the kernel side: {self}");
        Ok(())
    }

    /// The audit says that this limit ended it.
    pub(crate) fn limited_by(&self, limit: &str) -> bool {
        self.records.iter().any(|it| it["record"] == "limit" && it["limit"] == limit)
    }

    /// One of these signals ended the worker, and the audit says so.
    pub(crate) fn by_signal(&self, signals: &[i32]) -> Result<()> {
        let signal = self.last()["signal"].as_i64().and_then(|it| i32::try_from(it).ok());
        ensure!(signal.is_some_and(|it| signals.contains(&it)), "expected {signals:?}: {self}");
        ensure!(!self.status.success(), "{self}");
        Ok(())
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, says, .. } = self;
        write!(f, "it ended with {status}, said {says:?}, last record {}", self.last())
    }
}
