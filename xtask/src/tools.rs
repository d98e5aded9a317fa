//! Tools from crates.io that the tasks need, each in one version, built into target/tools.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::project::{Project, cargo};

/// A program that `cargo install` builds.
pub struct Tool {
    /// Package and program.
    pub name: &'static str,
    /// The version that the project is made for.
    pub version: &'static str,
    /// More for `cargo install`.
    pub options: &'static [&'static str],
    /// Variables for its build.
    pub variables: &'static [(&'static str, &'static str)],
}

/// A tool is built on every fresh machine and runs for seconds: its build is what costs.
const QUICK: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
];

impl Tool {
    /// The program, built at the first time.
    pub fn install(&self, project: &Project) -> Result<PathBuf> {
        let tools = project.target.join("tools");
        let program = tools.join("bin").join(self.name);
        let wanted = format!("{} {}", self.name, self.version);
        if program.exists()
            && process::capture(Command::new(&program).arg("--version"))?.trim() == wanted
        {
            return Ok(program);
        }
        eprintln!("Building {wanted} (once, some minutes)");
        let build = tools.join("build");
        let mut command = Command::new(cargo());
        command
            .args(["install", "--locked", "--force", "--version", self.version])
            .args(self.options)
            .arg("--root")
            .arg(&tools)
            .arg("--target-dir")
            .arg(&build)
            .arg(self.name)
            .envs(QUICK.iter().copied())
            .envs(self.variables.iter().copied())
            .current_dir(&project.root);
        process::run(&mut command)?;
        // Half a gigabyte that nobody needs again.
        let _ = fs::remove_dir_all(build);
        Ok(program)
    }
}
