//! The `wasi-guard` executable: the command line, or, under the worker's name, a worker.

use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

#[cfg(all(target_feature = "crt-static", not(getrandom_backend = "linux_getrandom")))]
compile_error!(
    "a static wasi-guard takes --cfg getrandom_backend=\"linux_getrandom\", which .cargo/config.toml \
     has; flags from elsewhere (RUSTFLAGS) replace those"
);

fn main() -> ExitCode {
    let name = std::env::args_os().next();
    if name.is_some_and(|name| name.as_bytes() == wasi_guard::protocol::WORKER_NAME.as_bytes()) {
        return wasi_guard::worker::main();
    }
    wasi_guard::cli::main()
}
