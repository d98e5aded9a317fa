//! wasmtime inside a worker: the semantics of `wasmtime run`.
//!
//! Relied on by role Run ([`prepare`]) and role Compile ([`check_imports`]). What wasmtime's own
//! command line does, this does: <https://github.com/bytecodealliance/wasmtime>,
//! `src/commands/run.rs` of version 48.

mod component;
mod context;
pub mod descriptors;
mod module;
mod outcome;
mod timer;
mod wasm_bpf;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use wasi_guard_broker::window::Window;
use wasmtime::{Engine, StoreLimits, StoreLimitsBuilder};

use super::failure::{Failure, Step as _, wasmtime_chain};
use crate::protocol::{Channel, CompileStep, End, Kind, Options, RunConfig};
use timer::Timer;

/// What wasmtime's command line allows the guest and the host to exchange in one call.
const HOSTCALL_FUEL: usize = 128 << 20;

/// A directory that the guest gets, as a descriptor.
#[derive(Debug)]
pub struct Preopened {
    /// The directory.
    pub directory: OwnedFd,
    /// The guest's name for it.
    pub guest: String,
}

/// What a guest is made of, and what it gets, as descriptors.
pub struct Given {
    /// Its compiled module.
    pub artifact: File,
    /// Its preopens, in WASI's order.
    pub preopens: Vec<Preopened>,
    /// Who loads objects for a module that is an eBPF tool: the connection and the memory for what
    /// is long. None if the policy has no `[bpf]`. Components have no use of it.
    pub broker: Option<(Channel, Window)>,
}

/// A guest that is loaded and linked: nothing of it ran yet.
pub struct Ready {
    runtime: tokio::runtime::Runtime,
    guest: Loaded,
    timer: Option<Timer>,
    name: String,
}

enum Loaded {
    Module(module::Loaded),
    Component(component::Loaded),
}

/// What both kinds of guest are started with.
struct Start<'a> {
    supervisor: &'a Arc<Channel>,
    config: &'a RunConfig,
    options: &'a Options,
    engine: &'a Engine,
    timeout: Option<Duration>,
    fuel: Option<u64>,
}

/// What a guest needs and what does not depend on its bytes.
pub struct Machine {
    engine: Engine,
    linker: Linker,
    timeout: Option<Duration>,
    fuel: Option<u64>,
}

enum Linker {
    Module(module::Linker),
    Component(component::Linker),
}

impl Machine {
    /// Sets up wasmtime.
    ///
    /// # Errors
    /// The step that failed.
    pub fn new(config: &RunConfig, options: &Options) -> Result<Self, Failure> {
        let timeout = least(config.time.map(Duration::from_millis), options.timeout());
        let fuel = least(config.fuel, options.fuel());
        let engine = options
            .config(fuel.is_some(), timeout.is_some(), None)
            .and_then(|config| Engine::new(&config))
            .map_err(failed("set up wasmtime"))?;
        let linker = match config.kind {
            Kind::Module => Linker::Module(module::linker(&engine, options)?),
            Kind::Component => Linker::Component(component::linker(&engine, options)?),
        };
        Ok(Self { engine, linker, timeout, fuel })
    }
}

/// What the guest's calls wait with.
#[derive(Debug)]
pub struct EventLoop(tokio::runtime::Runtime);

impl EventLoop {
    /// Makes one. No seccomp list has the calls for that.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> Result<Self, Failure> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().map(Self).step("set up the event loop")
    }
}

