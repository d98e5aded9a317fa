//! A small native supervisor that does what the real one does with `wasi-guard-enforce`, and its
//! worker, the prober, which tries a denied file as long as it lives.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::OFlags;
use wasi_guard_enforce::{
    cgroup::Limits,
    fault::{Fault, VARIABLE},
    guest::{Guest, LinkedFile},
    programs::Build,
    spawn::Request,
};
use wasi_guard_policy::Source;
use wasi_guard_tests::actor::own_program;
use wasi_guard_tests::sys;

const SUPERVISOR: &str = "fault-supervisor";
const PROBER: &str = "fault-prober";
/// The prober's end of the pipe on which it says what it has seen.
const SAYS: i32 = 3;
/// How long a killed guest may take to end, and a start to come to a point.
const PATIENCE: Duration = Duration::from_secs(300);
const POLICY: &str =
    "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"yes\", \"twice\"]\n";
const OTHER_POLICY: &str =
    "version = 1\n[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"yes\"]\n";

/// How long a supervisor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Start and end.
    End,
    /// The same, as if this process had more to do after it.
    Dropped,
    /// The same, with another policy in between.
    Reload,
    /// Its stdin ends.
    Told,
}

impl Until {
    const ALL: [(Self, &str); 4] = [
        (Self::End, "end"),
        (Self::Dropped, "dropped"),
        (Self::Reload, "reload"),
        (Self::Told, "told"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(until, _)| *until == self).map_or("end", |(_, name)| name)
    }
}

/// Plays supervisor or prober if this process was started as one.
pub(crate) fn serve_if_asked() -> Result<bool> {
    let arguments: Vec<_> = std::env::args_os().collect();
    let name = arguments.first().context("a name")?;
    if name == PROBER {
        probe(Path::new(arguments.get(1).context("the prober's directory")?))?;
        return Ok(true);
    }
    if name != SUPERVISOR {
        return Ok(false);
    }
    let [_, base, until, build] = arguments.as_slice() else { bail!("{arguments:?}") };
    let found = Until::ALL.iter().find(|(_, name)| until == name);
    let (until, _) = found.context("until when")?;
    let build = if build == "other" { Build::other() } else { Build::this(false) };
    supervise(Path::new(base), *until, &build)?;
    Ok(true)
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .with_context(|| format!("open {}", path.display()))
}

fn table(text: &str) -> Result<wasi_guard_policy::Table> {
    match wasi_guard_policy::load(&Source::new("policy.toml", text)) {
        Ok((policy, _)) => Ok(wasi_guard_policy::compile(&policy, &Default::default())?),
        Err(problems) => bail!("{problems:?}"),
    }
}

fn supervise(base: &Path, until: Until, build: &Build) -> Result<()> {
    let limits = Limits { pids: Some(8), ..Limits::default() };
    let mut guest = Guest::create(build, &limits, 4096, &own_program()?)?;
    let root = open_path(&base.join("data"))?;
    let mut first = table(POLICY)?;
    guest.root(&mut first, 0, root.as_fd())?;
    let linked = |name: &str| -> Result<LinkedFile> {
        Ok(LinkedFile { fd: open_path(&base.join(name))?, rights: 0, deny_rule: 0 })
    };
    guest.links(&mut first, vec![linked("data/twice")?])?;
    let artifact = open_path(&base.join("artifact"))?;
    guest.runtime_file(artifact.as_fd())?;
    let (hears, says) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (name, path) = (CString::new(PROBER)?, CString::new(base.as_os_str().as_bytes())?);
    let worker = guest.spawn(&Request {
        arguments: &[&name, &path],
        environment: &[],
        descriptors: &[(says.as_fd(), SAYS)],
        isolation: None,
    })?;
    drop(says);
    let mut hears = File::from(hears);
    let mut hear = |what: &str| {
        hears.read_exact(&mut [0]).with_context(|| format!("hear that the prober {what}"))
    };
    hear("was denied")?;
    guest.begin_loading()?;
    guest.arm(&first)?;
    hear("was allowed")?;
    guest.end_loading()?;
    if until == Until::Reload {
        let mut second = table(OTHER_POLICY)?;
        guest.root(&mut second, 0, root.as_fd())?;
        guest.replace(&mut second, vec![linked("data/twice")?])?;
    }
    if until == Until::Told {
        println!("cgroup {}", guest.path().display());
        println!("worker {}", worker.pid());
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    if until == Until::Dropped {
        drop(guest);
    } else {
        guest.end();
    }
    worker.wait()?;
    Ok(())
}

fn probe(base: &Path) -> Result<()> {
    let mut says = File::from(sys::inherited(SAYS)?.try_clone_to_owned()?);
    let (denied, allowed) = (base.join("data/no"), base.join("data/yes"));
    let (mut was_denied, mut was_allowed) = (false, false);
    loop {
        match File::open(&denied) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {}
            other => {
                println!("UNGUARDED: {other:?}");
                return Ok(());
            }
        }
        if !was_denied {
            was_denied = true;
            // Nobody may hear it any more; it tries on all the same, as a hostile one would.
            let _ = says.write_all(b"x");
        }
        if !was_allowed && File::open(&allowed).is_ok() {
            was_allowed = true;
            println!("armed");
            let _ = says.write_all(b"x");
        }
    }
}

