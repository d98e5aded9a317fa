//! Core modules with WASI preview 1.

use std::fs::File;
use std::sync::Arc;

use wasi_guard_broker::window::Window;
use wasmtime::error::Context as _;
use wasmtime::{
    AsContextMut, Engine, Extern, ExternType, Instance, InstancePre, Module, Store, StoreLimits,
};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

use super::super::failure::{Failure, wasmtime_chain};
use super::super::sys;
use super::wasm_bpf::{self, Broker};
use super::{HOSTCALL_FUEL, Start, failed, limits, unlinked};
use crate::protocol::{Channel, CompileStep, Options};

/// What modules that were built for WASI preview 0 import from.
const PREVIEW0: &str = "wasi_unstable";

/// What host functions see.
pub(in super::super) struct Host {
    wasi: WasiP1Ctx,
    limits: StoreLimits,
    bpf: Broker,
}

impl Host {
    fn new(mut context: WasiCtxBuilder, limits: StoreLimits, bpf: Broker) -> Self {
        Self { wasi: context.build_p1(), limits, bpf }
    }

    /// One with this broker and nothing else.
    #[cfg(test)]
    pub(super) fn test(bpf: Broker) -> Self {
        Self::new(WasiCtxBuilder::new(), StoreLimits::default(), bpf)
    }

    pub(super) const fn bpf(&mut self) -> &mut Broker {
        &mut self.bpf
    }
}

/// Links modules with WASI.
pub(super) type Linker = wasmtime::Linker<Host>;

/// A linked module and the store in which it will live.
pub(super) struct Loaded {
    store: Store<Host>,
    linked: Linked,
}

/// A module with all its imports, each of the type that it asks for.
enum Linked {
    /// From the linker.
    Before(InstancePre<Host>),
    /// In the module's order, for one that is an eBPF tool.
    Inside(Module, Vec<Extern>),
}

pub(super) fn load(
    start: &Start<'_>,
    linker: Linker,
    artifact: File,
    context: WasiCtxBuilder,
    broker: Option<(Channel, Window)>,
) -> Result<Loaded, Failure> {
    let module = sys::load_module(start.engine, artifact)
        .map_err(|error| Failure::incompatible(wasmtime_chain(&error)))?;
    // Otherwise made at the first instantiation, when seccomp allows no new memfd any more.
    module.initialize_copy_on_write_image().map_err(failed("prepare the guest's memory"))?;

    let bpf = match broker {
        Some((channel, window)) => Broker::connected(channel, window, start.timeout.is_some()),
        None => Broker::refusing(Some(Arc::clone(start.supervisor))),
    };
    let host = Host::new(context, limits(start.config, start.options), bpf);
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
    let linked = link(linker, start.options, &module, || &mut store)?;
    Ok(Loaded { store, linked })
}

impl Loaded {
    pub(super) async fn run(self) -> wasmtime::Result<()> {
        let Self { mut store, linked } = self;
        let instance = match linked {
            Linked::Before(instance) => instance.instantiate_async(&mut store).await,
            Linked::Inside(module, imports) => {
                Instance::new_async(&mut store, &module, &imports).await
            }
        };
        let instance = instance.context("failed to instantiate the main module")?;
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
    let store = || {
        let broker = Broker::refusing(None);
        Store::new(engine, Host::new(WasiCtxBuilder::new(), StoreLimits::default(), broker))
    };
    link(linker(engine, options)?, options, &module, store)?;
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

/// Finds all imports, in a store only if the module is an eBPF tool.
fn link<S: AsContextMut<Data = Host>>(
    mut linker: Linker,
    options: &Options,
    module: &Module,
    store: impl FnOnce() -> S,
) -> Result<Linked, Failure> {
    // Few modules are so old, and to know all its functions costs as much as those of preview 1.
    let preview0 = has_wasi(options) && options.common().wasi.preview0 != Some(false);
    if preview0 && module.imports().any(|it| it.module() == PREVIEW0) {
        wasmtime_wasi::p0::add_to_linker_async(&mut linker, |host: &mut Host| &mut host.wasi)
            .map_err(failed(CompileStep::Link.text()))?;
    }
    if options.common().wasm.unknown_imports_trap == Some(true) {
        linker.define_unknown_imports_as_traps(module).map_err(failed(CompileStep::Link.text()))?;
    }
    if wasm_bpf::wanted(module) {
        let imports = wasm_bpf::imports(store(), &linker, module).map_err(unlinked)?;
        Ok(Linked::Inside(module.clone(), imports))
    } else {
        linker.instantiate_pre(module).map(Linked::Before).map_err(unlinked)
    }
}
