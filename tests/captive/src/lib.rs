//! What native code could do in a worker that its guest has taken over: any system call, with any
//! arguments, from any thread.
//!
//! The escape suite (`tests/escape`) writes a [`Script`]; [`serve`] runs it where it stands: in the
//! confined worker of a `wasi-guard` that was built with the feature `test-captive-worker`, or in a
//! plain process of the suite. Both run the same code, so that the confinement is the only
//! difference. In the compiler of such a build, [`serve_module`] runs the script of a [`module`].

mod engine;
mod module;
mod script;
mod sys;
mod wire;

pub use libc;
pub use module::{module, serve_module};
pub use script::{Answer, Buffer, Call, Entry, Race, Rounds, Script, Step, Value};
pub use wire::{receive, send};

use std::io;
use std::os::fd::BorrowedFd;

/// Runs the scripts that come from `input` and answers on `output`, until `input` ends.
///
/// # Errors
/// If reading or writing fails, or what comes is no script.
pub fn serve(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<()> {
    while let Some(script) = receive::<Script>(input)? {
        send(output, &engine::run(script))?;
    }
    Ok(())
}
