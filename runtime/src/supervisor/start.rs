//! From a plan to a running guest: cgroup, table, worker, hand-shake.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write as _,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd},
    os::unix::fs::OpenOptionsExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use wasi_guard_abi::operation::{Operation, Reason};
use wasi_guard_enforce::{
    fault::{self, Point},
    guest::Guest,
    isolation::Isolation,
    privilege::AsRoot,
    programs::{Build, run_dir},
    records::Denial,
    spawn::{Process, Request},
};
use wasi_guard_policy::Mode;

use super::{
    BATCH, Error, Job, Outcome, Plan, STEP_TIMEOUT,
    broker::{Brokering, Ends},
    holders::{self, Holders},
    links,
    reload::Reload,
    syscalls::Syscalls,
    watch::{Signals, Woken},
};
use crate::{
    audit::Auditor,
    compile::Artifact,
    program::{BUILD, WorkerProgram},
    protocol::{
        BrokerConfig, CONFIG_FD, CONTROL_FD, Canary, Channel, ChannelError, FIRST_FD, FromWorker,
        Options, Preopen, Role, RunConfig, ToWorker, WORKER_NAME, WorkerConfig,
    },
};

/// The file that every policy denies, because it lies in no preopen.
const CANARY: &str = "canary";
/// How long the record of the canary may take to arrive after its answer.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// A guest that runs.
pub(crate) struct Running {
    pub(crate) guest: Guest,
    pub(crate) worker: Process,
    pub(crate) channel: Channel,
    pub(crate) syscalls: Syscalls,
    pub(crate) started: Instant,
    pub(crate) bpf_log: bool,
    pub(crate) reload: Reload,
    /// Of a guest that may load BPF objects.
    pub(crate) broker: Option<Brokering>,
    /// Single files are there as long as this is.
    _holders: Holders,
}

/// What came of a start.
pub(crate) enum Started {
    Running(Box<Running>),
    /// A signal came before the guest ran.
    Ended(Outcome),
    /// The artifact is not for this machine.
    Incompatible(String),
}

pub(crate) fn start(
    job: &Job,
    plan: &Plan,
    options: &Options,
    artifact: &Artifact,
    auditor: &mut Auditor,
    signals: &Signals,
    program: &Arc<WorkerProgram>,
) -> Result<Started, Error> {
    let canary = canary()?;
    let build = Build::this(job.bpf_log);
    let mut guest = Guest::create(&build, &plan.limits, plan.ring_bytes, program.file())?;
    let mut table = plan.table.clone();
    let holders = holders::make(plan)?;
    fault::at(Point::HoldersMade);
    let fds = plan.roots.iter().map(|root| &root.fd);
    let fds = fds.chain(holders.list.iter().map(|holder| &holder.fd));
    for (index, fd) in fds.enumerate() {
        guest.root(&mut table, index, fd.as_fd())?;
    }
    let linked = links::search(&plan.policy, &table, &plan.roots)?;
    guest.links(&mut table, linked)?;
    fault::at(Point::LinksSearched);
    guest.runtime_file(artifact.file.as_fd())?;
    let ends = Ends::make(plan)?;
    let given = Given { canary: &canary, holders: &holders, broker: ends.as_ref() };
    let (channel, worker) = spawn(job, plan, options, artifact, &given, &mut guest)?;
    fault::at(Point::WorkerSpawned);
    // The worker has enough to do meanwhile.
    let reload = Reload::open(job, plan, &table, &guest)?;
    fault::at(Point::SocketMade);
    guest.prepare(&table)?;
    auditor.set_guest(guest.name());

    // Answers nothing before the guest asks.
    let broker = match (ends, &plan.policy.bpf) {
        (Some(ends), Some(policy)) => {
            Some(Brokering::start(ends, policy, plan, &guest, program.clone())?)
        }
        _ => None,
    };
    let shaken = shake_hands(plan, &channel, &worker, &mut guest, auditor, signals)
        .map_err(|error| of_limits(error, plan, &guest, auditor))?;
    Ok(match shaken {
        Shaken::Loaded(syscalls) => Started::Running(Box::new(Running {
            broker,
            guest,
            worker,
            channel,
            syscalls,
            started: Instant::now(),
            bpf_log: job.bpf_log,
            reload,
            _holders: holders,
        })),
        Shaken::Not(started) => started,
    })
}

