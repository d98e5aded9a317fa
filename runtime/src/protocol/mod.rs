//! What supervisor and worker say to each other.
//!
//! Relied on by the supervisor (`supervisor`), by [`crate::compile`], which starts a worker in role
//! Compile, and by [`crate::worker`], the other end.
//!
//! # How a worker starts
//! The starter execs the worker's program with `argv[0]` = [`WORKER_NAME`], its own build as
//! `argv[1]`, an empty environment and these descriptors:
//!
//! | number | what |
//! |---|---|
//! | 0, 1, 2 | the caller's stdin, stdout, stderr |
//! | [`CONTROL_FD`] | one end of a [`Channel`] pair (`AF_UNIX`, `SOCK_SEQPACKET`) |
//! | [`CONFIG_FD`] | a sealed memfd from [`WorkerConfig::to_memfd`] |
//! | [`FIRST_FD`].. | descriptors that the config names by number |
//!
//! Whatever else is open, the worker closes before it does anything else.
//!
//! # Role Run, in order
//! 1. Worker: reads and checks the config, sends [`FromWorker::Started`], gives up its rights, installs
//!    seccomp. Supervisor begins to put the policy into force.
//! 2. Worker sends [`FromWorker::Hardened`] with the descriptor of its filter; the policy is in force when
//!    the supervisor sends [`ToWorker::Armed`].
//! 3. Worker opens the canary and sends [`FromWorker::Canary`]; supervisor compares and sends
//!    [`ToWorker::Load`].
//! 4. Worker loads the artifact and links it. If wasmtime refuses the artifact as another engine's:
//!    [`FromWorker::Incompatible`] and exit code [`EXIT_REFUSED`]; compile again and start anew.
//! 5. Worker sends [`FromWorker::Loaded`]; supervisor ends the leave to make memory executable and
//!    sends [`ToWorker::Start`]. From here on the guest's code runs in that
//!    process: what the socket says from now on is to be taken as the guest's own words.
//! 6. Worker may send [`FromWorker::NoDescriptor`] and [`FromWorker::Ended`], then exits with the guest's exit code.
//!
//! A step that fails sends [`FromWorker::Failed`] and exits with [`EXIT_REFUSED`].
//!
//! # Role Compile, in order
//! 1. Worker gives up its rights, installs seccomp, sends [`FromWorker::Hardened`].
//! 2. Worker reads the module, compiles it, writes the artifact to the output descriptor and sends
//!    [`FromWorker::Compiled`] (exit code 0) or [`FromWorker::Failed`] (exit code
//!    [`EXIT_REFUSED`]).
//!
//! # Role Parse, in order
//! 1. Worker gives up its rights, installs seccomp, sends [`FromWorker::Hardened`].
//! 2. For each BPF object that a guest wants loaded: supervisor puts it into the window and sends
//!    `ParseRequest` of `wasi-guard-broker`; worker puts what it made of it there and answers
//!    `ParseReply`. It ends with the socket.
//!
//! # Broker
//! A guest that may load BPF objects has a broker, a thread of the supervisor's: its worker speaks
//! to it over a socket of its own, as told in `wasi-guard-broker`.
//!
//! # For the supervisor
//! * [`check_options`] reads the `-W -O -C -D -S` options of a run early.
//! * [`Channel::pair`] makes the control socket, [`WorkerConfig::to_memfd`] the config.
//! * [`Channel::receive`] never panics on what a worker sends and never allocates more than
//!   [`MAX_MESSAGE`] bytes.
//! * `compile::obtain` gives the artifact of a module, from the cache or compiled.
//!
//! # From outside
//! `wasi-guard policy reload` speaks to the supervisor of a running guest over a socket of its own
//! ([`Request`], [`Answer`]): one message there, with the policy's text in a sealed memfd, and one
//! back.

#[cfg(test)]
mod channel_tests;
mod config;
mod layers;
mod message;
#[cfg(feature = "run")]
mod options;
mod reload;
mod sealed;

pub use wasi_guard_channel::{Channel, ChannelError, MAX_MESSAGE};

pub use config::{
    BrokerConfig, Canary, CompileConfig, ConfigError, Identity, Kind, Mode, ParseConfig, Preopen,
    Role, RunConfig, WorkerConfig,
};
pub use layers::{Layers, Seccomp};
pub use message::{CompileStep, End, FromWorker, ToWorker};
#[cfg(feature = "run")]
pub use options::{OptionError, Options, check_options};
pub use reload::{Answer, InForce, MAX_REQUEST, Request, RequestError, cut};
pub use sealed::{SealedError, read as read_sealed, write as write_sealed};

/// `argv[0]` of a worker.
pub const WORKER_NAME: &str = "wasi-guard-worker";
/// Descriptor number of the control socket in a worker.
pub const CONTROL_FD: i32 = 3;
/// Descriptor number of the config memfd in a worker.
pub const CONFIG_FD: i32 = 4;
/// Lowest number of a descriptor that the config may name.
pub const FIRST_FD: i32 = 5;
/// Highest number of a descriptor that the config may name.
pub const MAX_FD: i32 = 1023;
/// Largest config in bytes, encoded: room for Linux' 2 MiB of arguments and environment.
pub const MAX_CONFIG: usize = 4 * 1024 * 1024;

/// Exit code of wasi-guard's own refusals: bad policy, missing layer, failed step.
pub const EXIT_REFUSED: i32 = 125;
/// Exit code of a guest that trapped: 128 + SIGABRT, as `wasmtime run` has it on Unix.
pub const EXIT_TRAP: i32 = 134;
/// Exit code of any other failure of a guest, as `wasmtime run` has it.
pub const EXIT_ERROR: i32 = 1;
