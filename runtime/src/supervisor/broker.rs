//! The broker of a guest that may load BPF objects: a thread of this process, and the confined
//! process that parses for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasi_guard_broker::{
    broker::{self, Broker, Event, Guest as About, Parser, Served},
    check::Denied,
    protocol::{PARSER_WINDOW, ParseReply, ParseRequest, WINDOW},
    window::Window,
};
use wasi_guard_enforce::{guest::Guest, isolation::Identity};
use wasi_guard_policy::{Mode, bpf::Bpf};

use super::{Error, Plan};
use crate::audit::{Auditor, WasmBpf};
use crate::cli::report;
use crate::confined::Confined;
use crate::program::WorkerProgram;
use crate::protocol::{
    CONFIG_FD, CONTROL_FD, Channel, ChannelError, FIRST_FD, FromWorker, ParseConfig, Role,
    WorkerConfig,
};

/// How long the parser may take for one object. The kernel's types, which it may have to take apart
/// first, cost it seconds in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// The kernel's types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Events that wait for the audit before the broker waits for it: a guest that is denied without end
/// fills no memory.
const WAITING: usize = 256;
/// How long the end of a run waits for the broker's.
const GRACE: Duration = Duration::from_secs(2);

/// What worker and broker speak through, before there is a broker.
pub(super) struct Ends {
    channel: Channel,
    window: Window,
    theirs: OwnedFd,
}

impl Ends {
    /// Makes them, if the policy has a use for them.
    ///
    /// # Errors
    /// If the kernel has none to give.
    pub(super) fn make(plan: &Plan) -> Result<Option<Self>, Error> {
        if plan.policy.bpf.is_none() {
            return Ok(None);
        }
        let step = |error| Error::step("make the way to the broker", error);
        let (channel, theirs) = Channel::pair().map_err(step)?;
        let window = Window::create(WINDOW).map_err(step)?;
        Ok(Some(Self { channel, window, theirs }))
    }

    /// What the worker gets: the socket and the window.
    pub(super) fn for_worker(&self) -> [BorrowedFd<'_>; 2] {
        [self.theirs.as_fd(), self.window.as_fd()]
    }
}

/// A broker at work. It ends with its worker.
pub(crate) struct Brokering {
    events: Receiver<Event>,
    /// Readable when there are events.
    wake: OwnedFd,
    /// Events of the broker's end.
    late: Vec<Event>,
    thread: Option<JoinHandle<Served>>,
}

impl Brokering {
    /// Starts the broker.
    ///
    /// # Errors
    /// If the kernel has no thread to give.
    pub(super) fn start(
        ends: Ends,
        policy: &Bpf,
        plan: &Plan,
        guest: &Guest,
        program: Arc<WorkerProgram>,
    ) -> Result<Self, Error> {
        let step = |error| Error::step("start the broker", error);
        let Ends { channel: worker, window, theirs } = ends;
        // The worker's death is seen by this copy's absence.
        drop(theirs);
        let cgroup = File::open(guest.path()).map_err(step)?;
        let directories = plan.roots.iter().filter(|root| !root.file);
        let mut preopens = Vec::new();
        for root in directories {
            preopens.push(Some(root.fd.try_clone().map_err(step)?));
        }
        let about = About {
            policy: policy.clone(),
            audit: plan.policy.mode == Mode::Audit,
            cgroup: Some(cgroup.into()),
            preopens,
        };
        // What a guest has in the kernel are descriptors of this process, which needs some itself.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
            .map_err(|error| step(error.into()))?;
        let (sender, events) = sync_channel(WAITING);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = eventfd(0, flags).map_err(|error| step(error.into()))?;
        let woken = wake.try_clone().map_err(step)?;
        let say = move |event| {
            // Nobody listens any more where the supervisor has come to its end.
            if sender.send(event).is_ok() {
                let _ = rustix::io::write(&woken, &1u64.to_ne_bytes());
            }
        };
        let parser = ParserProcess::new(program);
        let broker = Broker::new(about, Box::new(parser), Box::new(say));
        let act = move || broker::serve(broker, &worker, &window);
        let thread = thread::Builder::new().name("broker".into()).spawn(act).map_err(step)?;
        Ok(Self { events, wake, late: Vec::new(), thread: Some(thread) })
    }

