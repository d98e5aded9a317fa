//! The calls, by the names and types under which guests import them.

use wasmtime::{FuncType, ValType};

/// Where all imports are but one.
const MODULE: &str = "wasm_bpf";
/// Where guests of tinygo have theirs, which calls an export in place of an entry of a table.
const WRAPPER: &str = "callback-wrapper";

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Load,
    Close,
    Attach,
    AttachFd,
    MapFdByName,
    MapOperate,
    BufferPoll,
    /// The same of tinygo's guests.
    WrappedPoll,
    BufferLost,
    LastError,
}

use self::Call::{
    Attach, AttachFd, BufferLost, BufferPoll, Close, LastError, Load, MapFdByName, MapOperate,
    WrappedPoll,
};

impl Call {
    /// Whether its answer has 64 bits.
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Load | BufferLost)
    }
}

/// Module, name, call, parameters (`i` is i32, `I` is i64), result. The last two are wasi-guard's
/// own. SDKs differ in how they declare
/// `wasm_bpf_map_operate`: C has pointers of 32 bits, Rust and Go have them of 64; and the
/// descriptor, of 32 bits with all of them, is described with 64.
const SHAPES: &[(&str, &str, Call, &str, char)] = &[
    (MODULE, "wasm_load_bpf_object", Load, "ii", 'I'),
    (MODULE, "wasm_close_bpf_object", Close, "I", 'i'),
    (MODULE, "wasm_attach_bpf_program", Attach, "Iii", 'i'),
    (MODULE, "wasm_attach_bpf_program_fd", AttachFd, "Iii", 'i'),
    (MODULE, "wasm_bpf_map_fd_by_name", MapFdByName, "Ii", 'i'),
    (MODULE, "wasm_bpf_map_operate", MapOperate, "iiiiiI", 'i'),
    (MODULE, "wasm_bpf_map_operate", MapOperate, "iiIIII", 'i'),
    (MODULE, "wasm_bpf_map_operate", MapOperate, "IiIIII", 'i'),
    (MODULE, "wasm_bpf_buffer_poll", BufferPoll, "Iiiiiii", 'i'),
    (WRAPPER, "wasm_bpf_buffer_poll", WrappedPoll, "Iiiiii", 'i'),
    (MODULE, "wasm_bpf_buffer_lost", BufferLost, "Ii", 'I'),
    (MODULE, "wasm_bpf_last_error", LastError, "ii", 'i'),
];

/// The call that a guest imports as `module` `name` with this type.
pub(super) fn find(module: &str, name: &str, wanted: &FuncType) -> Option<Call> {
    let has_type = |parameters: &str, result: char| {
        same(wanted.params(), parameters) && same(wanted.results(), result.encode_utf8(&mut [0; 4]))
    };
    SHAPES.iter().find_map(|(its_module, its_name, call, parameters, result)| {
        let fits = *its_module == module && *its_name == name && has_type(parameters, *result);
        fits.then_some(*call)
    })
}

fn same(types: impl ExactSizeIterator<Item = ValType>, letters: &str) -> bool {
    types.len() == letters.len()
        && types.zip(letters.chars()).all(|(it, letter)| match letter {
            'i' => it.is_i32(),
            _ => it.is_i64(),
        })
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    fn ty(engine: &Engine, parameters: &str, result: &str) -> FuncType {
        let types = |letters: &str| -> Vec<ValType> {
            letters.chars().map(|it| if it == 'i' { ValType::I32 } else { ValType::I64 }).collect()
        };
        FuncType::new(engine, types(parameters), types(result))
    }

    #[test]
    fn each_shape_is_found_and_none_that_is_bent() {
        let engine = Engine::default();
        for (module, name, call, parameters, result) in SHAPES {
            assert_eq!(call.is_wide(), *result == 'I', "{name}");
            let result = result.to_string();
            let found = find(module, name, &ty(&engine, parameters, &result));
            assert_eq!(found, Some(*call), "{name} {parameters}");
            let other = if result == "i" { "I" } else { "i" };
            for (parameters, result) in [
                (*parameters, ""),
                (*parameters, other),
                (*parameters, "ii"),
                (&parameters[1..], result.as_str()),
                (&format!("{parameters}i"), result.as_str()),
            ] {
                assert_eq!(find(module, name, &ty(&engine, parameters, result)), None, "{name}");
            }
            assert_eq!(find("env", name, &ty(&engine, parameters, &result)), None);
        }
        assert_eq!(find(MODULE, "wasm_bpf_map_operate", &ty(&engine, "iiiIiI", "i")), None);
    }
}
