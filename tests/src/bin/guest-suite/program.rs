//! wasi-guard as a caller sees it: started, spoken to, waited for.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::expect;

/// How long a run may take. The first one loads the BPF programs, which takes an emulated machine
/// up to a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// `wasi-guard` with these arguments.
pub(crate) fn guarded<S: AsRef<str>>(arguments: &[S]) -> Program {
    Program::new("wasi-guard", arguments)
}

/// The build of wasi-guard whose WASI path checks are switched off.
pub(crate) fn unchecked<S: AsRef<str>>(arguments: &[S]) -> Program {
    Program::new("wasi-guard-unchecked", arguments)
}

/// wasi-guard under another name.
pub(crate) fn program<S: AsRef<str>>(name: &str, arguments: &[S]) -> Program {
    Program::new(name, arguments)
}

/// A program to be started.
pub(crate) struct Program {
    pub(crate) command: Command,
    stdin: Option<String>,
}

impl Program {
    fn new<S: AsRef<str>>(name: &str, arguments: &[S]) -> Self {
        let mut command = Command::new(name);
        command.args(arguments.iter().map(AsRef::as_ref));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, stdin: None }
    }

    /// What it reads; nothing if not called.
    pub(crate) fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// Runs it to its end.
    pub(crate) fn finish(self) -> Result<Outcome> {
        let text = self.stdin.clone().unwrap_or_default();
        let mut live = self.start()?;
        if let Some(mut stdin) = live.stdin.take() {
            // A guest may end without reading.
            let _ = stdin.write_all(text.as_bytes());
        }
        live.finish()
    }

    /// Starts it. Its stdin stays open.
    pub(crate) fn start(mut self) -> Result<Live> {
        let mut child = self.command.spawn().context("start wasi-guard")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(Stream::follow);
        let stderr = child.stderr.take().map(Stream::follow);
        Ok(Live { child, stdin, stdout, stderr })
    }
}

