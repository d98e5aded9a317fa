//! The project's tree and its cargo.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::{process, vm};

/// Where things are.
pub struct Project {
    /// The folder with the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Cargo's target folder.
    pub target: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Project {
    /// Asks cargo.
    pub fn find() -> Result<Self> {
        let mut command = Command::new(cargo());
        command.args(["metadata", "--no-deps", "--format-version=1"]);
        if let Some(xtask) = std::env::var_os("CARGO_MANIFEST_DIR") {
            command.current_dir(xtask);
        }
        let json = process::capture(&mut command)?;
        let metadata: Metadata =
            serde_json::from_str(&json).context("cannot read what cargo metadata printed")?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory })
    }

    /// `cargo` in the project's root, with the toolchain that runs xtask.
    pub fn cargo<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.root).args(words);
        for variable in OF_CARGO_RUN {
            command.env_remove(variable);
        }
        command
    }

    /// The compiler that cargo uses here.
    pub fn rustc(&self) -> Command {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.current_dir(&self.root);
        command
    }

    /// Builds packages of the workspace in the release profile. `features` are given as cargo's
    /// `--features` takes them. Cargo's own messages go to standard error.
    pub fn build_release(&self, packages: &[&str], features: &[&str]) -> Result<()> {
        let mut command = self.cargo(["build", "--release"]);
        for package in packages {
            command.args(["--package", package]);
        }
        for feature in features {
            command.args(["--features", feature]);
        }
        process::run(&mut command)
    }

    /// Builds `wasi-guard` as it is installed: programs that need no library and start faster. A
    /// build with [`Self::build_release`] puts dynamically linked ones in their place.
    pub fn build_product(&self) -> Result<()> {
        for program in PRODUCT {
            let words = ["rustc", "--release", "--package=wasi-guard", "--bin", program];
            let mut command = self.cargo(words);
            process::run(command.args(["--", "-C", "target-feature=+crt-static"]))?;
        }
        // Whoever runs it says that it is so.
        for program in self.product() {
            let libraries = vm::libraries(&program)?;
            ensure!(libraries.is_empty(), "{} needs {libraries:?}", program.display());
        }
        Ok(())
    }

    /// The programs of the product, as they were built last.
    pub fn product(&self) -> [PathBuf; 2] {
        PRODUCT.map(|program| self.release_program(program))
    }

    /// Copies the programs of the product to `name` and `name-worker` in the target directory, for
    /// they are built again with other features.
    ///
    /// # Errors
    /// If they are not there or cannot be copied.
    pub fn put_aside(&self, name: &str) -> Result<[PathBuf; 2]> {
        let [supervisor, worker] = PRODUCT;
        let copy = |program: &str, name: String| -> Result<PathBuf> {
            let aside = self.target.join(name);
            fs::copy(self.release_program(program), &aside)
                .with_context(|| format!("cannot put {program} aside as {}", aside.display()))?;
            Ok(aside)
        };
        let supervisor = copy(supervisor, name.to_owned())?;
        Ok([supervisor, copy(worker, format!("{name}-worker"))?])
    }

    /// A program that `build_release` or `build_product` made.
    pub fn release_program(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }
}

/// Supervisor and worker.
const PRODUCT: [&str; 2] = ["wasi-guard", "wasi-guard-worker"];

/// What `cargo run` sets for xtask. Passed on to another cargo it would make build scripts and
/// `option_env!` see another environment than in a build by hand, and so build things twice.
pub(crate) const OF_CARGO_RUN: [&str; 6] = [
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_RUST_VERSION",
    "LD_LIBRARY_PATH",
];

/// The cargo that runs xtask, else the one on PATH.
pub fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}
