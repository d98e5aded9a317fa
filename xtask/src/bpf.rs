//! Builds the BPF object, so that the same sources and the same tools give the same bytes on any
//! machine, and proves that the committed object belongs to its sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::host::{self, Task};
use crate::process;
use crate::project::Project;
use crate::tools::Tool;

const LLVM: &str = "/usr/lib/llvm-22";
const LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.13.0",
    options: &["--no-default-features", "--features", "llvm-22"],
    variables: &[("LLVM_PREFIX", LLVM)],
};
const RUSTC: &str = "/usr/bin/rustc";
const TARGET: &str = "bpfel-unknown-none";
const PROGRAM: &str = "wasi-guard-bpf";
const CURE: &str = "rebuild with `cargo xtask bpf` and commit both files";

/// What stands beside the object: from what it was built, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// SHA-256 of the object.
    pub object: String,
    /// SHA-256 over names and contents of the sources, see [`sources`].
    pub sources: String,
    /// What built it.
    pub tools: Tools,
}

/// Versions of the tools, as they print them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// The compiler.
    pub rustc: String,
    /// The linker.
    pub linker: String,
    /// The LLVM behind the linker.
    pub llvm: String,
}

/// Path of the committed object.
pub fn object_path(project: &Project) -> PathBuf {
    project.root.join("bpf-progs/wasi-guard.bpf.o")
}

/// Path of the record beside it.
pub fn record_path(project: &Project) -> PathBuf {
    project.root.join("bpf-progs/wasi-guard.bpf.toml")
}

/// Builds object and record and puts them into the tree.
pub fn update(project: &Project) -> Result<Record> {
    let (object, record) = build(project)?;
    let text = toml::to_string(&record).context("cannot write the record as TOML")?;
    let text =
        format!("# Written by `cargo xtask bpf`; checked by `cargo xtask bpf --check`.\n{text}");
    for (path, bytes) in
        [(object_path(project), object.as_slice()), (record_path(project), text.as_bytes())]
    {
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(record)
}

/// Fails unless the committed object, its record and its sources belong together, which a
/// rebuild proves. Changes nothing in the tree.
pub fn check(project: &Project) -> Result<()> {
    let path = record_path(project);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: {CURE}", path.display()))?;
    let committed: Record = toml::from_str(&text)
        .with_context(|| format!("{} is no record of a build: {CURE}", path.display()))?;
    let path = object_path(project);
    let object =
        fs::read(&path).with_context(|| format!("cannot read {}: {CURE}", path.display()))?;
    ensure!(
        sources(project)? == committed.sources,
        "the sources in bpf-progs/ changed after the object was built: {CURE}"
    );
    ensure!(
        hex(&object) == committed.object,
        "{} is not the object that its record names: {CURE}",
        path.display()
    );
    let (rebuilt, record) = build(project)?;
    if rebuilt == object {
        if record.tools != committed.tools {
            eprintln!(
                "The same object came from other tools than the recorded ones: {:?} here, {:?} \
                 recorded.",
                record.tools, committed.tools
            );
        }
        return Ok(());
    }
    if record.tools != committed.tools {
        bail!(
            "the sources are the recorded ones, but the tools here are not, and they build \
             another object:\n  here      {:?}\n  recorded  {:?}\nInstall the recorded ones, or \
             {CURE}.",
            record.tools,
            committed.tools
        );
    }
    bail!(
        "the recorded sources and tools build another object ({} instead of {}): the committed \
         one is not what it claims to be; {CURE}",
        record.object,
        committed.object
    )
}

/// SHA-256 over the sources of the object: each file's path below bpf-progs/, its length and its
/// bytes, in the order of the paths.
pub fn sources(project: &Project) -> Result<String> {
    let root = project.root.join("bpf-progs");
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files)?;
    let mut digest = Sha256::new();
    for (name, bytes) in &files {
        digest.update((name.len() as u64).to_le_bytes());
        digest.update(name);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    Ok(format!("{:x}", digest.finalize()))
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let named = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(named)? {
        let path = entry.with_context(named)?.path();
        let below = path.strip_prefix(root).with_context(named)?;
        if path.is_dir() {
            if below != Path::new("target") {
                collect(root, &path, files)?;
            }
            continue;
        }
        let is_source = path.extension().is_some_and(|end| end == "rs")
            || path.file_name().is_some_and(|name| name == "Cargo.toml" || name == "Cargo.lock");
        if is_source {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(below.to_string_lossy().into_owned(), bytes);
        }
    }
    Ok(())
}

/// Builds the object; returns it with its record.
fn build(project: &Project) -> Result<(Vec<u8>, Record)> {
    host::ensure(&[Task::Bpf])?;
    let linker = LINKER.install(project)?;
    let target = project.target.join("bpf");
    // Not `--quiet`: the first build takes a minute.
    let mut command = bpf_cargo(project, "build");
    command.args(["--release", "--target", TARGET, "--target-dir"]).arg(&target);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(project, &linker)?.join("\x1f"));
    process::run(&mut command)?;

    let built = target.join(TARGET).join("release").join(PROGRAM);
    let stripped = tempfile::NamedTempFile::new_in(&target).context("cannot create a file")?;
    // Debug sections go, .BTF and .BTF.ext stay: the kernel and aya need them.
    process::capture(
        Command::new(Path::new(LLVM).join("bin/llvm-objcopy"))
            .arg("--strip-debug")
            .arg(&built)
            .arg(stripped.path()),
    )?;
    let object = fs::read(stripped.path()).context("cannot read the stripped object")?;
    for private in [&project.root, &cargo_home()?] {
        ensure!(
            !contains(&object, private.to_string_lossy().as_bytes()),
            "the object contains the path {} of this machine",
            private.display()
        );
    }
    let record =
        Record { object: hex(&object), sources: sources(project)?, tools: tools(&linker)? };
    Ok((object, record))
}

fn bpf_cargo(project: &Project, task: &str) -> Command {
    let mut command = project.cargo([task, "--locked"]);
    command.current_dir(project.root.join("bpf-progs"));
    command.env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1");
    for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"]
    {
        command.env_remove(variable);
    }
    command
}

/// Flags of the compiler. The paths of this machine are mapped to fixed ones that do not exist:
/// LLVM would copy source lines into the BTF where it finds the file.
fn flags(project: &Project, linker: &Path) -> Result<Vec<String>> {
    // The name of a registry's folder depends on cargo's version: fetch, then map what is there.
    process::run(&mut bpf_cargo(project, "fetch"))?;
    let registries = cargo_home()?.join("registry/src");
    let mut mapped = vec![(project.root.clone(), "/wasi-guard"), (cargo_home()?, "/cargo")];
    for entry in fs::read_dir(&registries).into_iter().flatten().flatten() {
        mapped.push((entry.path(), "/registry"));
    }
    let mut flags = vec![
        format!("-Clinker={}", linker.display()),
        "-Clink-arg=--btf".to_owned(),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
    ];
    // The last one that fits counts.
    flags.extend(
        mapped.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())),
    );
    Ok(flags)
}

fn tools(linker: &Path) -> Result<Tools> {
    Ok(Tools {
        rustc: version(Path::new(RUSTC))?,
        linker: version(linker)?,
        llvm: version(&Path::new(LLVM).join("bin/llvm-config"))?,
    })
}

fn version(tool: &Path) -> Result<String> {
    Ok(process::capture(Command::new(tool).arg("--version"))?.trim().to_owned())
}

fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => Ok(std::env::home_dir().context("there is no home directory")?.join(".cargo")),
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}
