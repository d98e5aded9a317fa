//! Suites of one test each: a tool or a comparison says yes or no.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{Context, Counts};
use crate::tools::Tool;
use crate::{bench, bpf as object, docs as pages, process};

/// `cargo deny` in the version whose configuration deny.toml is.
const DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
    options: &["--no-default-features"],
    variables: &[],
};

pub(super) fn format(context: &Context) -> Result<Counts> {
    let project = &context.project;
    process::run(&mut project.cargo(["fmt", "--all", "--check"]))?;
    // Workspaces of their own: built by another compiler, and with other options.
    for manifest in ["bpf-progs/Cargo.toml", "fuzz/Cargo.toml"] {
        process::run(&mut project.cargo(["fmt", "--check", "--manifest-path", manifest]))?;
    }
    Ok(Counts { passed: 3, failed: 0 })
}

pub(super) fn clippy(context: &Context) -> Result<Counts> {
    // The release profile, so that nobody compiles wasmtime's dependencies twice.
    process::run(&mut context.project.cargo([
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    // What only builds for tests have.
    process::run(&mut context.project.cargo([
        "clippy",
        "--release",
        "--package=wasi-guard-enforce",
        "--package=wasi-guard-tests",
        "--all-targets",
        "--features=wasi-guard-tests/test-faults",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Counts { passed: 2, failed: 0 })
}

pub(super) fn docs(context: &Context) -> Result<Counts> {
    pages::check(&context.project)?;
    bench::check(&context.project)?;
    Ok(Counts { passed: 2, failed: 0 })
}

pub(super) fn bpf(context: &Context) -> Result<Counts> {
    object::check(&context.project)?;
    Ok(Counts::ONE_PASSED)
}

/// Advisories are left out: their data base is a git repository elsewhere, and a test's result
/// must not depend on what was written there this morning.
pub(super) fn deny(context: &Context) -> Result<Counts> {
    let project = &context.project;
    let deny = DENY.install(project)?;
    process::run(Command::new(deny).current_dir(&project.root).args([
        "--workspace",
        "--locked",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))?;
    Ok(Counts::ONE_PASSED)
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    rust_version: Option<String>,
}

#[derive(Deserialize)]
struct Root {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    package: Shared,
}

#[derive(Deserialize)]
struct Shared {
    #[serde(rename = "rust-version")]
    rust_version: String,
}

/// The promised Rust version is the one that runs all other suites, and no crate asks for more.
pub(super) fn manifests(context: &Context) -> Result<Counts> {
    let project = &context.project;
    let manifest = project.root.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let root: Root = toml::from_str(&text).context("cannot read the workspace's manifest")?;
    let promised = root.workspace.package.rust_version;
    let json = process::capture(&mut project.cargo([
        "metadata",
        "--no-deps",
        "--locked",
        "--format-version=1",
    ]))?;
    let metadata: Metadata =
        serde_json::from_str(&json).context("cannot read what cargo metadata printed")?;
    for package in &metadata.packages {
        let Some(version) = &package.rust_version else {
            bail!("{} has no rust-version", package.name);
        };
        ensure!(
            release(version)? <= release(&promised)?,
            "{} asks for Rust {version}, the workspace promises {promised}",
            package.name
        );
    }
    let rustc = process::capture(project.rustc().arg("--version"))?;
    let used = rustc.split(' ').nth(1).context("rustc prints no version")?;
    if release(used)? != release(&promised)? {
        // Another compiler proves nothing about the promised one: ask that one.
        eprintln!("This is Rust {used}; checking with the promised {promised}");
        process::run(
            Command::new("rustup")
                .args(["run", &promised, "cargo", "check", "--release", "--workspace"])
                .current_dir(&project.root),
        )
        .with_context(|| {
            format!("the promised Rust is not here: rustup toolchain install {promised}")
        })?;
    }
    Ok(Counts::ONE_PASSED)
}

/// Major and minor number of a Rust version.
fn release(version: &str) -> Result<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("{version:?} is no Rust version"),
    }
}
