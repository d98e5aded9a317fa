//! The imports of guests that are eBPF tools: those of eunomia's wasm-bpf and of WasmEdge's plugin,
//! in every shape that their SDKs give them.
//!
//! No policy can grant anything of it yet, so that no object is ever loaded: every call answers
//! what those hosts answer for an object that they could not load, and for a handle that is none.
//! docs/wasm-bpf.md has the answers, call by call. No call reads or writes the guest's memory.

mod shapes;

use std::sync::Arc;

use wasmtime::{ExternType, FuncType, Linker, Module, Val};

use self::shapes::Call;
use super::module::Host;
use crate::protocol::{Channel, FromWorker};

/// What a guest's calls need.
pub(super) struct Broker {
    supervisor: Arc<Channel>,
}

impl Broker {
    pub(super) fn new(supervisor: &Arc<Channel>) -> Self {
        Self { supervisor: Arc::clone(supervisor) }
    }

    /// The guest asks for an object of so many bytes to be loaded.
    fn load(&self, bytes: u32) {
        // If the supervisor is gone, so is this process in a moment.
        drop(self.supervisor.send(&FromWorker::BpfLoad { bytes }));
    }
}

/// Adds the imports that `module` asks for. One of another type than any SDK gives it is left out,
/// and linking says so.
///
/// # Errors
/// If wasmtime refuses.
pub(super) fn add_to_linker(linker: &mut Linker<Host>, module: &Module) -> wasmtime::Result<()> {
    for import in module.imports() {
        let ExternType::Func(wanted) = import.ty() else { continue };
        let Some(call) = shapes::find(import.module(), import.name(), &wanted) else { continue };
        // A module may import the same twice.
        linker.allow_shadowing(true);
        let defined = define(linker, import.module(), import.name(), wanted, call);
        linker.allow_shadowing(false);
        defined?;
    }
    Ok(())
}

fn define(
    linker: &mut Linker<Host>,
    module: &str,
    name: &str,
    wanted: FuncType,
    call: Call,
) -> wasmtime::Result<()> {
    linker.func_new(module, name, wanted, move |caller, parameters, results| {
        if let (Call::Load, [_, Val::I32(bytes)]) = (call, parameters) {
            caller.data().bpf().load(bytes.cast_unsigned());
        }
        if let Some(result) = results.first_mut() {
            *result = answer(call);
        }
        Ok(())
    })?;
    Ok(())
}

/// No object, and of whatever handle or descriptor there is none.
const fn answer(call: Call) -> Val {
    match call {
        Call::Load => Val::I64(0),
        Call::Close
        | Call::Attach
        | Call::AttachFd
        | Call::MapFdByName
        | Call::MapOperate
        | Call::BufferPoll => Val::I32(-1),
    }
}
