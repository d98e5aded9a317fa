//! For wasi-guard's own tests only, behind the feature `test-captive-worker`: a host function that
//! makes the system calls that the suite asks for. It stands in for a guest that has taken over its
//! worker: the worker is a real one up to the guest's first instruction, and from there on native
//! code does in it what it likes. In the same way a module with a script takes over its compiler.

use std::io::Write as _;

use rustix::stdio::{stdin, stdout};
use wasmtime::Linker;

/// Adds `obey` of the module `wasi_guard_test`: serves scripts that come on stdin, answers on
/// stdout, returns 0 at the end of stdin.
///
/// # Errors
/// If the name is taken.
pub(super) fn add_to_linker<T: 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    linker.func_wrap("wasi_guard_test", "obey", || {
        match wasi_guard_captive::serve(stdin(), stdout()) {
            Ok(()) => 0,
            Err(error) => {
                // The suite reads it; if stderr is closed the result has to do.
                let _ = writeln!(std::io::stderr(), "captive: {error}");
                1
            }
        }
    })?;
    Ok(())
}

/// Does what the module says, if it is one that takes over its compiler: see
/// [`wasi_guard_captive::module`]. The answer goes to stderr, the only way out.
///
/// # Errors
/// If there is no way to answer, or the module's script cannot be read.
pub(super) fn obey(module: &[u8]) -> std::io::Result<()> {
    wasi_guard_captive::serve_module(module, rustix::stdio::stderr())
}
