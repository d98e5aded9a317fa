//! What the tasks need from the host, and how it gets there: Debian packages, installed as root.

use std::collections::HashSet;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// What a person wants to do. Rust and a C linker are needed for all of it and are not listed:
/// without them nobody gets here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Rebuild the BPF object from its source.
    Bpf,
    /// Boot virtual machines.
    Vm,
    /// Test on other file systems than those that every machine has.
    FileSystems,
    /// Compile guests, and the BPF objects that they load, from C.
    Guests,
    /// Fetch guests and tools that come as Python packages.
    Python,
    /// Run the fuzz targets.
    Fuzz,
    /// Run the tests that need no machine of their own.
    Unit,
}

struct Package {
    name: &'static str,
    task: Task,
    why: &'static str,
}

const fn package(task: Task, name: &'static str, why: &'static str) -> Package {
    Package { name, task, why }
}

const PACKAGES: [Package; 21] = [
    package(Task::Bpf, "rustc-web", "the rustc that has a core library for the BPF target"),
    package(Task::Bpf, "libstd-rust-web-dev-bpf", "that core library"),
    package(Task::Bpf, "llvm-22-dev", "bpf-linker is built against it"),
    package(Task::Bpf, "libpolly-22-dev", "bpf-linker links what llvm-22 lists"),
    package(Task::Bpf, "libzstd-dev", "bpf-linker links what llvm-22 lists"),
    package(Task::Bpf, "zlib1g-dev", "bpf-linker links what llvm-22 lists"),
    package(Task::Vm, "qemu-system-x86", "the virtual machine"),
    package(Task::Vm, "seabios", "its firmware"),
    package(Task::Vm, "busybox-static", "the shell and the tools inside it"),
    package(Task::Vm, "e2fsprogs", "makes its disks (mke2fs)"),
    package(Task::Vm, "kmod", "finds the kernel modules that it needs"),
    package(Task::Vm, "xz-utils", "unpacks these modules"),
    package(Task::FileSystems, "btrfs-progs", "makes a btrfs in the machine (mkfs.btrfs)"),
    package(Task::FileSystems, "xfsprogs", "makes an xfs in the machine (mkfs.xfs)"),
    package(Task::Guests, "clang-22", "compiles guests and BPF objects from C"),
    package(Task::Guests, "lld-22", "links them (wasm-ld)"),
    package(Task::Guests, "wasi-libc", "their C library"),
    package(Task::Guests, "libclang-rt-22-dev-wasm32", "their compiler runtime"),
    package(Task::Python, "python3-pip", "fetches ready-made guests and tools from PyPI"),
    package(Task::Fuzz, "g++", "compiles libFuzzer"),
    package(Task::Unit, "strace", "tells which system calls the workers need"),
];

/// Makes sure that everything for these tasks is installed: names what is missing and installs
/// it as root on Debian; elsewhere the error holds the command to type.
pub fn ensure(tasks: &[Task]) -> Result<()> {
    let wanted: Vec<_> = PACKAGES.iter().filter(|p| tasks.contains(&p.task)).collect();
    let installed = installed(wanted.iter().map(|p| p.name));
    let missing: Vec<_> = wanted.into_iter().filter(|p| !installed.contains(p.name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|p| p.name).collect();
    let list: String = missing.iter().map(|p| format!("  {:<26} {}\n", p.name, p.why)).collect();
    let command = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if !has_apt() {
        bail!(
            "this host lacks:\n{list}These are the names in Debian 12, where this installs them: \
             {command}\nThis host has no apt-get; install their like by hand or use a Debian 12."
        );
    }
    if !rustix::process::geteuid().is_root() {
        bail!("this host lacks:\n{list}Install them as root, then try again:\n  {command}");
    }
    eprintln!("This host lacks:\n{list}Installing: {command}");
    apt_get(&["update"])?;
    apt_get(&[&["install", "--yes", "--no-install-recommends"], &names[..]].concat())
}

/// Fetches the lists of packages anew (as root).
pub fn apt_update() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lists of packages are missing or old; run as root: apt-get update");
    }
    apt_get(&["update"])
}

/// Whether there is an apt-get.
pub fn has_apt() -> bool {
    Command::new("apt-get").arg("--version").output().is_ok_and(|run| run.status.success())
}

fn apt_get(words: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]).args(words);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    // Standard output belongs to the task, not to its preparation.
    command.stdout(std::io::stderr());
    process::run(&mut command)
}

fn installed<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<String> {
    // dpkg-query fails where one of the packages is unknown and still prints the others.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(names)
        .output();
    let Ok(output) = output else { return HashSet::new() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_listed_once() {
        let mut seen = HashSet::new();
        for package in &PACKAGES {
            assert!(seen.insert(package.name), "{} is listed twice", package.name);
        }
    }
}
