//! How a guest's end becomes an exit code and text, as `wasmtime run` has them.

use std::io::Write as _;

use wasmtime::Trap;
use wasmtime::error::Context as _;
use wasmtime_wasi::I32Exit;

use crate::protocol::{EXIT_ERROR, EXIT_TRAP, End};

/// The error of a guest that waited beyond its time limit.
pub(super) fn timed_out(elapsed: tokio::time::error::Elapsed) -> wasmtime::Result<()> {
    Err(wasmtime::Error::from(Trap::Interrupt))
        .with_context(|| format!("timed out after {elapsed}"))
}

/// Prints the error, if it is one, and answers how the guest ended and the worker's exit code.
pub(super) fn report(name: &str, result: wasmtime::Result<()>) -> (End, i32) {
    let Err(error) = result else {
        return (End::Exit { code: 0 }, 0);
    };
    if let Some(&I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return (End::Exit { code }, code);
    }
    let message = error.root_cause().to_string();
    let message = message.lines().next().unwrap_or_default().chars().take(500).collect();
    let trapped = error.is::<Trap>();
    let error = error.context(format!("failed to run main module `{name}`"));
    // If stderr is closed the exit code has to do.
    let _ = writeln!(std::io::stderr(), "Error: {error:?}");
    if trapped { (End::Trap { message }, EXIT_TRAP) } else { (End::Error { message }, EXIT_ERROR) }
}
