//! Everything that can be decided before anything is made.

use std::{
    collections::BTreeMap,
    net::{IpAddr, ToSocketAddrs as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, statat};
use wasi_guard_enforce::cgroup;
use wasi_guard_policy::{Policy, Table, load, render_all};

use super::{Error, Grants, Job};
use crate::cli::PolicyFile;
use crate::protocol::Options;

/// A directory that the guest gets.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Opened with `O_PATH`: a place, not a way to read it.
    pub(crate) fd: OwnedFd,
    pub(crate) guest: String,
}

/// What will be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    /// The file's name, or `(command line)`.
    pub(crate) policy_name: String,
    /// blake3 of the policy's text, in hexadecimal.
    pub(crate) policy_digest: String,
    pub(crate) table: Table,
    pub(crate) directories: Vec<Directory>,
    pub(crate) audit_file: Option<PathBuf>,
    /// The module's path as the caller gave it.
    pub(crate) module: String,
    pub(crate) limits: cgroup::Limits,
    pub(crate) ring_bytes: u32,
    pub(crate) time: Option<Duration>,
    pub(crate) fuel: Option<u64>,
    /// Rendered warnings about the policy.
    pub(crate) warnings: Vec<String>,
}

impl Plan {
    pub(crate) fn new(job: &Job, options: &Options) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let (mut policy, name, digest, base) = match &job.grants {
            Grants::Policy(path) => {
                let (policy, digest) = read_policy(path, &mut warnings)?;
                let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
                (policy, path.display().to_string(), digest, base)
            }
            Grants::Options { dirs } => {
                let grants = wasi_guard_policy::Grants {
                    dirs: dirs.clone(),
                    tcp: options.inherit_network(),
                    udp: options.inherit_network(),
                    limits: wasi_guard_policy::Limits::default(),
                };
                let policy = Policy::from_grants(&grants);
                let digest = blake3::hash(format!("{grants:?}").as_bytes());
                (policy, "(command line)".into(), digest.to_hex().to_string(), PathBuf::new())
            }
        };
        if let Some(mode) = job.mode {
            policy.mode = mode;
        }
        let directories = open_directories(&policy, &base, &job.grants)?;
        let addresses = resolve(&policy)?;
        let table = wasi_guard_policy::compile(&policy, &addresses)
            .map_err(|error| Error::step("compile the policy", error))?;
        let limits = limits(&policy);
        let lesser = |a: Option<Duration>, b: Option<Duration>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let time = lesser(policy.limits.time, options.timeout());
        let fuel = match (policy.limits.fuel.filter(|fuel| *fuel > 0), options.fuel()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Ok(Self {
            table,
            directories,
            audit_file: policy.audit.file.as_ref().map(|file| base.join(file)),
            module: job.module.display().to_string(),
            limits,
            ring_bytes: u32::try_from(policy.audit.ring).unwrap_or(u32::MAX),
            time,
            fuel,
            warnings,
            policy_name: name,
            policy_digest: digest,
            policy,
        })
    }
}

fn read_policy(path: &Path, warnings: &mut Vec<String>) -> Result<(Policy, String), Error> {
    let PolicyFile { source, digest, .. } = PolicyFile::read(path)?;
    let digest = digest.to_hex().to_string();
    match load(&source) {
        Ok((policy, found)) => {
            if !found.is_empty() {
                warnings.push(render_all(&found, &source));
            }
            Ok((policy, digest))
        }
        Err(found) => Err(Error::rendered(render_all(&found, &source))),
    }
}

/// Opens every preopen, or says what is wrong with each that cannot be.
fn open_directories(
    policy: &Policy,
    base: &Path,
    grants: &Grants,
) -> Result<Vec<Directory>, Error> {
    // A path in a policy must be the directory itself, because a link can be bent after the
    // policy was reviewed. A path on the command line is taken as wasmtime takes it.
    let follow = matches!(grants, Grants::Options { .. });
    let mut directories = Vec::new();
    let mut problems = Vec::new();
    for preopen in &policy.preopens {
        let path = base.join(&preopen.host);
        match open_directory(&path, follow) {
            Ok(fd) => directories.push(Directory { fd, guest: preopen.guest.clone() }),
            Err(problem) => {
                let line = preopen.line.map_or(String::new(), |line| format!(" (line {line})"));
                problems.push(format!("{}{line}: {problem}", path.display()));
            }
        }
    }
    if problems.is_empty() {
        return Ok(directories);
    }
    let mut error = Error::new("open the preopens' host directories").hint(
        "`host` is relative to the policy file and must be an existing directory, not a link",
    );
    error.causes = problems;
    Err(error)
}

/// Opens a directory of the host; `follow`: also if a symbolic link leads to it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn open_directory(path: &Path, follow: bool) -> Result<OwnedFd, String> {
    let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | nofollow;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(|error| {
        let link = !follow
            && statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        if link {
            "is a symbolic link; name the directory that it leads to".into()
        } else {
            std::io::Error::from(error).to_string()
        }
    })?;
    if rustix::fs::fstatfs(&fd).is_ok_and(|fs| fs.f_type == OVERLAYFS_MAGIC) {
        return Err(
            "is on overlayfs, on which this version cannot tell the guest's own files from \
                    those below them; use a directory of another file system"
                .into(),
        );
    }
    Ok(fd)
}

/// `OVERLAYFS_SUPER_MAGIC` (uapi/linux/magic.h).
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// The limits that the guest's cgroup has.
pub(super) fn limits(policy: &Policy) -> cgroup::Limits {
    cgroup::Limits {
        memory: policy.limits.memory,
        cpu: policy.limits.cpu,
        pids: policy.limits.pids,
    }
}

/// Addresses of the DNS names in the policy, looked up once, before it comes into force.
///
/// # Errors
/// If a name has none.
pub(super) fn resolve(policy: &Policy) -> Result<BTreeMap<String, Vec<IpAddr>>, Error> {
    let mut addresses = BTreeMap::new();
    for name in policy.host_names() {
        let found: Vec<IpAddr> = (name, 0)
            .to_socket_addrs()
            .map_err(|error| {
                Error::step(format!("look up {name}, which [network] names"), error).hint(
                    "names become addresses when the policy comes into force; use an address if there is no DNS",
                )
            })?
            .map(|address| address.ip())
            .collect();
        addresses.insert(name.to_owned(), found);
    }
    Ok(addresses)
}
