//! Is another policy one that a running guest can have? Runs in a thread of its own.

use std::{
    ffi::OsString,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::PathBuf,
    time::Duration,
};

use rustix::fs::fstat;
use wasi_guard_enforce::{cgroup, guest::LinkedFile};
use wasi_guard_policy::{
    MAX_SOURCE_BYTES, Mode, Policy, Preopen, Source, Table, bpf::Bpf, quantity::size_text,
    render_all,
};

use super::{
    super::{links, plan},
    Error, Job, Plan,
    generation::numbered,
};
use crate::{
    cli::PolicyFile,
    protocol::{Request, read_sealed},
};

/// What a reload leaves as it is: set up at the start, in the worker or around it.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    /// `--mode`, which beats every policy's.
    asked_mode: Option<Mode>,
    mode: Mode,
    directories: Vec<Directory>,
    memory: Option<u64>,
    time: Option<Duration>,
    fuel: Option<u64>,
    open_files: Option<u64>,
    disks: cgroup::Disks,
    ring: u64,
    /// What the guest's broker was told.
    bpf: Option<Bpf>,
    /// The worker has a network namespace of its own, in which there is nothing.
    without_network: bool,
}

/// A preopen that the guest has: the worker holds a descriptor of it, or of its holder.
#[derive(Clone, Debug)]
struct Directory {
    guest: String,
    /// Device and inode number; `None` for a holder of single files.
    identity: Option<(u64, u64)>,
    /// The id of its mark.
    root: u64,
}

/// A policy to look at.
#[derive(Debug)]
pub(super) enum Offer {
    /// In this file.
    File(PathBuf),
    /// In this sealed memfd.
    Sent(Request, OwnedFd),
}

/// A policy that can come into force.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) policy: Policy,
    pub(super) name: String,
    pub(super) digest: String,
    /// With the roots, and with marked rule numbers if `marked`.
    pub(super) table: Table,
    pub(super) marked: bool,
    /// Files with several names that differ in their rights.
    pub(super) linked: Vec<LinkedFile>,
    pub(super) limits: cgroup::Limits,
    pub(super) audit_file: Option<PathBuf>,
    /// Rendered.
    pub(super) warnings: String,
}

impl Fixed {
    /// `table` is the one with which the guest starts.
    pub(super) fn new(job: &Job, plan: &Plan, table: &Table) -> Result<Self, Error> {
        let mut directories = Vec::new();
        for (index, preopen) in plan.policy.preopens.iter().enumerate() {
            let identity = plan
                .roots
                .get(index)
                .map(|root| identity(&root.fd))
                .transpose()
                .map_err(|error| Error::step("look at what a preopen is on the host", error))?;
            let root = table.root(index);
            directories.push(Directory { guest: preopen.guest.clone(), identity, root });
        }
        Ok(Self {
            asked_mode: job.mode,
            mode: plan.policy.mode,
            directories,
            memory: plan.policy.limits.memory,
            time: plan.policy.limits.time,
            fuel: plan.policy.limits.fuel,
            open_files: plan.policy.limits.open_files,
            disks: plan.limits.disks.clone(),
            ring: plan.policy.audit.ring,
            bpf: plan.policy.bpf.clone(),
            without_network: plan.without_network(),
        })
    }
}

fn identity(fd: &OwnedFd) -> std::io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Reads, checks, resolves and compiles a policy.
///
/// # Errors
/// All that is wrong with it, or all keys that a reload cannot change.
pub(super) fn check(offer: Offer, fixed: &Fixed, marked: bool) -> Result<Checked, Error> {
    let file = read(offer)?;
    let (policy, warnings) = file.load_or_refuse()?;
    let mut policy = file.on_host(policy)?;
    if let Some(mode) = fixed.asked_mode {
        policy.mode = mode;
    }
    let mut changes = changes(&policy, fixed);
    let mut roots = Vec::new();
    for (preopen, directory) in policy.preopens.iter().zip(&fixed.directories) {
        if let Some(identity) = directory.identity
            && preopen.guest == directory.guest
        {
            match open_root(&file, preopen, identity) {
                Ok(found) => roots.push(found),
                Err(change) => changes.push(change),
            }
        }
    }
    if !changes.is_empty() {
        let mut error = Error::new("reload the policy: it changes what is fixed at the start")
            .hint("end the guest and start it anew with this policy");
        error.causes = changes;
        return Err(error);
    }
    let addresses = plan::resolve(&policy)?;
    let mut table = wasi_guard_policy::compile(&numbered(&policy, marked), &addresses)
        .map_err(|error| Error::step("compile the policy", error))?;
    plan::set_overlay(&mut table, &roots);
    for (index, directory) in fixed.directories.iter().enumerate() {
        table
            .set_root(index, directory.root)
            .map_err(|error| Error::step("write a preopen's root into the table", error))?;
    }
    let linked = links::search(&policy, &table, &roots)?;
    Ok(Checked {
        table,
        linked,
        marked,
        limits: cgroup::Limits { disks: fixed.disks.clone(), ..plan::limits(&policy) },
        audit_file: policy.audit.file.as_ref().map(|path| file.resolve(path)),
        warnings: render_all(&warnings, &file.source),
        digest: file.digest.to_hex().to_string(),
        name: file.source.name,
        policy,
    })
}

