//! Pages under docs/ that are made from the code.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::project::Project;

/// Path of the policy reference.
pub fn reference_path(project: &Project) -> PathBuf {
    project.root.join("docs/policy-reference.md")
}

/// Writes the policy reference.
pub fn write(project: &Project) -> Result<()> {
    let path = reference_path(project);
    let text = reference(project)?;
    let folder = path.parent().context("docs/ has no parent")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails unless the committed page is what the schema gives.
pub fn check(project: &Project) -> Result<()> {
    let path = reference_path(project);
    let committed = fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}: write it with `cargo xtask docs`", path.display())
    })?;
    ensure!(
        committed == reference(project)?,
        "{} is not what the schema says: run `cargo xtask docs` and commit it",
        path.display()
    );
    Ok(())
}

fn reference(project: &Project) -> Result<String> {
    process::capture(&mut project.cargo([
        "run",
        "--release",
        "--quiet",
        "--package",
        "wasi-guard-reference",
    ]))
}
