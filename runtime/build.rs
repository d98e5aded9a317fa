//! Turns the lists of `policies/seccomp` into filters, so that no start has to, and names the build.
//!
//! The modules that make the filters are the library's own; its tests hold the result against the
//! kernel.

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
    println!("cargo::rustc-env=WASI_GUARD_BUILD={}", build()?);
    let target = std::env::var("OUT_DIR")?;
    std::fs::write(std::path::Path::new(&target).join("seccomp.rs"), code)?;
    for file in ["build.rs", "src/worker/seccomp/filters.rs", "src/worker/seccomp/list/mod.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    Ok(())
}

/// What supervisor and worker have in common if they belong together: the sources of what they say to
/// each other and do, and the features. Not meant against forgery.
#[cfg(feature = "run")]
fn build() -> std::io::Result<String> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    use std::path::PathBuf;

    const SOURCES: [&str; 10] = [
        "../Cargo.lock",
        "../bpf-progs/abi/src",
        "../bpf-progs/wasi-guard.bpf.o",
        "../policies/seccomp",
        "../policy/src",
        "Cargo.toml",
        "broker/src",
        "channel/src",
        "enforce/src",
        "src",
    ];
    let mut hasher = DefaultHasher::new();
    let mut features: Vec<_> = std::env::vars()
        .map(|(name, _)| name)
        .filter(|it| it.starts_with("CARGO_FEATURE_"))
        .collect();
    features.sort();
    features.hash(&mut hasher);
    let mut left: Vec<PathBuf> = SOURCES.map(PathBuf::from).to_vec();
    while let Some(path) = left.pop() {
        println!("cargo::rerun-if-changed={}", path.display());
        if path.is_dir() {
            let mut inside: Vec<_> = std::fs::read_dir(path)?
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<_>>()?;
            inside.sort();
            left.extend(inside);
        } else {
            path.hash(&mut hasher);
            std::fs::read(path)?.hash(&mut hasher);
        }
    }
    Ok(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish()))
}

#[cfg(not(feature = "run"))]
fn main() {}
