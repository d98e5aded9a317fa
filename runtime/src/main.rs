//! The `wasi-guard` executable: the command line, or, under the worker's name, a worker.

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next();
    if name.is_some_and(|name| name.as_bytes() == wasi_guard::protocol::WORKER_NAME.as_bytes()) {
        return wasi_guard::worker::main();
    }
    wasi_guard::cli::main()
}