/// Loads the artifact, links it, starts the threads that the guest will need.
///
/// # Errors
/// [`Failure::incompatible`] if wasmtime refuses the artifact; else the step that failed.
pub fn prepare(
    supervisor: &Arc<Channel>,
    machine: Machine,
    EventLoop(runtime): EventLoop,
    config: &RunConfig,
    options: &Options,
    given: Given,
) -> Result<Ready, Failure> {
    let Given { artifact, preopens, broker } = given;
    let Machine { engine, linker, timeout, fuel } = machine;
    let context = context::build(config, options, timeout.is_some(), preopens)?;
    let start = Start { supervisor, config, options, engine: &engine, timeout, fuel };
    // Sockets and timers of WASI look for the event loop when they are made.
    let guest = {
        let _inside = runtime.enter();
        match linker {
            Linker::Module(linker) => {
                Loaded::Module(module::load(&start, linker, artifact, context, broker)?)
            }
            Linker::Component(linker) => {
                Loaded::Component(component::load(&start, linker, artifact, context)?)
            }
        }
    };
    let timer = match timeout {
        Some(limit) => Some(Timer::new(engine, limit).step("start the timer")?),
        None => None,
    };
    Ok(Ready { runtime, guest, timer, name: config.name.clone() })
}

impl Ready {
    /// Runs the guest to its end, prints what `wasmtime run` prints, and answers how it ended and
    /// the exit code that belongs to it.
    #[must_use]
    pub fn run(self) -> (End, i32) {
        let Self { runtime, guest, timer, name } = self;
        let limit = timer.as_ref().map(Timer::limit);
        if let Some(timer) = timer {
            timer.go();
        }
        let result = runtime.block_on(async {
            let guest = async {
                match guest {
                    Loaded::Module(guest) => guest.run().await,
                    Loaded::Component(guest) => guest.run().await,
                }
            };
            // The epoch stops a guest that computes, this one that waits.
            match limit {
                None => guest.await,
                Some(limit) => {
                    tokio::time::timeout(limit, guest).await.unwrap_or_else(outcome::timed_out)
                }
            }
        });
        outcome::report(&name, result)
    }
}

/// Links an artifact that role Compile just made, without starting it.
///
/// # Errors
/// wasmtime's words about the import or export that is missing or of the wrong type.
pub fn check_imports(
    engine: &Engine,
    options: &Options,
    kind: Kind,
    artifact: &[u8],
) -> Result<(), Failure> {
    match kind {
        Kind::Module => module::check_imports(engine, options, artifact),
        Kind::Component => component::check_imports(engine, options, artifact),
    }
}

/// The lesser of two limits, either of which may be absent.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn limits(config: &RunConfig, options: &Options) -> StoreLimits {
    let wasm = &options.common().wasm;
    let mut limits = StoreLimitsBuilder::new();
    let memory = config.memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if let Some(bytes) = least(memory, wasm.max_memory_size) {
        limits = limits.memory_size(bytes);
    }
    // A table of its own memory's size, of what wasmtime keeps for an element: a growth beyond is
    // refused, as that of memory is, instead of ending the guest.
    let elements = memory.map(|bytes| bytes / size_of::<usize>());
    if let Some(elements) = least(elements, wasm.max_table_elements) {
        limits = limits.table_elements(elements);
    }
    if let Some(count) = wasm.max_instances {
        limits = limits.instances(count);
    }
    if let Some(count) = wasm.max_tables {
        limits = limits.tables(count);
    }
    if let Some(count) = wasm.max_memories {
        limits = limits.memories(count);
    }
    if let Some(trap) = wasm.trap_on_grow_failure {
        limits = limits.trap_on_grow_failure(trap);
    }
    limits.build()
}

fn failed(step: &'static str) -> impl Fn(wasmtime::Error) -> Failure {
    move |error| Failure::new(step).because(wasmtime_chain(&error))
}

fn unlinked(error: wasmtime::Error) -> Failure {
    failed(CompileStep::Link.text())(error).hint(
        "wasi-guard provides WASI preview 1 and `wasm_bpf` to modules and WASI 0.2 (wasi:cli without http) to \
         components",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lesser_limit_counts() {
        assert_eq!(least(Some(1), Some(2)), Some(1));
        assert_eq!(least(None, Some(2)), Some(2));
        assert_eq!(least(Some(1), None), Some(1));
        assert_eq!(least::<u8>(None, None), None);
    }
}
