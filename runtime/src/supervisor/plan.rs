//! Everything that can be decided before anything is made.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode as FileMode, OFlags, fstat, openat};
use wasi_guard_enforce::cgroup;
use wasi_guard_policy::{Mode, Policy, Table, load, render_all};

use super::{Error, Grants, Job, disks};
use crate::cli::PolicyFile;
use crate::names;
use crate::protocol::Options;

/// The root of a preopen on the host: a directory, or a single file.
#[derive(Debug)]
pub(crate) struct Root {
    /// Opened with `O_PATH`: a place, not a way to read it.
    pub(crate) fd: OwnedFd,
    pub(crate) guest: String,
    /// A single file.
    pub(crate) file: bool,
    /// On overlayfs.
    pub(crate) overlay: bool,
}

/// Tells the table whether a preopen is on overlayfs.
pub(super) fn set_overlay(table: &mut Table, roots: &[Root]) {
    table.set_overlay(roots.iter().any(|root| root.overlay));
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
    /// In the order of the policy's preopens; those of kind `Holder` come after them.
    pub(crate) roots: Vec<Root>,
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
    /// Whether the worker gets a network namespace of its own: it may not reach anything, and what
    /// it tries is not to be let through either.
    pub(crate) fn without_network(&self) -> bool {
        self.policy.mode == Mode::Enforce && self.policy.network.is_empty()
    }

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
        let roots = open_roots(&policy, &base, &job.grants)?;
        let files: Vec<usize> = (0..roots.len()).filter(|index| roots[*index].file).collect();
        let policy = policy.with_files(&files).map_err(Error::of_files)?;
        let addresses = resolve(&policy)?;
        let mut table = wasi_guard_policy::compile(&policy, &addresses)
            .map_err(|error| Error::step("compile the policy", error))?;
        set_overlay(&mut table, &roots);
        let disks = disks::below(&roots, policy.limits.disk)?;
        let limits = cgroup::Limits { disks, ..limits(&policy) };
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
            roots,
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
fn open_roots(policy: &Policy, base: &Path, grants: &Grants) -> Result<Vec<Root>, Error> {
    // A path in a policy must be the thing itself, because a link can be bent after the policy
    // was reviewed. A path on the command line is taken as wasmtime takes it.
    let by_options = matches!(grants, Grants::Options { .. });
    let mut roots = Vec::new();
    let mut problems = Vec::new();
    for preopen in &policy.preopens {
        let path = base.join(&preopen.host);
        match open_root(&path, &preopen.guest, by_options) {
            Ok(root) => roots.push(root),
            Err(problem) => {
                let line = preopen.line.map_or(String::new(), |line| format!(" (line {line})"));
                problems.push(format!("{}{line}: {problem}", path.display()));
            }
        }
    }
    if problems.is_empty() {
        return Ok(roots);
    }
    let mut error = if by_options {
        Error::new("open the directories of --dir").hint("--dir takes existing directories")
    } else {
        Error::new("open what the preopens are on the host").hint(HOST_HINT)
    };
    error.causes = problems;
    Err(error)
}

/// What `host` has to be.
pub(crate) const HOST_HINT: &str =
    "`host` is relative to the policy file and must be an existing directory or file, not a link";

/// Opens the root of a preopen. `by_options`: a directory, also if a symbolic link leads to it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn open_root(path: &Path, guest: &str, by_options: bool) -> Result<Root, String> {
    let told = |error: rustix::io::Errno| std::io::Error::from(error).to_string();
    let nofollow = if by_options { OFlags::empty() } else { OFlags::NOFOLLOW };
    // With O_PATH nothing happens to a fifo or a device.
    let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow;
    let fd = openat(CWD, path, flags, FileMode::empty()).map_err(told)?;
    let kind = FileType::from_raw_mode(fstat(&fd).map_err(told)?.st_mode);
    if let Some(problem) = unfit(kind) {
        return Err(problem.into());
    }
    let file = kind == FileType::RegularFile;
    if file && by_options {
        return Err("is a file; a single file takes a policy with a preopen of its own".into());
    }
    let overlay = is_on_overlay(&fd);
    Ok(Root { fd, guest: guest.into(), file, overlay })
}

/// Why something of this kind is no preopen, if it is none.
pub(crate) fn unfit(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::Directory | FileType::RegularFile => None,
        FileType::Symlink => Some("is a symbolic link; name what it leads to"),
        FileType::Fifo => Some("is a fifo, neither a directory nor a regular file"),
        FileType::Socket => Some("is a socket, neither a directory nor a regular file"),
        FileType::CharacterDevice | FileType::BlockDevice => {
            Some("is a device, neither a directory nor a regular file")
        }
        FileType::Unknown => Some("is neither a directory nor a regular file"),
    }
}

/// Is this on overlayfs?
fn is_on_overlay(fd: &OwnedFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == OVERLAYFS_MAGIC)
}

/// `OVERLAYFS_SUPER_MAGIC` (uapi/linux/magic.h).
const OVERLAYFS_MAGIC: i64 = 0x794c_7630;

/// The limits that the guest's cgroup has, but for those of disks.
pub(super) fn limits(policy: &Policy) -> cgroup::Limits {
    cgroup::Limits {
        memory: policy.limits.memory,
        cpu: policy.limits.cpu,
        pids: policy.limits.pids,
        disks: cgroup::Disks::default(),
    }
}

/// Addresses of the DNS names in the policy, looked up once, before it comes into force.
///
/// # Errors
/// If a name has none.
pub(super) fn resolve(policy: &Policy) -> Result<BTreeMap<String, Vec<IpAddr>>, Error> {
    let mut addresses = BTreeMap::new();
    for name in policy.host_names() {
        let found = names::addresses(name).map_err(|error| {
            Error::step(format!("look up {name}, which [network] names"), error).hint(
                "names become addresses when the policy comes into force; use an address if there is no DNS",
            )
        })?;
        addresses.insert(name.to_owned(), found);
    }
    Ok(addresses)
}