/// What came of the hand-shake.
enum Shaken {
    /// The guest runs; the supervisor's end of its filter.
    Loaded(Syscalls),
    Not(Started),
}

fn shake_hands(
    plan: &Plan,
    channel: &Channel,
    worker: &Process,
    guest: &mut Guest,
    auditor: &mut Auditor,
    signals: &Signals,
) -> Result<Shaken, Error> {
    let mut steps = Steps { channel, worker, signals, syscalls: None, auditor };
    let started = steps.next()?;
    let Step::Message(FromWorker::Started) = started else {
        return steps.unexpected(started, "start").map(Shaken::Not);
    };
    fault::at(Point::StartedHeard);
    guest.begin_arming()?;
    let mut listener = None;
    let hardened = steps.next_with(&mut listener)?;
    let Step::Message(FromWorker::Hardened { .. }) = hardened else {
        return steps.unexpected(hardened, "give up its rights").map(Shaken::Not);
    };
    fault::at(Point::HardenedHeard);
    let listener = listener.ok_or_else(|| {
        Error::new("hear of the worker's system calls: it handed over no descriptor")
    })?;
    steps.syscalls = Some(Syscalls::new(listener, plan.policy.mode, worker.pid()));
    fault::at(Point::ListenerTaken);
    guest.begin_loading()?;
    guest.arm_prepared()?;
    steps.send(&ToWorker::Armed)?;
    fault::at(Point::ArmedSaid);
    let answer = steps.next()?;
    let Step::Message(FromWorker::Canary { errno }) = answer else {
        return steps.unexpected(answer, "open the canary").map(Shaken::Not);
    };
    check_canary(guest, worker, plan.policy.mode, errno)?;
    fault::at(Point::CanaryChecked);
    steps.send(&ToWorker::Load)?;
    fault::at(Point::LoadSaid);
    let loaded = steps.next()?;
    match loaded {
        Step::Message(FromWorker::Loaded { layers }) => {
            let Some(mut syscalls) = steps.syscalls.take() else {
                return Err(Error::new("hear of the worker's system calls"));
            };
            fault::at(Point::LoadedHeard);
            syscalls.loaded();
            guest.end_loading()?;
            steps.auditor.start(&layers);
            steps.send(&ToWorker::Start)?;
            fault::at(Point::StartSaid);
            Ok(Shaken::Loaded(syscalls))
        }
        other => steps.unexpected(other, "load the compiled module").map(Shaken::Not),
    }
}

/// A start that has failed in a worker for which there was no thread left: the limit is the cause,
/// whatever the worker could say of it.
fn of_limits(error: Error, plan: &Plan, guest: &Guest, auditor: &mut Auditor) -> Error {
    let refused = guest.pressure().refused_pids;
    let Some(pids) = plan.limits.pids.filter(|_| refused > 0) else { return error };
    auditor.limit("pids", &format!("{pids} threads, {refused} refused"));
    error.hint(format!(
        "`[limits] pids` is {pids}: the worker's own threads count as well, and it needs more of them"
    ))
}

/// The canary's directory. It is readable for everybody, so that nothing but the kernel's
/// verdict stands between it and the worker.
fn canary() -> Result<OwnedFd, Error> {
    let _root = AsRoot::enter()?;
    let dir = run_dir()?;
    let path = dir.join(CANARY);
    let step = |error| Error::step(format!("write the canary {}", path.display()), error);
    if !path.exists() {
        // Whatever the caller's umask is.
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o644);
        options
            .open(&path)
            .and_then(|mut file| {
                file.write_all(b"wasi-guard reads this to see that the kernel says no\n")
            })
            .map_err(step)?;
    }
    // It must work outside, or its failure inside proves nothing.
    File::open(&path).map_err(step)?;
    let fd = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(&dir)
        .map_err(step)?;
    Ok(fd.into())
}

/// What a worker is given beside its module.
struct Given<'a> {
    canary: &'a OwnedFd,
    holders: &'a Holders,
    broker: Option<&'a Ends>,
}

