//! Core modules with WASI preview 1.

use std::fs::File;

use wasmtime::error::Context as _;
use wasmtime::{Engine, ExternType, InstancePre, Module, Store, StoreLimits};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

use super::super::failure::{Failure, wasmtime_chain};
use super::super::sys;
use super::wasm_bpf::{self, Broker};
use super::{HOSTCALL_FUEL, Start, failed, limits, unlinked};
use crate::protocol::{CompileStep, Options};

/// What modules that were built for WASI preview 0 import from.
const PREVIEW0: &str = "wasi_unstable";

/// What host functions see.
pub(in super::super) struct Host {
    wasi: WasiP1Ctx,
    limits: StoreLimits,
    bpf: Broker,
}

impl Host {
    pub(super) const fn bpf(&self) -> &Broker {
        &self.bpf
    }
}

/// Links modules with WASI.
pub(super) type Linker = wasmtime::Linker<Host>;

/// A linked module and the store in which it will live.
pub(super) struct Loaded {
    store: Store<Host>,
    instance: InstancePre<Host>,
}

pub(super) fn load(
    start: &Start<'_>,
    mut linker: Linker,
    artifact: File,
    mut context: WasiCtxBuilder,
) -> Result<Loaded, Failure> {
    let module = sys::load_module(start.engine, artifact)
        .map_err(|error| Failure::incompatible(wasmtime_chain(&error)))?;
    // Otherwise made at the first instantiation, when seccomp allows no new memfd any more.
    module.initialize_copy_on_write_image().map_err(failed("prepare the guest's memory"))?;
    let instance = link(&mut linker, start.options, &module)?;

    let host = Host {
        wasi: context.build_p1(),
        limits: limits(start.config, start.options),
        bpf: Broker::new(start.supervisor),
    };
    let mut store = Store::new(start.engine, host);
    store.limiter(|host| &mut host.limits);
    let fuel = start.options.common().wasi.hostcall_fuel.unwrap_or(HOSTCALL_FUEL);
    store.set_hostcall_fuel(fuel);
    if let Some(fuel) = start.fuel {
        store.set_fuel(fuel).map_err(failed("set the guest's fuel"))?;
    }
    if start.timeout.is_some() {
        store.set_epoch_deadline(1);
    }
    Ok(Loaded { store, instance })
}

impl Loaded {
    pub(super) async fn run(self) -> wasmtime::Result<()> {
        let Self { mut store, instance } = self;
        let instance = instance
            .instantiate_async(&mut store)
            .await
            .context("failed to instantiate the main module")?;
        let start = instance
            .get_func(&mut store, "")
            .or_else(|| instance.get_func(&mut store, "_start"))
            .context("the module exports no `_start`")?;
        let results = start.ty(&store).results().len();
        let mut results = vec![wasmtime::Val::null_any_ref(); results];
        start
            .call_async(&mut store, &[], &mut results)
            .await
            .context("failed to invoke command default")
    }
}

pub(super) fn check_imports(
    engine: &Engine,
    options: &Options,
    artifact: &[u8],
) -> Result<(), Failure> {
    let module =
        sys::load_module_bytes(engine, artifact).map_err(failed("load what was just compiled"))?;
    link(&mut linker(engine, options)?, options, &module)?;
    check_start(&module)
}

/// `wasmtime run` ends silently and with success if there is nothing to run. A guest that does not
/// run is an error here.
fn check_start(module: &Module) -> Result<(), Failure> {
    let start = module.get_export("").or_else(|| module.get_export("_start"));
    match start {
        Some(ExternType::Func(start)) if start.params().len() == 0 => Ok(()),
        Some(_) => Err(Failure::new(CompileStep::Link.text())
            .because("`_start` is not a function without parameters")),
        None => Err(Failure::new(CompileStep::Link.text())
            .because("the module exports no `_start` function")
            .hint("compile it as a command, not as a library (reactor)")),
    }
}

/// A linker that knows WASI.
///
/// # Errors
/// If wasmtime refuses.
pub(super) fn linker(engine: &Engine, options: &Options) -> Result<Linker, Failure> {
    with_wasi(engine, options).map_err(failed(CompileStep::Link.text()))
}

fn with_wasi(engine: &Engine, options: &Options) -> wasmtime::Result<Linker> {
    let common = options.common();
    let mut linker = Linker::new(engine);
    if let Some(allow) = common.wasm.unknown_exports_allow {
        linker.allow_unknown_exports(allow);
    }
    if has_wasi(options) {
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)?;
    }
    #[cfg(feature = "test-unchecked-host")]
    super::super::unchecked::add_to_linker(&mut linker)?;
    #[cfg(feature = "test-captive-worker")]
    super::super::captive::add_to_linker(&mut linker)?;
    Ok(linker)
}

fn has_wasi(options: &Options) -> bool {
    let wasi = &options.common().wasi;
    wasi.cli.or(wasi.common) != Some(false)
}

fn link(
    linker: &mut Linker,
    options: &Options,
    module: &Module,
) -> Result<InstancePre<Host>, Failure> {
    // Few modules are so old, and to know all its functions costs as much as those of preview 1.
    let preview0 = has_wasi(options) && options.common().wasi.preview0 != Some(false);
    if preview0 && module.imports().any(|it| it.module() == PREVIEW0) {
        wasmtime_wasi::p0::add_to_linker_async(linker, |host: &mut Host| &mut host.wasi)
            .map_err(failed(CompileStep::Link.text()))?;
    }
    wasm_bpf::add_to_linker(linker, module).map_err(failed(CompileStep::Link.text()))?;
    if options.common().wasm.unknown_imports_trap == Some(true) {
        linker.define_unknown_imports_as_traps(module).map_err(failed(CompileStep::Link.text()))?;
    }
    linker.instantiate_pre(module).map_err(unlinked)
}