    /// Waits for its end, which is its worker's: from then on the guest has nothing in the kernel.
    /// One that is in the middle of something long, such as a program for the verifier, is not
    /// waited for: it ends with this process.
    pub(super) fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + GRACE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => self.late.push(event),
                Err(RecvTimeoutError::Timeout) => return,
                // The thread has let go of its end, which is the last that it does.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        match thread.join() {
            Ok(Served::Gone) => {}
            Ok(Served::Nonsense(what)) => {
                report::warning(&format!("the worker said what no worker says: {what}"));
            }
            Err(_) => report::warning("the broker has failed; please report this"),
        }
    }

    /// Writes the records of what was denied or lost, and answers how many denials there were.
    pub(super) fn drain(&mut self, worker: u32, auditor: &mut Auditor) -> u64 {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        let mut denials = 0;
        for event in self.late.drain(..).chain(self.events.try_iter()) {
            match &event {
                Event::Lost { map, count } => auditor.samples_lost(map, *count),
                Event::Denied { import, denied, passed } => {
                    denials += 1;
                    let (program, key, asked) = match denied {
                        Denied::Policy { program, refusal } => {
                            (program, Some(refusal.key), &refusal.wanted)
                        }
                        Denied::Never { program, what } => (program, None, what),
                        Denied::Malformed(what) => (&None, None, what),
                    };
                    auditor.wasm_bpf(&WasmBpf {
                        import,
                        bytes: None,
                        program: program.as_deref(),
                        key,
                        asked: Some(asked),
                        passed: *passed,
                        worker,
                    });
                }
            }
        }
        denials
    }
}

impl AsFd for Brokering {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Parses in a confined process, a worker, which is started when it is first needed.
pub struct ParserProcess {
    program: Arc<WorkerProgram>,
    running: Option<Running>,
}

impl ParserProcess {
    /// What starts its process from this program.
    #[must_use]
    pub fn new(program: Arc<WorkerProgram>) -> Self {
        Self { program, running: None }
    }
}

struct Running {
    channel: Channel,
    window: Window,
    /// Ends with this.
    _process: Confined,
}

impl Parser for ParserProcess {
    fn parse(&mut self, object: &[u8]) -> Result<Vec<u8>, String> {
        // What has met a hostile object and did not answer is not asked again.
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.program)
                .map_err(|error| format!("start the parser: {error}"))?,
        };
        let reply = running.ask(object).map_err(|error| match error {
            ChannelError::Closed => {
                "parse the object: the parser ended; the object may need too much memory".to_owned()
            }
            error => format!("parse the object: {error}"),
        })?;
        let image = match reply {
            ParseReply(Ok(length)) => {
                let image = running.window.read(length);
                image.map_err(|error| format!("take what the parser made of the object: {error}"))
            }
            ParseReply(Err(why)) => Err(why),
        };
        self.running = Some(running);
        image
    }
}

impl Running {
    fn start(program: &WorkerProgram) -> io::Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        let window = Window::create(PARSER_WINDOW)?;
        let mut descriptors = vec![(theirs, CONTROL_FD)];
        descriptors.push((window.as_fd().try_clone_to_owned()?, FIRST_FD));
        // A kernel without types has objects that need none.
        let types = File::open(TYPES).ok();
        let number = types.as_ref().map(|_| FIRST_FD + 1);
        descriptors.extend(types.map(|file| (file.into(), FIRST_FD + 1)));
        let identity = Identity::of_compiler();
        let config = WorkerConfig::new(Role::Parse(ParseConfig {
            identity: identity.into(),
            window: FIRST_FD,
            types: number,
        }));
        let config = config.to_memfd().map_err(io::Error::other)?;
        descriptors.push((config, CONFIG_FD));
        let process =
            Confined::isolated(program, identity, descriptors).map_err(io::Error::other)?;
        match channel.receive(Some(PATIENCE)).map_err(io::Error::other)? {
            FromWorker::Hardened { .. } => Ok(Self { channel, window, _process: process }),
            FromWorker::Failed { step, message, .. } => {
                Err(io::Error::other(format!("could not {step}: {message}")))
            }
            other => Err(io::Error::other(format!("it said {other:?}"))),
        }
    }

    fn ask(&mut self, object: &[u8]) -> Result<ParseReply, ChannelError> {
        let bytes = self.window.write(object)?;
        self.channel.send(&ParseRequest { bytes })?;
        self.channel.receive(Some(PATIENCE))
    }
}