fn spawn(
    job: &Job,
    plan: &Plan,
    options: &Options,
    artifact: &Artifact,
    given: &Given<'_>,
    guest: &mut Guest,
) -> Result<(Channel, Process), Error> {
    let (channel, theirs) =
        Channel::pair().map_err(|error| Error::step("make the control socket", error))?;
    let mut numbers = FIRST_FD..;
    let mut number = || numbers.next().unwrap_or(RawFd::MAX);
    let (artifact_fd, canary_fd) = (number(), number());
    let mut descriptors: Vec<(BorrowedFd<'_>, RawFd)> = vec![
        (theirs.as_fd(), CONTROL_FD),
        (artifact.file.as_fd(), artifact_fd),
        (given.canary.as_fd(), canary_fd),
    ];
    let broker = given.broker.map(|ends| {
        let [channel, window] = ends.for_worker();
        let numbers = BrokerConfig { channel: number(), window: number() };
        descriptors.extend([(channel, numbers.channel), (window, numbers.window)]);
        numbers
    });
    let mut preopens = Vec::new();
    // The guest sees a single file in its holder.
    let directories = plan.roots.iter().filter(|root| !root.file).map(|it| (&it.fd, &it.guest));
    let made = given.holders.list.iter().map(|holder| (&holder.fd, &holder.guest));
    for (directory, guest) in directories.chain(made) {
        let fd = number();
        descriptors.push((directory.as_fd(), fd));
        preopens.push(Preopen { directory: fd, guest: guest.clone() });
    }
    let argv0 = job.argv0.clone().unwrap_or_else(|| {
        job.module.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    });
    let identity = guest.identity();
    let config = WorkerConfig::new(Role::Run(RunConfig {
        mode: match plan.policy.mode {
            Mode::Enforce => crate::protocol::Mode::Enforce,
            Mode::Audit => crate::protocol::Mode::Audit,
        },
        identity: identity.into(),
        name: plan.module.clone(),
        kind: artifact.kind,
        artifact: artifact_fd,
        args: std::iter::once(argv0).chain(job.arguments.iter().cloned()).collect(),
        env: job.environment.clone(),
        preopens,
        canary: Canary { directory: canary_fd, name: CANARY.into() },
        options: options.raw().to_vec(),
        time: plan.time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        open_files: plan.policy.limits.open_files,
        fuel: plan.fuel,
        memory: plan.limits.memory,
        broker,
    }))
    .to_memfd()
    .map_err(|error| Error::step("write the worker's configuration", error))?;
    descriptors.push((config.as_fd(), CONFIG_FD));
    let name = CString::new(WORKER_NAME).map_err(|error| Error::step("name the worker", error))?;
    let build = CString::new(BUILD).map_err(|error| Error::step("name the build", error))?;
    let environment = fault::environment();
    let environment: Vec<_> = environment.iter().map(CString::as_c_str).collect();
    let worker = guest.spawn(&Request {
        arguments: &[&name, &build],
        environment: &environment,
        descriptors: &descriptors,
        isolation: Some(Isolation { identity, network: plan.without_network() }),
    })?;
    Ok((channel, worker))
}

/// What the worker did next.
enum Step {
    Message(FromWorker),
    /// It ended without a word.
    Silence,
    Signal(i32),
}

struct Steps<'a> {
    channel: &'a Channel,
    worker: &'a Process,
    signals: &'a Signals,
    /// From the worker's first message on.
    syscalls: Option<Syscalls>,
    auditor: &'a mut Auditor,
}

