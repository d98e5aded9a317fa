//! Compiles objects.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use aya_obj::btf::Btf;
use object::{Endianness, Object as _, ObjectSection as _};
use wasi_guard_broker::image::Image;
use wasi_guard_broker::parse::{ParseError, parse};

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

/// Types of a kernel whose structs have other members, in other places, than the objects tell.
pub(crate) fn kernel() -> Btf {
    let object = compile(
        "struct signal_struct { long a; int group_exit_code; };
         struct task_struct {
             unsigned int __state; char before[100]; int pid; int tgid; long b;
             struct task_struct *real_parent; struct signal_struct *signal; int exit_code;
             char comm[16];
         };
         struct sock_common { long c; unsigned short skc_family, skc_dport; };
         struct sock { long d; struct sock_common __sk_common; };
         struct task_struct task; struct sock sock; struct signal_struct signal;",
    );
    let file = object::File::parse(&*object).unwrap();
    let section = file.section_by_name(".BTF").unwrap();
    Btf::parse(section.data().unwrap(), Endianness::Little).unwrap()
}

/// The image of an object that has one.
pub(crate) fn image(object: &[u8]) -> Image {
    match parse(object, Some(&kernel())) {
        Ok(image) => image,
        Err(error) => panic!("{error}"),
    }
}

/// Why an object has none.
pub(crate) fn refused(object: &[u8]) -> ParseError {
    match parse(object, Some(&kernel())) {
        Ok(image) => panic!("it has an image: {image:?}"),
        Err(error) => error,
    }
}
