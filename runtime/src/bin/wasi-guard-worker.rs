//! The `wasi-guard-worker` executable: what `wasi-guard` starts for a guest, a module to compile or
//! BPF objects to parse.

use std::process::ExitCode;

wasi_guard::check_static!();

fn main() -> ExitCode {
    wasi_guard::worker::main()
}