impl Steps<'_> {
    /// A message, with the descriptor that comes with it.
    fn next_with(&mut self, descriptor: &mut Option<OwnedFd>) -> Result<Step, Error> {
        self.message(|channel| {
            let (message, received) = channel.receive_with(Some(STEP_TIMEOUT))?;
            *descriptor = received;
            Ok(message)
        })
    }

    fn next(&mut self) -> Result<Step, Error> {
        self.message(|channel| channel.receive(Some(STEP_TIMEOUT)))
    }

    fn message(
        &mut self,
        receive: impl FnOnce(&Channel) -> Result<FromWorker, ChannelError>,
    ) -> Result<Step, Error> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            let mut fds = vec![self.channel.as_fd()];
            fds.extend(self.syscalls.as_ref().and_then(Syscalls::listener));
            let left = deadline.saturating_duration_since(Instant::now());
            match self.signals.or_readable(&fds, left)? {
                Woken::Signal(signal) => return Ok(Step::Signal(signal)),
                Woken::TimedOut => {
                    return Err(Error::new(format!(
                        "hear from the worker within {} s",
                        STEP_TIMEOUT.as_secs()
                    ))
                    .hint("the machine may be overloaded; `wasi-guard doctor` tells more"));
                }
                // The channel tells of the worker's end as well, and comes first.
                Woken::Readable(0) => break,
                Woken::Readable(_) => self.attend()?,
            }
        }
        match receive(self.channel) {
            Ok(message) => Ok(Step::Message(message)),
            Err(ChannelError::Closed) => Ok(Step::Silence),
            Err(error) => Err(Error::step("understand the worker", error)),
        }
    }

    fn attend(&mut self) -> Result<(), Error> {
        let Some(syscalls) = &mut self.syscalls else { return Ok(()) };
        syscalls.attend(BATCH, self.auditor)?;
        match syscalls.fatal() {
            Some(call) => Err(Error::new(format!(
                "load the compiled module: the worker made the system call {call}, which ends it"
            ))
            .hint("the module may be hostile; please report this if it is your own")),
            None => Ok(()),
        }
    }

    fn send(&self, message: &ToWorker) -> Result<(), Error> {
        match self.channel.send(message) {
            // A worker that is gone has said why; its last word is read next.
            Ok(()) | Err(ChannelError::Closed) => Ok(()),
            Err(error) => Err(Error::step("speak to the worker", error)),
        }
    }

    /// A worker that did not do what it should have done next.
    fn unexpected(&self, step: Step, doing: &str) -> Result<Started, Error> {
        match step {
            Step::Signal(signal) => Ok(Started::Ended(Outcome::Signalled(signal))),
            Step::Message(FromWorker::Incompatible { message }) => {
                Ok(Started::Incompatible(message))
            }
            Step::Message(FromWorker::Failed { step, message, hint }) => {
                let mut error = Error::new(step);
                error.causes = message.lines().map(str::to_owned).collect();
                error.hint = hint;
                Err(error)
            }
            Step::Message(other) => {
                Err(Error::new(format!("follow the worker: it should {doing}, but said {other:?}")))
            }
            Step::Silence => {
                let ended = self
                    .worker
                    .wait()
                    .map_or_else(|error| error.to_string(), |ended| format!("it ended: {ended:?}"));
                let mut error = Error::new(format!("see the worker {doing}"));
                error.causes.push(ended);
                Err(error.hint("`dmesg` may tell more, for instance of a lack of memory"))
            }
        }
    }
}

/// The self-test: the kernel must have denied the canary to this worker, and said so.
fn check_canary(
    guest: &mut Guest,
    worker: &Process,
    mode: Mode,
    errno: Option<i32>,
) -> Result<(), Error> {
    let expected = match mode {
        Mode::Enforce => Some(libc::EACCES),
        Mode::Audit => None,
    };
    if errno != expected {
        let found = errno.map_or("it was opened".into(), |errno| {
            std::io::Error::from_raw_os_error(errno).to_string()
        });
        return Err(Error::new(format!(
            "trust the kernel's enforcement: the self-test's file should have been denied, but: {found}"
        ))
        .hint("the BPF programs do not see this guest's cgroup; are you inside a cgroup namespace? `wasi-guard unload` and another try load the programs anew"));
    }
    let deadline = Instant::now() + RECORD_TIMEOUT;
    loop {
        while let Some(record) = guest.records().and_then(|records| records.next()) {
            if record.is_ok_and(|denial| is_canary(&denial, worker.pid(), mode)) {
                return Ok(());
            }
        }
        if Instant::now() > deadline {
            return Err(Error::new(
                "find the self-test's record: the kernel denied the file but did not say so",
            )
            .hint("please report this with the output of `uname -a`"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_canary(denial: &Denial, worker: u32, mode: Mode) -> bool {
    denial.operation == Operation::Open
        && denial.reason == Reason::Outside
        && denial.process == worker
        && denial.audit == (mode == Mode::Audit)
        && denial
            .names
            .first()
            .is_some_and(|name| name.preopen.is_none() && name.path.ends_with(CANARY.as_bytes()))
}
