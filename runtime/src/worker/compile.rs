//! Role Compile: hostile bytes in, artifact out, with nothing else in reach.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use wasi_guard_enforce::fault::{self, Point};
use wasmtime::{CodeBuilder, CodeHint, Config, Engine};

use super::failure::{Failure, Step as _, wasmtime_chain};
use super::run::refuse_help;
use super::seccomp::{self, List};
use super::{Descriptors, guest, harden, landlock, tell};
use crate::compile::Content;
use crate::protocol::{
    Channel, CompileConfig, CompileStep, FromWorker, Kind, Options, Seccomp, check_options,
};

/// Compiles the module; the result is the exit code of the process.
///
/// # Errors
/// The step that failed, with wasmtime's own words where it is wasmtime that refused.
pub fn compile(
    channel: &Channel,
    config: &CompileConfig,
    mut descriptors: Descriptors,
) -> Result<i32, Failure> {
    refuse_help(&config.options)?;
    let options = check_options(&config.options).step("read the options")?;
    let module = File::from(descriptors.take(config.module)?);
    let output = File::from(descriptors.take(config.output)?);
    let engine = engine(&options, config)?;

    let mut layers =
        harden::harden(channel, harden::Strictness::WhatTheCallerMay, &config.identity)?;
    harden::limit_compiler()?;
    // The seccomp list below has no call that takes a path or makes a socket, so Landlock is a
    // second lock on the same door: without it the compiler is confined all the same.
    layers.landlock = landlock::confine_compiler()?;
    layers.seccomp = Seccomp::Enforce;
    seccomp::install(List::Compile).step("install the seccomp filter")?;
    tell(channel, &FromWorker::Hardened { layers: layers.clone() })?;

    fault::at(Point::CompilerHardened);
    let bytes = read(module)?;
    #[cfg(feature = "test-captive-worker")]
    super::captive::obey(&bytes).step("obey the module")?;
    let (kind, artifact) = translate(&engine, &bytes)?;
    let imports_checked = runs_here(config.target.as_deref());
    if imports_checked {
        guest::check_imports(&engine, &options, kind, &artifact)?;
    }
    write(output, &artifact).step("write the compiled module")?;
    fault::at(Point::CompilerDone);
    let length = artifact.len() as u64;
    tell(channel, &FromWorker::Compiled { kind, length, imports_checked, layers })?;
    fault::at(Point::CompilerTold);
    Ok(0)
}

fn engine(options: &Options, config: &CompileConfig) -> Result<Engine, Failure> {
    options
        .config(config.fuel, config.epochs, config.target.as_deref())
        .and_then(|config: Config| Engine::new(&config))
        .map_err(|error| {
            Failure::new("set up the compiler").because(wasmtime_chain(&error)).hint(
                "see `wasi-guard compile --help` for targets and `-C help` for compiler options",
            )
        })
}

fn read(mut module: File) -> Result<Vec<u8>, Failure> {
    let step = CompileStep::Read.text();
    let mut bytes = Vec::new();
    module.seek(SeekFrom::Start(0)).step(step)?;
    module.read_to_end(&mut bytes).step(step)?;
    match Content::of(&bytes) {
        Content::Module | Content::Component | Content::Text => Ok(bytes),
        Content::Unusable(why) => Err(Failure::new(step).because(why)),
    }
}

fn translate(engine: &Engine, bytes: &[u8]) -> Result<(Kind, Vec<u8>), Failure> {
    let failed = |step: CompileStep| {
        move |error: wasmtime::Error| Failure::new(step.text()).because(wasmtime_chain(&error))
    };
    let mut code = CodeBuilder::new(engine);
    code.wasm_binary_or_text(bytes, None).map_err(failed(CompileStep::Read))?;
    let (kind, artifact) = match code.hint() {
        Some(CodeHint::Component) => (Kind::Component, code.compile_component_serialized()),
        Some(CodeHint::Module) | None => (Kind::Module, code.compile_module_serialized()),
    };
    Ok((kind, artifact.map_err(failed(CompileStep::Compile))?))
}

/// Whether an artifact for `target` can be loaded on this machine, to be linked against what
/// wasi-guard provides: then a missing import is told now and not at the start of a run.
fn runs_here(target: Option<&str>) -> bool {
    target.is_none_or(|target| {
        let mut parts = target.split('-');
        parts.next() == Some(std::env::consts::ARCH) && parts.any(|part| part == "linux")
    })
}

fn write(mut output: File, artifact: &[u8]) -> std::io::Result<()> {
    output.seek(SeekFrom::Start(0))?;
    output.write_all(artifact)
}
