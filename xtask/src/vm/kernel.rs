//! Debian's cloud kernels: picked with apt, unpacked into the cache, never installed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{host, process};

/// The kernel series of Debian 12: its own and the newer one that its security archive carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// Linux 6.1, what a plain Debian 12 boots.
    V6_1,
    /// Linux 6.12.
    V6_12,
}

impl Series {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];

    fn number(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// What a package's name has in front of the changing part, and behind it.
    fn package_name(self) -> (&'static str, &'static str) {
        match self {
            Self::V6_1 => ("linux-image-6.1.0-", "-cloud-amd64"),
            Self::V6_12 => ("linux-image-6.12.", "+deb12-cloud-amd64"),
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

impl std::str::FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|series| series.number() == text)
            .with_context(|| format!("there is no kernel {text:?} here, only 6.1 and 6.12"))
    }
}

/// A kernel in the cache.
pub(super) struct Kernel {
    /// As `uname -r` prints it.
    pub(super) release: String,
    /// The folder of this kernel, also for what is made from it.
    pub(super) folder: PathBuf,
}

impl Kernel {
    /// What qemu boots.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.release))
    }
}

/// The newest kernel of the series: out of the cache, else from Debian. To move to a newer one
/// remove its folder from the cache.
pub(super) fn fetch(cache: &Path, series: Series) -> Result<Kernel> {
    let folder = cache.join("kernels").join(series.number());
    if !folder.exists() {
        download(&folder, series).with_context(|| format!("cannot get a kernel {series}"))?;
    }
    let release = fs::read_to_string(folder.join("release"))
        .with_context(|| format!("{} is broken: remove it", folder.display()))?;
    let kernel = Kernel { release, folder };
    if !kernel.image().exists() {
        bail!("{} is broken: remove it", kernel.folder.display());
    }
    Ok(kernel)
}

fn download(folder: &Path, series: Series) -> Result<()> {
    if !host::has_apt() {
        bail!("kernels come from Debian's packages, and this host has no apt-get");
    }
    let package = match newest(series)? {
        Some(package) => package,
        None => {
            host::apt_update()?;
            newest(series)?.with_context(|| {
                let (front, back) = series.package_name();
                format!("apt knows no package {front}*{back}; is this Debian 12 with security?")
            })?
        }
    };
    let parent = folder.parent().context("the cache has no parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    // Built aside and renamed, so that what stands in the cache is complete.
    let aside = tempfile::tempdir_in(parent).context("cannot create a folder in the cache")?;
    eprintln!("Fetching {package}");
    process::capture(
        Command::new("apt-get")
            // The download goes into a folder of the user, which apt's own user cannot enter.
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", &package])
            .current_dir(aside.path()),
    )?;
    let archive = fs::read_dir(aside.path())
        .and_then(|mut entries| entries.next().transpose())
        .context("cannot list the cache")?
        .context("apt-get download left no file")?
        .path();
    let unpacked = aside.path().join("unpacked");
    process::capture(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&unpacked))?;
    let release = package.trim_start_matches("linux-image-");
    fs::write(unpacked.join("release"), release).context("cannot write into the cache")?;
    // The package leaves this to its installation script.
    process::capture(Command::new(sbin("depmod")).arg("-b").arg(&unpacked).arg(release))?;
    fs::rename(&unpacked, folder)
        .with_context(|| format!("cannot move the kernel to {}", folder.display()))
}

/// The newest package of the series that apt could download.
fn newest(series: Series) -> Result<Option<String>> {
    let (front, back) = series.package_name();
    // Strict, as 'linux-image-6.1.0-56-cloud-amd64-dbg' and '-unsigned' exist too.
    let listed = process::capture(Command::new("apt-cache").args(["pkgnames", front]))?;
    Ok(listed
        .lines()
        .filter_map(|name| {
            let number = name.strip_prefix(front)?.strip_suffix(back)?;
            Some((number.parse::<u32>().ok()?, name.to_owned()))
        })
        .max()
        .map(|(_, name)| name))
}

/// A tool that Debian keeps in a folder which is not on every user's PATH.
pub fn sbin(tool: &str) -> PathBuf {
    ["/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(tool))
        .find(|path| path.exists())
        .unwrap_or_else(|| tool.into())
}
