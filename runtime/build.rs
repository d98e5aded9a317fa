//! Turns the lists of `policies/seccomp` into filters, so that no start has to.
//!
//! The modules that do it are the library's own; its tests hold the result against the kernel.

#[cfg(feature = "run")]
#[allow(dead_code, reason = "the library's tests use the rest")]
#[path = "src/worker/seccomp/filters.rs"]
mod filters;
#[cfg(feature = "run")]
#[allow(dead_code, reason = "the library's tests use the rest")]
#[path = "src/worker/seccomp/list/mod.rs"]
mod list;

#[cfg(feature = "run")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use list::{Rows, Unlisted};
    use std::fmt::Write as _;

    let mut code = String::new();
    for (name, file, unlisted) in [
        ("RUN", "run.toml", Unlisted::Asked),
        ("COMPILE", "compile.toml", Unlisted::Denied),
        ("PARSE", "parse.toml", Unlisted::Denied),
    ] {
        let path = format!("../policies/seccomp/{file}");
        println!("cargo::rerun-if-changed={path}");
        let rows = Rows::parse(&std::fs::read_to_string(&path)?)?;
        writeln!(code, "pub(super) static {name}: &[Instruction] = &[")?;
        for it in filters::program(&rows, unlisted)? {
            writeln!(code, "    ({}, {}, {}, {}),", it.code, it.jt, it.jf, it.k)?;
        }
        writeln!(code, "];")?;
        if name == "RUN" {
            writeln!(code, "pub(super) static KILL: &[usize] = &{:?};", rows.kill_numbers()?)?;
            writeln!(code, "pub(super) static LOAD: &[Loading] = &[")?;
            for (call, conditions) in rows.load_numbers()? {
                writeln!(code, "    ({call}, &{conditions:?}),")?;
            }
            writeln!(code, "];")?;
        }
    }
    let target = std::env::var("OUT_DIR")?;
    std::fs::write(std::path::Path::new(&target).join("seccomp.rs"), code)?;
    for file in ["build.rs", "src/worker/seccomp/filters.rs", "src/worker/seccomp/list/mod.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    Ok(())
}

#[cfg(not(feature = "run"))]
fn main() {}
