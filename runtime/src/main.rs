//! The `wasi-guard` executable: the command line and the supervisor. Workers are
//! `wasi-guard-worker`, so that this program is a small one: whatever of a program has an address
//! in it is written anew at each start, and most of that is the compiler's.

use std::process::ExitCode;

wasi_guard::check_static!();

/// Where the programs are linked dynamically, a worker may map the libraries that its supervisor has
/// mapped (`Marks::runtime`). This is of the one that nothing else here needs, libm.
#[used]
static OF_THE_WORKERS_LIBRARY: fn(f64) -> f64 = f64::sin;

fn main() -> ExitCode {
    wasi_guard::cli::main()
}
