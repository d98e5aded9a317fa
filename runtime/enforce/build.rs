//! Tells the digest of the object, so that no start has to read all of it.

fn main() -> std::io::Result<()> {
    let object = "../../bpf-progs/wasi-guard.bpf.o";
    println!("cargo::rerun-if-changed={object}");
    let digest = blake3::hash(&std::fs::read(object)?);
    println!("cargo::rustc-env=OBJECT_DIGEST={digest}");
    Ok(())
}
