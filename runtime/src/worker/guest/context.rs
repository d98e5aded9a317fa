//! The guest's WASI context: arguments, environment, standard streams, preopens, network.

use rustix::process::{chdir, fchdir};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::super::failure::{Failure, Step as _};
use super::{Preopened, failed};
use crate::protocol::{Options, RunConfig};

/// Fills a builder from the config.
///
/// # Errors
/// If a preopen cannot be entered.
pub(super) fn build(
    config: &RunConfig,
    options: &Options,
    timed: bool,
    preopens: Vec<Preopened>,
) -> Result<WasiCtxBuilder, Failure> {
    let wasi = &options.common().wasi;
    let mut builder = WasiCtxBuilder::new();
    // The worker has nothing else to do while the guest waits, but a blocked thread cannot look at
    // the clock. Must come before the preopens, which copy it.
    builder.allow_blocking_current_thread(!timed);
    builder.args(&config.args).envs(&config.env);
    if wasi.inherit_stdin != Some(false) {
        builder.inherit_stdin();
    }
    if wasi.inherit_stdout != Some(false) {
        builder.inherit_stdout();
    }
    if wasi.inherit_stderr != Some(false) {
        builder.inherit_stderr();
    }
    if let Some(directory) = &wasi.cwd {
        builder.initial_cwd(directory);
    }
    if let Some(bytes) = wasi.max_random_size {
        builder.max_random_size(bytes);
    }
    // The kernel decides about every address. A refusal here would hide the attempt from the
    // audit. Names are not looked up: see `check_options`.
    builder.inherit_network();
    builder.allow_tcp(wasi.tcp != Some(false));
    builder.allow_udp(wasi.udp != Some(false));
    add_preopens(&mut builder, preopens)?;
    Ok(builder)
}

/// WASI takes preopens by path only. A directory is entered by its descriptor and handed over as
/// `.`, which needs neither /proc nor a name that could have changed its meaning. WASI opens it
/// with `O_PATH`, about which the kernel does not ask the policy.
///
/// To WASI each may be written to, whatever the policy says: the kernel decides, a refusal here
/// would hide the attempt from the audit, and a reload may grant what the start did not.
fn add_preopens(builder: &mut WasiCtxBuilder, preopens: Vec<Preopened>) -> Result<(), Failure> {
    if preopens.is_empty() {
        return Ok(());
    }
    for preopen in preopens {
        fchdir(&preopen.directory).step("enter a preopen")?;
        builder
            .preopened_dir(".", &preopen.guest, FsPerms::ReadWrite)
            .map_err(failed("open a preopen"))?;
    }
    chdir("/").step("leave the last preopen")
}
