//! Components with WASI 0.2.

use std::fs::File;

use wasmtime::component::{Component, ResourceTable};
use wasmtime::error::Context as _;
use wasmtime::{Engine, Store, StoreLimits};
use wasmtime_wasi::p2::bindings::{CommandPre, LinkOptions};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::super::failure::{Failure, wasmtime_chain};
use super::super::sys;
use super::{HOSTCALL_FUEL, Start, failed, limits, unlinked};
use crate::protocol::{CompileStep, Options};

/// What host functions see.
pub(super) struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: StoreLimits,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Links components with WASI.
pub(super) type Linker = wasmtime::component::Linker<Host>;

/// A linked component and the store in which it will live.
pub(super) struct Loaded {
    store: Store<Host>,
    command: CommandPre<Host>,
}

pub(super) fn load(
    start: &Start<'_>,
    linker: Linker,
    artifact: File,
    mut context: WasiCtxBuilder,
) -> Result<Loaded, Failure> {
    let component = sys::load_component(start.engine, artifact)
        .map_err(|error| Failure::incompatible(wasmtime_chain(&error)))?;
    // Otherwise made at the first instantiation, when seccomp allows no new memfd any more.
    component.initialize_copy_on_write_image().map_err(failed("prepare the guest's memory"))?;
    let command = command(linker, start.options, &component)?;

    let wasi = &start.options.common().wasi;
    let mut table = ResourceTable::new();
    if let Some(most) = wasi.max_resources {
        table.set_max_capacity(most);
    }
    let host = Host { wasi: context.build(), table, limits: limits(start.config, start.options) };
    let mut store = Store::new(start.engine, host);
    store.limiter(|host| &mut host.limits);
    store.set_hostcall_fuel(wasi.hostcall_fuel.unwrap_or(HOSTCALL_FUEL));
    if let Some(most) = wasi.max_component_handles {
        store.set_max_component_handles(most);
    }
    if let Some(fuel) = start.fuel {
        store.set_fuel(fuel).map_err(failed("set the guest's fuel"))?;
    }
    if start.timeout.is_some() {
        store.set_epoch_deadline(1);
    }
    Ok(Loaded { store, command })
}

impl Loaded {
    pub(super) async fn run(self) -> wasmtime::Result<()> {
        let Self { mut store, command } = self;
        let command = command
            .instantiate_async(&mut store)
            .await
            .context("failed to instantiate the component")?;
        let result = command.wasi_cli_run().call_run(&mut store).await;
        match result.context("failed to invoke `run` function")? {
            Ok(()) => Ok(()),
            Err(()) => Err(I32Exit(1).into()),
        }
    }
}

pub(super) fn check_imports(
    engine: &Engine,
    options: &Options,
    artifact: &[u8],
) -> Result<(), Failure> {
    let component = sys::load_component_bytes(engine, artifact)
        .map_err(failed("load what was just compiled"))?;
    command(linker(engine, options)?, options, &component).map(|_| ())
}

/// A linker that knows WASI.
///
/// # Errors
/// If wasmtime refuses.
pub(super) fn linker(engine: &Engine, options: &Options) -> Result<Linker, Failure> {
    with_wasi(engine, options).map_err(failed(CompileStep::Link.text()))
}

fn with_wasi(engine: &Engine, options: &Options) -> wasmtime::Result<Linker> {
    let wasi = &options.common().wasi;
    let mut linker = Linker::new(engine);
    if wasi.cli.or(wasi.common) != Some(false) {
        let mut unstable = LinkOptions::default();
        unstable.network_error_code(wasi.network_error_code == Some(true));
        wasmtime_wasi::p2::add_to_linker_with_options_async(&mut linker, &unstable)?;
    }
    Ok(linker)
}

fn command(
    mut linker: Linker,
    options: &Options,
    component: &Component,
) -> Result<CommandPre<Host>, Failure> {
    if options.common().wasm.unknown_imports_trap == Some(true) {
        linker
            .define_unknown_imports_as_traps(component)
            .map_err(failed(CompileStep::Link.text()))?;
    }
    let instance = linker.instantiate_pre(component).map_err(unlinked)?;
    CommandPre::new(instance).map_err(|error| {
        failed(CompileStep::Link.text())(error)
            .hint("a command component exports `wasi:cli/run@0.2`")
    })
}