fn read(offer: Offer) -> Result<PolicyFile, Error> {
    let (request, text) = match offer {
        Offer::File(path) => return PolicyFile::read(&path),
        Offer::Sent(request, text) => (request, text),
    };
    let bytes = read_sealed(text, MAX_SOURCE_BYTES)
        .map_err(|error| Error::step("read the policy's text", error))?;
    let directory = PathBuf::from(OsString::from_vec(request.directory));
    if !directory.is_absolute() {
        return Err(Error::new("find the policy's directory: its path is not absolute"));
    }
    let digest = blake3::hash(&bytes);
    Ok(PolicyFile { source: Source::new(request.name, bytes), directory, digest })
}

/// What the policy changes that cannot be changed, each with its key.
fn changes(policy: &Policy, fixed: &Fixed) -> Vec<String> {
    let list = |names: Vec<&str>| if names.is_empty() { "none".into() } else { names.join(", ") };
    let time = |time: Option<Duration>| time.map_or("none".into(), |time| format!("{time:?}"));
    let count = |count: Option<u64>| count.map_or("none".into(), |count| count.to_string());
    let fuel = |fuel: Option<u64>| count(fuel.filter(|fuel| *fuel > 0));
    let compared = [
        ("mode", fixed.mode.to_string(), policy.mode.to_string()),
        (
            "[[preopen]] guest",
            list(fixed.directories.iter().map(|it| it.guest.as_str()).collect()),
            list(policy.preopens.iter().map(|it| it.guest.as_str()).collect()),
        ),
        ("[limits] time", time(fixed.time), time(policy.limits.time)),
        ("[limits] fuel", fuel(fixed.fuel), fuel(policy.limits.fuel)),
        ("[limits] open_files", count(fixed.open_files), count(policy.limits.open_files)),
        ("[limits] of disks", fixed.disks.limits.to_string(), policy.limits.disk.to_string()),
        ("[audit] ring", size_text(fixed.ring), size_text(policy.audit.ring)),
    ];
    let mut found: Vec<String> = compared
        .into_iter()
        .filter(|(_, before, now)| before != now)
        .map(|(key, before, now)| format!("{key}: {before} at the start, {now} now"))
        .collect();
    if fixed.bpf != policy.bpf {
        found.push("[bpf]: not as at the start; what is loaded may rest on it".to_owned());
    }
    if fixed.without_network && !policy.network.is_empty() {
        found.push(
            "[network]: none at the start, some now; a guest without network has a network namespace of its own"
                .to_owned(),
        );
    }
    // The runtime bounds the guest's own memory by the limit of the start, so more than that would
    // be a promise that nobody keeps.
    if let Some(start) = fixed.memory
        && policy.limits.memory.is_none_or(|now| now > start)
    {
        let now = policy.limits.memory.map_or("none".into(), size_text);
        let start = size_text(start);
        found.push(format!(
            "[limits] memory: {start} at the start, {now} now; it can become less, not more"
        ));
    }
    found
}

/// The root of a preopen, or why it is not the one that the guest has.
fn open_root(file: &PolicyFile, preopen: &Preopen, has: (u64, u64)) -> Result<plan::Root, String> {
    let path = file.resolve(&preopen.host);
    let line = preopen.line.map_or(String::new(), |line| format!(" (line {line})"));
    let key = format!("[[preopen]] host of {}{line}: {}", preopen.guest, path.display());
    let root = plan::open_root(&path, &preopen.guest, false)
        .map_err(|problem| format!("{key}: {problem}"))?;
    let what = if root.file { "file" } else { "directory" };
    match identity(&root.fd) {
        Ok(found) if found == has => Ok(root),
        Ok(_) => Err(format!("{key} is not the {what} that the guest has")),
        Err(error) => Err(format!("{key}: {error}")),
    }
}

#[cfg(test)]
mod tests;