/// A stream as far as it came.
struct Stream {
    text: Arc<(Mutex<String>, Condvar)>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn follow(pipe: impl std::io::Read + Send + 'static) -> Self {
        let text = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut bytes = Vec::new();
            while matches!(lines.read_until(b'\n', &mut bytes), Ok(1..)) {
                let (text, changed) = &*shared;
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&String::from_utf8_lossy(&bytes));
                changed.notify_all();
                bytes.clear();
            }
        });
        Self { text, reader }
    }

    /// All of it; its writers must have ended.
    fn end(self) -> String {
        // A reader that panicked has read what is there.
        let _ = self.reader.join();
        self.text.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has `word` so many times.
    fn wait_for(&self, word: &str, count: usize, limit: Duration) -> Result<()> {
        let start = Instant::now();
        let (text, changed) = &*self.text;
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        while text.matches(word).count() < count {
            let left = limit.saturating_sub(start.elapsed());
            ensure!(!left.is_zero(), "no {word:?} within {limit:?}, but: {text}");
            text = changed.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// A run under way. Killed if dropped before its end.
pub(crate) struct Live {
    child: Child,
    /// Open until it is taken.
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
}

impl Live {
    /// Waits until the guest has printed this.
    pub(crate) fn wait_for(&self, word: &str) -> Result<()> {
        let waited =
            self.stdout.as_ref().context("stdout is not followed")?.wait_for(word, 1, PATIENCE);
        let error = || {
            let stderr = self
                .stderr
                .as_ref()
                .map(|stream| stream.text.0.lock().unwrap_or_else(PoisonError::into_inner).clone());
            format!("stderr: {}", stderr.unwrap_or_default())
        };
        waited.with_context(error)
    }

    /// Waits until stderr has so many records of a kind.
    pub(crate) fn wait_for_records(&self, kind: &str, count: usize) -> Result<()> {
        let stderr = self.stderr.as_ref().context("stderr is not followed")?;
        stderr.wait_for(&format!("\"record\":\"{kind}\""), count, PATIENCE)
    }

    /// Sends the guest a byte, for which its `pause` waits.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        self.stdin.as_mut().context("stdin is closed")?.write_all(b"x").context("write to stdin")
    }

    /// The guest's name: in a run of its own, the supervisor's process names it.
    pub(crate) fn guest(&self) -> String {
        format!("guest-{}-0", self.pid())
    }

    /// The supervisor's process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal to the supervisor.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid()).context("no process")?;
        kill_process(pid, signal).context("send a signal")
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        drop(self.stdin.take());
        self.outcome()
    }

    /// Waits for the end and keeps the guest's stdin open meanwhile.
    pub(crate) fn outcome(&mut self) -> Result<Outcome> {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().context("wait for wasi-guard")? {
                break status;
            }
            if start.elapsed() > PATIENCE {
                let _ = (self.child.kill(), self.child.wait());
                let stderr = self.stderr.take().map(Stream::end).unwrap_or_default();
                bail!("it did not end within {PATIENCE:?}: {stderr}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let time = start.elapsed();
        let stdout = self.stdout.take().map(Stream::end).unwrap_or_default();
        let stderr = self.stderr.take().map(Stream::end).unwrap_or_default();
        let (records, says) = split(&stderr)?;
        let outcome = Outcome { status, stdout, says, records, time };
        outcome.check_records()?;
        Ok(outcome)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Already ended in every case that passed.
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// The audit lines among others, and the others.
fn split(stderr: &str) -> Result<(Vec<Value>, String)> {
    let (records, says): (Vec<&str>, Vec<&str>) =
        stderr.lines().partition(|line| line.starts_with("{\"time\":"));
    Ok((parse(&records.join("\n"))?, says.join("\n")))
}

/// Audit lines as JSON.
pub(crate) fn parse(lines: &str) -> Result<Vec<Value>> {
    let line = |line: &str| {
        serde_json::from_str(line).with_context(|| format!("this audit line is no JSON: {line}"))
    };
    lines.lines().map(line).collect()
}

/// A run that ended.
pub(crate) struct Outcome {
    status: ExitStatus,
    pub(crate) stdout: String,
    /// stderr without audit lines: wasi-guard's words and the guest's.
    pub(crate) says: String,
    /// Audit lines on stderr.
    pub(crate) records: Vec<Value>,
    /// How long the wait for its end took.
    pub(crate) time: Duration,
}

/// For the messages of failed cases: what one would see in a terminal.
impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, stdout, says, records, time } = self;
        write!(f, "{status} after {time:?}\n  stdout: {stdout:?}\n  stderr: {says:?}")?;
        for record in records {
            let mut record = record.clone();
            // The same in all records of a run.
            for name in ["time", "guest", "layers", "module", "module_digest", "policy_digest"] {
                record.as_object_mut().map(|fields| fields.remove(name));
            }
            write!(f, "\n  {record}")?;
        }
        Ok(())
    }
}

impl Outcome {
    /// The exit status was this one.
    pub(crate) fn exits(&self, code: i32) -> Result<&Self> {
        ensure!(self.status.code() == Some(code), "expected exit status {code}: {self:?}");
        Ok(self)
    }

    /// A signal ended it.
    pub(crate) fn ends_by(&self, signal: Signal) -> Result<&Self> {
        let expected = Some(signal.as_raw());
        ensure!(self.status.signal() == expected, "expected an end by {signal:?}: {self:?}");
        Ok(self)
    }

    /// The guest printed exactly this.
    pub(crate) fn prints(&self, text: &str) -> Result<&Self> {
        ensure!(self.stdout == text, "expected {text:?} on stdout: {self:?}");
        Ok(self)
    }

    /// stderr has this somewhere.
    pub(crate) fn says(&self, text: &str) -> Result<&Self> {
        ensure!(self.says.contains(text), "expected {text:?} on stderr: {self:?}");
        Ok(self)
    }

    /// stderr has nothing but audit lines.
    pub(crate) fn is_quiet(&self) -> Result<&Self> {
        ensure!(self.says.is_empty(), "expected nothing on stderr: {self:?}");
        Ok(self)
    }

    /// wasi-guard refused: its exit status, its words, a hint with this in it, and no guest ran.
    pub(crate) fn refuses(&self, step: &str, hint: &str) -> Result<&Self> {
        self.exits(125)?.prints("")?.says("error: could not ")?.says(step)?;
        let hinted = self.says.lines().any(|line| line.contains("hint: ") && line.contains(hint));
        ensure!(hinted, "expected a hint with {hint:?}: {self:?}");
        ensure!(self.records.is_empty(), "expected no audit: {self:?}");
        Ok(self)
    }

    /// Records of one kind.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.records.iter().filter(|record| record["record"] == kind).collect()
    }

    /// The denials are these, in this order: each has at least the fields that are given.
    pub(crate) fn denials(&self, expected: &[Value]) -> Result<&Self> {
        expect::records(&self.of_kind("denial"), expected).with_context(|| format!("{self:?}"))?;
        Ok(self)
    }

    /// There is one `limit` record with this limit.
    pub(crate) fn limited_by(&self, limit: &str) -> Result<&Self> {
        let expected = serde_json::json!({ "limit": limit });
        expect::records(&self.of_kind("limit"), &[expected])
            .with_context(|| format!("{self:?}"))?;
        Ok(self)
    }

    /// Where there is an audit it is whole: it begins with one start, ends with one end, and its
    /// counts are those of its lines.
    fn check_records(&self) -> Result<()> {
        let (Some(first), Some(last)) = (self.records.first(), self.records.last()) else {
            return Ok(());
        };
        // A start that failed by a limit has this record and no other.
        if self.status.code() == Some(125) && self.records.iter().all(|it| it["record"] == "limit")
        {
            return Ok(());
        }
        // The guest of a killed supervisor has no end record.
        if self.status.signal() == Some(Signal::KILL.as_raw()) {
            return Ok(());
        }
        expect::audit(&self.records, first, last).with_context(|| format!("{self:?}"))
    }
}

/// Reads all of a file that a run wrote.
pub(crate) fn read_all(mut file: std::fs::File) -> Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text).context("read what the run wrote")?;
    Ok(text)
}
