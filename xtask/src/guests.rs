//! Compiles guest programs: each `tests/guests/NAME.c` becomes `target/guests/NAME.wasm`, a
//! preview 1 command; `.wat` and `.wasm` files are copied as they are. With them go the BPF objects
//! that guests load: each `tests/objects/NAME.bpf.c` becomes `target/objects/NAME.bpf.o`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::{self, Task};
use crate::process;
use crate::project::Project;

/// Brings all guests up to date, and the objects that they load, and returns the guests' folder
/// (empty if there are no sources).
pub fn build(project: &Project) -> Result<PathBuf> {
    objects(project)?;
    let sources = project.root.join("tests/guests");
    let built = project.target.join("guests");
    fs::create_dir_all(&built).with_context(|| format!("cannot create {}", built.display()))?;
    if !sources.is_dir() {
        return Ok(built);
    }
    let named = || format!("cannot list {}", sources.display());
    let mut wanted = Vec::new();
    for entry in fs::read_dir(&sources).with_context(named)? {
        let source = entry.with_context(named)?.path();
        let Some(name) = source.file_stem().map(|name| name.to_owned()) else { continue };
        match source.extension().and_then(|end| end.to_str()) {
            Some("c") => {
                let guest = built.join(name).with_extension("wasm");
                if !is_newer(&guest, &source)? {
                    host::ensure(&[Task::Guests])?;
                    compile(&source, &guest)?;
                }
                wanted.push(guest);
            }
            Some("wat" | "wasm") => {
                let guest = built.join(source.file_name().unwrap_or(&name));
                fs::copy(&source, &guest)
                    .with_context(|| format!("cannot copy {}", source.display()))?;
                wanted.push(guest);
            }
            _ => {}
        }
    }
    remove_others(&built, &wanted)?;
    Ok(built)
}

/// Brings all BPF objects up to date and returns their folder.
pub fn objects(project: &Project) -> Result<PathBuf> {
    let sources = project.root.join("tests/objects");
    let built = project.target.join("objects");
    fs::create_dir_all(&built).with_context(|| format!("cannot create {}", built.display()))?;
    let named = || format!("cannot list {}", sources.display());
    let header = sources.join("bpf.h");
    let mut wanted = Vec::new();
    for entry in fs::read_dir(&sources).with_context(named)? {
        let source = entry.with_context(named)?.path();
        let name = source.file_name().and_then(|name| name.to_str());
        let Some(name) = name.and_then(|name| name.strip_suffix(".bpf.c")) else { continue };
        let object = built.join(format!("{name}.bpf.o"));
        if !is_newer(&object, &source)? || !is_newer(&object, &header)? {
            host::ensure(&[Task::Guests])?;
            // As runtime/broker/tests/parse/objects.rs does it.
            process::capture(
                Command::new("clang-22")
                    .args(["--target=bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror", "-c", "-o"])
                    .arg(&object)
                    .arg(&source),
            )?;
        }
        wanted.push(object);
    }
    remove_others(&built, &wanted)?;
    Ok(built)
}

/// What has no source any more must not keep a test alive.
fn remove_others(built: &Path, wanted: &[PathBuf]) -> Result<()> {
    let named = || format!("cannot list {}", built.display());
    for entry in fs::read_dir(built).with_context(named)? {
        let path = entry.with_context(named)?.path();
        if !wanted.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn compile(source: &Path, guest: &Path) -> Result<()> {
    process::capture(
        Command::new("clang-22")
            // Debian's wasi-libc lives under the triple's old name, which clang calls deprecated.
            .args(["--target=wasm32-wasi", "-Wno-deprecated", "-O2", "-Wall", "-Werror", "-o"])
            .arg(guest)
            .args(linker_options(source)?)
            .arg(source),
    )?;
    Ok(())
}

/// What a source asks the linker for in its first line: `// link: OPTION...`.
fn linker_options(source: &Path) -> Result<Vec<String>> {
    let text =
        fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
    let words = text.lines().next().and_then(|line| line.strip_prefix("// link: "));
    let words = words.unwrap_or_default().split_whitespace();
    Ok(words.map(|option| format!("-Wl,{option}")).collect())
}

fn is_newer(made: &Path, source: &Path) -> Result<bool> {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let Ok(made) = time(made) else { return Ok(false) };
    let source = time(source).with_context(|| format!("cannot look at {}", source.display()))?;
    Ok(made > source)
}
