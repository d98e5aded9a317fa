//! The process in which the guest runs: wasmtime and the imports as a worker has them, and none of
//! a worker's confinement.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use wasi_guard::protocol::{
    BrokerConfig, Canary, Channel, Identity, Kind, Mode, RunConfig, check_options, write_sealed,
};
use wasi_guard::worker::guest::{EventLoop, Given, Machine, Preopened, prepare};
use wasi_guard::worker::sys;
use wasi_guard_broker::protocol::WINDOW;
use wasi_guard_broker::window::Window;

/// First argument of such a process.
pub(crate) const ROLE: &str = "--guest";

/// Runs a guest with these arguments to its end. It has the folder of objects as its root.
pub(crate) fn run(
    (channel, window): (i32, i32),
    guest: &str,
    objects: &str,
    arguments: &[&str],
) -> Result<()> {
    let (channel, window) = (sys::take(channel)?, sys::take(window)?);
    let config = RunConfig {
        mode: Mode::Enforce,
        identity: Identity { user: 0, group: 0, file_user: 0, file_group: 0 },
        name: guest.to_owned(),
        kind: Kind::Module,
        artifact: 0,
        args: [guest].iter().chain(arguments).map(|it| (*it).to_owned()).collect(),
        env: Vec::new(),
        preopens: Vec::new(),
        canary: Canary { directory: 0, name: String::new() },
        options: Vec::new(),
        time: None,
        open_files: None,
        fuel: None,
        memory: None,
        broker: Some(BrokerConfig { channel: 0, window: 0 }),
    };
    let options = check_options(&[])?;
    let engine = options.config(false, false, None).and_then(|it| wasmtime::Engine::new(&it));
    let wasm = std::fs::read(guest).with_context(|| format!("read {guest}"))?;
    let artifact = engine.and_then(|it| it.precompile_module(&wasm));
    let artifact = artifact.map_err(|error| anyhow::anyhow!("compile {guest}: {error}"))?;
    let given = Given {
        artifact: write_sealed("artifact", &artifact).context("keep the artifact")?.into(),
        preopens: vec![Preopened {
            directory: File::open(objects).context("open the objects")?.into(),
            guest: "/".to_owned(),
        }],
        broker: Some((Channel::from_fd(channel), Window::from_fd(window, WINDOW))),
    };
    // Nobody listens: there is no supervisor.
    let (supervisor, _end) = Channel::pair()?;
    let failed = |error: wasi_guard::worker::failure::Failure| anyhow::anyhow!("{error:?}");
    let machine = Machine::new(&config, &options).map_err(failed)?;
    let event_loop = EventLoop::new().map_err(failed)?;
    let ready = prepare(&Arc::new(supervisor), machine, event_loop, &config, &options, given);
    let (end, code) = ready.map_err(failed)?.run();
    ensure!(code == 0, "the guest ended with {code}: {end:?}");
    Ok(())
}