/// A supervisor that runs.
pub(crate) struct Live {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
    errors: PathBuf,
}

/// A supervisor and its guest that have ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Lines of both on stdout.
    pub(crate) said: Vec<String>,
    pub(crate) errors: String,
}

impl Live {
    /// Starts one, with files of its own.
    pub(crate) fn start(fault: Option<Fault>, until: Until, build: &Build) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let base = PathBuf::from(format!("/tmp/fault-suite/{number}"));
        fs::create_dir_all(base.join("data"))?;
        for name in ["data/yes", "data/no", "data/twice", "artifact"] {
            fs::write(base.join(name), name)?;
        }
        let errors = base.join("errors");
        let mut command = Command::new("/proc/self/exe");
        command.arg0(SUPERVISOR).arg(&base).arg(until.name());
        command.arg(if *build == Build::other() { "other" } else { "this" });
        command.env_remove(VARIABLE);
        if let Some(fault) = fault {
            command.env(VARIABLE, fault.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let mut child = command.spawn().context("start a supervisor")?;
        let stdout = child.stdout.take().context("its output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in
                std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok)
            {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, said: Vec::new(), errors })
    }

    /// Waits for a line that begins with this word, and returns the rest.
    pub(crate) fn word(&mut self, word: &str) -> Result<String> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).with_context(|| {
                let errors = fs::read_to_string(&self.errors).unwrap_or_default();
                format!("no {word:?}, but {:?}; {errors}", self.said)
            })?;
            self.said.push(line.clone());
            if let Some(rest) = line.strip_prefix(word) {
                return Ok(rest.trim().to_owned());
            }
        }
    }

    /// Kills the supervisor.
    pub(crate) fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }

    /// Lets it end, and waits until supervisor and worker are gone: both hold the pipe.
    pub(crate) fn end(mut self) -> Result<Ended> {
        drop(self.child.stdin.take());
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    // Otherwise the machine has to do with it for ever.
                    self.child.kill()?;
                    bail!("it lives on after {PATIENCE:?}: {:?}", self.said);
                }
            }
        }
        let status = self.child.wait()?;
        let errors = fs::read_to_string(&self.errors)?;
        let ended = Ended { status, said: self.said, errors };
        let unguarded = ended.said.iter().any(|line| line.starts_with("UNGUARDED"));
        ensure!(!unguarded, "a process ran unguarded: {ended:?}");
        Ok(ended)
    }
}

impl Ended {
    /// Killed, as the fault wanted it: the point was reached.
    pub(crate) fn was_killed(&self) -> Result<()> {
        ensure!(self.status.signal() == Some(libc::SIGKILL), "the point was not reached: {self:?}");
        Ok(())
    }

    /// A whole life, with the policy in force.
    pub(crate) fn lived(&self) -> Result<()> {
        ensure!(self.status.success(), "the start failed: {self:?}");
        ensure!(self.said.iter().any(|line| line == "armed"), "never in force: {self:?}");
        Ok(())
    }
}

/// Runs one to its end.
pub(crate) fn run(fault: Option<Fault>, until: Until) -> Result<Ended> {
    Live::start(fault, until, &Build::this(false))?.end()
}

/// A start works, and nothing is left.
pub(crate) fn works(build: &Build) -> Result<()> {
    Live::start(None, Until::End, build)?.end()?.lived()
}
