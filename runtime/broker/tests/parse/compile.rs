//! Compiles objects.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where the sources are that have more than one user.
fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/objects"].iter().collect()
}

/// The object of `tests/objects/NAME.bpf.c`.
pub(crate) fn named(name: &str) -> Vec<u8> {
    let source = folder().join(format!("{name}.bpf.c"));
    let source = std::fs::read_to_string(&source)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", source.display()));
    compile(&source)
}

/// The object of a source that begins with `bpf.h`.
pub(crate) fn of(source: &str) -> Vec<u8> {
    compile(&format!("#include \"bpf.h\"\n{source}\nLICENSE(\"GPL\");\n"))
}

/// The object of a source, compiled as xtask compiles those in `tests/objects`.
pub(crate) fn compile(source: &str) -> Vec<u8> {
    let mut clang = Command::new("clang-22")
        .args(["--target=bpf", "-mcpu=v3", "-O2", "-g", "-c", "-x", "c", "-", "-o", "-", "-I"])
        .arg(folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("clang-22 compiles the objects: apt-get install clang-22");
    clang.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let output = clang.wait_with_output().unwrap();
    assert!(output.status.success(), "clang-22 takes the source:\n{source}");
    output.stdout
}
