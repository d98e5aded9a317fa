//! The emulator: the host's qemu, or out of Debian's backports if the host's is too old, unpacked
//! into the cache and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// From 8.1 on qemu does not go on with code that the kernel has patched meanwhile ("Oops: int3"),
/// and it does not translate code anew for each address at which it meets it, which makes machines
/// in which processes come and go several times as fast.
const WANTED: (u32, u32) = (8, 1);
const PROGRAM: &str = "qemu-system-x86_64";
/// Its libraries are those of Debian 12's own qemu, which is installed.
const PACKAGES: [&str; 4] =
    ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
/// The release whose own qemu is too old.
const RELEASE: &str = "bookworm";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Where it finds its firmware, below the place to which it was unpacked.
const FIRMWARE: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

/// A qemu that can be started.
#[derive(Debug, Clone)]
pub(super) struct Emulator {
    program: PathBuf,
    firmware: Vec<PathBuf>,
}

impl Emulator {
    /// The host's if it is new enough, else the one in `cache`, which is fetched at the first time.
    /// If that fails the host's will do, and it says so.
    pub(super) fn find(cache: &Path) -> Result<Self> {
        let host = Self { program: PROGRAM.into(), firmware: Vec::new() };
        let version = host.version()?;
        if version >= WANTED {
            return Ok(host);
        }
        match Self::fetched(&cache.join("qemu")) {
            Ok(fetched) => Ok(fetched),
            Err(error) => {
                eprintln!(
                    "The machines are slow, and may crash for no fault of theirs: this host has \
                     qemu {}.{}, and no later one can be had: {error:#}",
                    version.0, version.1
                );
                Ok(host)
            }
        }
    }

    fn fetched(folder: &Path) -> Result<Self> {
        if !folder.exists() {
            download(folder)?;
        }
        let this = Self {
            program: folder.join("usr/bin").join(PROGRAM),
            firmware: FIRMWARE.map(|place| folder.join(place)).into(),
        };
        let version = this.version()?;
        ensure!(version >= WANTED, "backports have qemu {}.{}", version.0, version.1);
        Ok(this)
    }

    /// What begins a command line.
    pub(super) fn words(&self) -> Vec<PathBuf> {
        let firmware = self.firmware.iter().flat_map(|place| ["-L".into(), place.clone()]);
        std::iter::once(self.program.clone()).chain(firmware).collect()
    }

    /// Major and minor.
    fn version(&self) -> Result<(u32, u32)> {
        let text = process::capture(Command::new(&self.program).arg("--version"))?;
        version(&text).with_context(|| format!("no version of qemu: {text:?}"))
    }
}

/// "QEMU emulator version 7.2.22 (Debian ...)".
fn version(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.split_once(" version ")?;
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// With lists of its own: the host's apt goes on to know nothing of backports.
fn download(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("the cache has no parent folder")?;
    // Built aside and renamed, so that what stands in the cache is complete.
    let aside = tempfile::tempdir_in(parent).context("cannot create a folder in the cache")?;
    let place = |name: &str| aside.path().join(name);
    for name in ["lists/partial", "archives/partial", "packages"] {
        fs::create_dir_all(place(name)).context("cannot create a folder in the cache")?;
    }
    let line = format!("deb [signed-by={KEYRING}] {} {RELEASE}-backports main\n", mirror()?);
    fs::write(place("sources.list"), line).context("cannot write into the cache")?;
    let apt = || {
        let mut command = Command::new("apt-get");
        // What is fetched goes into folders of the user, which apt's own user cannot enter.
        command.args([
            "-q",
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Dir::Etc::SourceParts=/dev/null",
        ]);
        for (setting, name) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache::Archives", "archives"),
        ] {
            command.arg("-o").arg(format!("{setting}={}", place(name).display()));
        }
        for cache in ["pkgcache", "srcpkgcache"] {
            command.arg("-o").arg(format!("Dir::Cache::{cache}="));
        }
        command.current_dir(place("packages"));
        command
    };
    eprintln!("Fetching qemu from Debian's backports");
    process::capture(apt().arg("update"))?;
    process::capture(apt().arg("download").args(PACKAGES))?;
    let unpacked = place("unpacked");
    let named = || format!("cannot list {}", place("packages").display());
    for archive in fs::read_dir(place("packages")).with_context(named)? {
        let archive = archive.with_context(named)?.path();
        process::capture(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&unpacked))?;
    }
    fs::rename(&unpacked, folder)
        .with_context(|| format!("cannot move qemu to {}", folder.display()))
}

/// Where this host gets its packages from: backports are beside them.
fn mirror() -> Result<String> {
    let listed = process::capture(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Component: main",
        &format!("Codename: {RELEASE}"),
    ]))?;
    let first = listed.lines().next();
    first.map(str::to_owned).with_context(|| format!("this is no Debian {RELEASE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n"), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.2\n"), Some((10, 0)));
        assert_eq!(version("qemu version ten"), None);
        assert_eq!(version(""), None);
        assert!((7, 2) < WANTED && (10, 0) > WANTED);
    }
}
