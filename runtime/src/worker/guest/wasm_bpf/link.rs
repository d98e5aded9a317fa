//! The imports of one module, with what its functions need of its exports.

use std::sync::Arc;

use wasmtime::{
    AsContextMut, Caller, Extern, ExternType, Func, FuncType, Linker, Memory, Module, ModuleExport,
    Table, Val,
};

use super::super::module::Host;
use super::arguments::Word;
use super::shapes::{self, Call};
use super::{answer, poll};

/// The guest's memory, by the name that WASI has for it.
const MEMORY: &str = "memory";
/// The table that linkers make for pointers to functions.
const TABLE: &str = "__indirect_function_table";

/// What the calls need of the module's exports.
pub(super) struct Exports {
    memory: Option<ModuleExport>,
    table: Option<ModuleExport>,
}

impl Exports {
    fn of(module: &Module) -> Self {
        let is_table = |name: &str| matches!(module.get_export(name), Some(ExternType::Table(_)));
        let mut tables = module.exports().map(|it| it.name()).filter(|name| is_table(name));
        let table = match (is_table(TABLE), tables.next(), tables.next()) {
            (true, ..) => Some(TABLE),
            (false, Some(only), None) => Some(only),
            (false, ..) => None,
        };
        Self {
            memory: module.get_export_index(MEMORY),
            table: table.and_then(|name| module.get_export_index(name)),
        }
    }

    /// The guest's memory; one that it shares with threads is none, for there are no threads.
    pub(super) fn memory(&self, caller: &mut Caller<'_, Host>) -> Option<Memory> {
        caller.get_module_export(self.memory.as_ref()?)?.into_memory()
    }

    /// The table in which the guest's callbacks are.
    pub(super) fn table(&self, caller: &mut Caller<'_, Host>) -> Option<Table> {
        caller.get_module_export(self.table.as_ref()?)?.into_table()
    }
}

/// Whether a module imports any of the calls, so that its imports are to be had from [`imports`].
pub(in super::super) fn wanted(module: &Module) -> bool {
    module.imports().any(|import| match import.ty() {
        ExternType::Func(ty) => shapes::find(import.module(), import.name(), &ty).is_some(),
        _ => false,
    })
}

/// All that a module imports, in its order: the calls here with the types that it has for them,
/// everything else from the linker. A linker knows one function for a name, and some guests import
/// `wasm_bpf_map_operate` with two types.
///
/// # Errors
/// wasmtime's words for an import that there is not, or not of that type.
pub(in super::super) fn imports(
    mut store: impl AsContextMut<Data = Host>,
    linker: &Linker<Host>,
    module: &Module,
) -> wasmtime::Result<Vec<Extern>> {
    let exports = Arc::new(Exports::of(module));
    let mut all = Vec::new();
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        if let ExternType::Func(ty) = import.ty()
            && let Some(call) = shapes::find(from, name, &ty)
        {
            all.push(function(&mut store, ty, call, &exports).into());
            continue;
        }
        let found = linker.try_get_by_import(&mut store, &import)?;
        let found = found.ok_or_else(|| {
            wasmtime::format_err!("unknown import: `{from}::{name}` has not been defined")
        })?;
        match (found.ty(&store), import.ty()) {
            (ExternType::Func(found), ExternType::Func(wanted)) if found.matches(&wanted) => {}
            (found, wanted) => {
                let words = "incompatible import type for";
                wasmtime::bail!("{words} `{from}::{name}`: expected {wanted:?}, found {found:?}");
            }
        }
        all.push(found);
    }
    Ok(all)
}

fn function(
    store: impl AsContextMut<Data = Host>,
    ty: FuncType,
    call: Call,
    exports: &Arc<Exports>,
) -> Func {
    let exports = Arc::clone(exports);
    // A poll calls the guest, which in a store of this kind is to be waited for.
    if matches!(call, Call::BufferPoll | Call::WrappedPoll) {
        return Func::new_async(store, ty, move |mut caller, parameters, results| {
            let exports = Arc::clone(&exports);
            Box::new(async move {
                let number = if caller.data_mut().bpf().tool().is_some() {
                    poll::poll(&mut caller, &exports, &words(parameters)).await?
                } else {
                    answer::REFUSED
                };
                give(results, Val::I32(number));
                Ok(())
            })
        });
    }
    Func::new(store, ty, move |mut caller, parameters, results| {
        let words = words(parameters);
        let memory = exports.memory(&mut caller);
        let (memory, host) = match memory {
            Some(memory) => memory.data_and_store_mut(&mut caller),
            None => (Default::default(), caller.data_mut()),
        };
        let number = answer::answer(host.bpf(), call, memory, &words);
        give(results, if call.is_wide() { Val::I64(number) } else { Val::I32(number as i32) });
        Ok(())
    })
}

fn words(parameters: &[Val]) -> Vec<Word> {
    let word = |value: &Val| match value {
        Val::I32(word) => Some(Word::Narrow(*word)),
        Val::I64(word) => Some(Word::Wide(*word)),
        _ => None,
    };
    parameters.iter().filter_map(word).collect()
}

fn give(results: &mut [Val], value: Val) {
    if let Some(result) = results.first_mut() {
        *result = value;
    }
}
