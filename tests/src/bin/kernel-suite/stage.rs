//! A guest in force, an actor in it, an actor outside of it, and files for both.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::fs::OFlags;
use wasi_guard_abi::operation::{Operation, Reason};
use wasi_guard_enforce::{cgroup::Limits, guest::Guest, records::Denial};
use wasi_guard_policy::{
    Mode, Policy, PreopenKind, Source, Table,
    evaluate::{self, Verdict},
};
use wasi_guard_tests::actor::own_program;
use wasi_guard_tests::{
    actor::{Actor, describe},
    operation::{Answer, Arg, BASE, Do},
};

use crate::{
    check::told,
    expect::{Ground, Judgement, Why},
    lab::Lab,
};

/// What a stage is made from.
pub(crate) struct Setup {
    base: PathBuf,
    text: String,
    tree: &'static [&'static str],
    /// Bytes of the guest's ring buffer.
    pub(crate) ring: u32,
    /// The policy is in force from the start.
    pub(crate) armed: bool,
    /// The files of the tree are made anew before each step.
    pub(crate) fresh: bool,
    /// Directories for single files, in the order in which the policy needs them.
    pub(crate) holders: Vec<PathBuf>,
    /// Further descriptors for the actors, with the numbers of their handles.
    pub(crate) given: Vec<(OwnedFd, u8)>,
}

impl Setup {
    /// `tree`: `"dir/"`, `"file"`, `"link -> target"`, relative to `base`, parents made as
    /// needed. `policy`: TOML without the line `version = 1`.
    pub(crate) fn new(base: PathBuf, policy: &str, tree: &'static [&'static str]) -> Self {
        let text = format!("version = 1\n{policy}");
        Self {
            base,
            text,
            tree,
            ring: 64 * 1024,
            armed: true,
            fresh: true,
            holders: Vec::new(),
            given: Vec::new(),
        }
    }

    /// Creates the guest, the files and the actors.
    pub(crate) fn start(self, lab: &Lab) -> Result<Stage> {
        let policy = on_host(load(&self.text)?, &self.base)?;
        let named = policy.preopens.iter().filter(|it| it.kind != PreopenKind::Holder);
        let mut roots: Vec<PathBuf> = named.map(|it| self.base.join(&it.host)).collect();
        roots.extend(self.holders);
        let mut handles = vec![(open_path(&self.base)?, BASE)];
        for (number, root) in roots.iter().enumerate() {
            if !root.is_file() {
                fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
            }
            handles.push((open_path(root)?, number as u8));
        }
        handles.extend(self.given);
        let mut guest = Guest::create(&lab.build, &Limits::default(), self.ring, &own_program()?)
            .map_err(describe)
            .context("create a guest")?;
        let given = borrowed(&handles);
        let inside = Actor::inside(&mut guest, &given)?;
        let outside = Actor::outside(&given)?;
        drop(given);
        let mut stage = Stage {
            base: self.base,
            roots,
            text: self.text,
            policy,
            guest,
            inside,
            outside,
            handles,
            tree: self.tree,
            fresh: self.fresh,
        };
        if self.armed {
            stage.arm()?;
        }
        Ok(stage)
    }
}

/// Parses a policy; warnings are errors, because a case that warns tests something else. Audit
/// mode alone warns by itself.
pub(crate) fn load(text: &str) -> Result<Policy> {
    let source = Source::new("policy.toml", text);
    match wasi_guard_policy::load(&source) {
        Ok((policy, warnings)) if warnings.len() <= usize::from(policy.mode == Mode::Audit) => {
            Ok(policy)
        }
        Ok((_, problems)) | Err(problems) => {
            let lines: Vec<String> =
                problems.iter().map(|problem| format!("{problem:?}")).collect();
            bail!("the policy of the case: {}\n{text}", lines.join("; "))
        }
    }
}

/// The policy as it is where some preopens are files.
fn on_host(policy: Policy, base: &Path) -> Result<Policy> {
    let is_file = |index: &usize| base.join(&policy.preopens[*index].host).is_file();
    let files: Vec<usize> = (0..policy.preopens.len()).filter(is_file).collect();
    policy.with_files(&files).map_err(|errors| anyhow!("{errors:?}"))
}

/// A handle as a supervisor would make it.
pub(crate) fn open_path(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .with_context(|| format!("open {}", path.display()))
}

fn is_on_overlay(fd: &OwnedFd) -> bool {
    /// `OVERLAYFS_SUPER_MAGIC` (uapi/linux/magic.h).
    const OVERLAYFS_MAGIC: i64 = 0x794c_7630;
    rustix::fs::fstatfs(fd).is_ok_and(|fs| fs.f_type == OVERLAYFS_MAGIC)
}

fn borrowed(handles: &[(OwnedFd, u8)]) -> Vec<(BorrowedFd<'_>, u8)> {
    handles.iter().map(|(fd, number)| (fd.as_fd(), *number)).collect()
}

/// See the module.
pub(crate) struct Stage {
    /// Everything lies below.
    pub(crate) base: PathBuf,
    /// Directories of the preopens.
    pub(crate) roots: Vec<PathBuf>,
    pub(crate) text: String,
    pub(crate) policy: Policy,
    pub(crate) guest: Guest,
    /// The guarded actor.
    pub(crate) inside: Actor,
    /// The actor that is not.
    pub(crate) outside: Actor,
    handles: Vec<(OwnedFd, u8)>,
    tree: &'static [&'static str],
    fresh: bool,
}

/// How a name looks: type and mode, size, links.
type Look = (u32, u64, u64);

impl Stage {
    /// Puts the policy into force (again).
    pub(crate) fn arm(&mut self) -> Result<()> {
        let table = self.table()?;
        self.guest.arm(&table).map_err(describe).context("arm")?;
        self.records().map(drop)
    }

    /// The compiled policy, with the marks of the roots.
    pub(crate) fn table(&mut self) -> Result<Table> {
        let mut table = wasi_guard_policy::compile(&self.policy, &Default::default())?;
        let overlay = self.handles.iter().any(|(fd, _)| is_on_overlay(fd));
        table.set_overlay(overlay);
        for (fd, number) in &self.handles {
            if usize::from(*number) < self.roots.len() {
                self.guest
                    .root(&mut table, usize::from(*number), fd.as_fd())
                    .map_err(describe)
                    .context("mark a root")?;
            }
        }
        Ok(table)
    }

    /// Another policy for the same preopens, in force at once.
    pub(crate) fn replace_policy(&mut self, policy: &str) -> Result<()> {
        self.text = format!("version = 1\n{policy}");
        self.policy = load(&self.text)?;
        ensure!(self.policy.preopens.len() == self.roots.len(), "as many preopens as before");
        self.arm()
    }

    /// A handle for the actors, to start another one with.
    pub(crate) fn handles(&self) -> Vec<(BorrowedFd<'_>, u8)> {
        borrowed(&self.handles)
    }

    /// The guarded actor gives up its capabilities for good, as every worker does.
    pub(crate) fn drop_capabilities(&self) -> Result<()> {
        /// `_LINUX_CAPABILITY_VERSION_3` (uapi/linux/capability.h).
        const VERSION: u64 = 0x2008_0522;
        let header = Arg::Buffer(VERSION.to_ne_bytes().to_vec());
        let call = Do::Raw(libc::SYS_capset, vec![header, Arg::Buffer(vec![0; 24])]);
        let answer = self.inside.ask(&call)?;
        ensure!(matches!(answer, Answer::Done(_)), "capset: {answer:?}");
        Ok(())
    }

    /// The files are no longer made anew before each step.
    pub(crate) fn keep(&mut self) {
        self.fresh = false;
    }

    /// Makes the files as the tree has them.
    pub(crate) fn reset(&self) -> Result<()> {
        if !self.fresh {
            return Ok(());
        }
        // The preopens themselves stay: they carry the marks.
        self.clear(&self.base)?;
        for line in self.tree {
            let (path, target) = match line.split_once(" -> ") {
                Some((path, target)) => (path, Some(target)),
                None => (*line, None),
            };
            let path = self.base.join(path);
            let parent = path.parent().unwrap_or(&self.base);
            fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
            match target {
                Some(target) => std::os::unix::fs::symlink(target, &path),
                None if line.ends_with('/') => fs::create_dir_all(&path),
                None => fs::write(&path, format!("content of {line}")),
            }
            .with_context(|| format!("make {}", path.display()))?;
        }
        Ok(())
    }

    fn clear(&self, directory: &Path) -> Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let is_directory = path.symlink_metadata()?.is_dir();
            if self.roots.iter().any(|root| root.starts_with(&path)) {
                self.clear(&path)?;
            } else if is_directory {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn look(&self) -> Result<BTreeMap<PathBuf, Look>> {
        let mut seen = BTreeMap::new();
        let mut work = vec![self.base.clone()];
        while let Some(path) = work.pop() {
            let meta = path.symlink_metadata()?;
            if meta.is_dir() {
                for entry in fs::read_dir(&path)? {
                    work.push(entry?.path());
                }
            }
            seen.insert(path, (meta.mode(), meta.size(), meta.nlink()));
        }
        Ok(seen)
    }

    /// All records that wait.
    pub(crate) fn records(&mut self) -> Result<Vec<Denial>> {
        let records = self.guest.records().ok_or_else(|| anyhow!("no ring buffer"))?;
        let mut list = Vec::new();
        for record in records.by_ref() {
            list.push(record.map_err(|bytes| anyhow!("a record that is none: {bytes:?}"))?);
        }
        Ok(list)
    }

    pub(crate) fn ground(&self, leads_to: Option<&str>) -> Ground<'_> {
        Ground {
            base: &self.base,
            roots: &self.roots,
            leads_to: leads_to.map(|path| self.base.join(path)),
        }
    }

    /// The guest may do it: it works inside, no record is written, and the oracle agrees.
    /// Returns what the operation answers.
    pub(crate) fn allowed(&mut self, operation: &Do) -> Result<Vec<u8>> {
        self.allowed_via(operation, None)
    }

    /// As [`Stage::allowed`], where links or mounts lead the first name to `leads_to`, a path
    /// below the base.
    pub(crate) fn allowed_via(
        &mut self,
        operation: &Do,
        leads_to: Option<&str>,
    ) -> Result<Vec<u8>> {
        self.reset()?;
        self.allowed_now(operation, leads_to).with_context(|| format!("{operation:?}"))
    }

    fn allowed_now(&mut self, operation: &Do, leads_to: Option<&str>) -> Result<Vec<u8>> {
        for judgement in self.ground(leads_to).judgements(operation)? {
            let verdict = evaluate::evaluate(&self.policy, &judgement.attempt);
            ensure!(verdict.allowed, "the oracle denies {:?}: {verdict:?}", judgement.attempt);
        }
        let before = self.guest.counts();
        let answer = self.inside.ask(operation)?;
        let records = self.records()?;
        let Answer::Done(bytes) = answer else {
            bail!("denied inside: {answer:?}, records {}", told(&records));
        };
        ensure!(records.is_empty(), "a record for what is allowed: {}", told(&records));
        ensure!(self.guest.counts() == before, "allowed, but counted as a denial");
        Ok(bytes)
    }

    /// The guest may not do it, in three steps: it works outside; inside it is denied with
    /// EACCES, changes nothing and leaves one record that says what the oracle says; it works
    /// outside again.
    pub(crate) fn denied(&mut self, operation: &Do, why: Why) -> Result<()> {
        self.denied_via(operation, None, why)
    }

    /// As [`Stage::denied`], where links or mounts lead the first name to `leads_to`, a path
    /// below the base.
    pub(crate) fn denied_via(
        &mut self,
        operation: &Do,
        leads_to: Option<&str>,
        why: Why,
    ) -> Result<()> {
        self.three_steps(operation, leads_to, why)
            .with_context(|| format!("{operation:?} should be denied ({why:?})"))
    }

    fn three_steps(&mut self, operation: &Do, leads_to: Option<&str>, why: Why) -> Result<()> {
        self.reset()?;
        self.works_outside(operation).context("before")?;
        self.reset()?;
        let (judgement, verdict) = self.deciding(operation, leads_to)?;
        ensure!(
            verdict.reason == Some(why.reason()),
            "the oracle says {verdict:?} of {:?}",
            judgement.attempt
        );
        let before = self.look()?;
        let counted = self.guest.counts();
        let answer = self.inside.ask(operation)?;
        let records = self.records()?;
        ensure!(
            answer == Answer::Failed(judgement.call, libc::EACCES),
            "inside: {answer:?} instead of EACCES from call {}, records {}",
            judgement.call,
            told(&records)
        );
        ensure!(self.look()? == before, "denied, but something changed");
        let [record] = &records[..] else { bail!("one record, not {}", told(&records)) };
        self.check(record, &judgement, &verdict, why)
            .with_context(|| format!("{} for {verdict:?}", told(std::slice::from_ref(record))))?;
        ensure!(!record.audit, "the record says that it was let through");
        let counts = self.guest.counts();
        ensure!(counts.denied == counted.denied + 1, "counted {counts:?} after {counted:?}");
        ensure!(counts.lost == counted.lost && counts.errors == counted.errors, "{counts:?}");
        self.works_outside(operation).context("after")
    }

    /// The guest may not do it, but the policy only watches: it works, and a record says so.
    pub(crate) fn watched(&mut self, operation: &Do, why: Why) -> Result<()> {
        self.reset()?;
        let (judgement, verdict) = self.deciding(operation, None)?;
        let answer = self.inside.ask(operation)?;
        let records = self.records()?;
        ensure!(matches!(answer, Answer::Done(_)), "{operation:?} in audit mode: {answer:?}");
        let Some(record) = records.first() else { bail!("no record of {operation:?}") };
        ensure!(
            records.iter().all(|record| record.audit),
            "not marked as watched: {}",
            told(&records)
        );
        self.check(record, &judgement, &verdict, why)
    }

    /// No guest may do it, whatever its policy, and the oracle has no word for it.
    pub(crate) fn never(&mut self, operation: &Do, recorded: Operation) -> Result<()> {
        self.reset()?;
        self.works_outside(operation)?;
        self.reset()?;
        let before = self.look()?;
        let answer = self.inside.ask(operation)?;
        let records = self.records()?;
        ensure!(
            answer == Answer::Failed(0, libc::EACCES),
            "inside {operation:?}: {answer:?}, records {}",
            told(&records)
        );
        ensure!(self.look()? == before, "denied, but something changed");
        let as_told =
            |record: &Denial| (record.operation, record.reason) == (recorded, Reason::Never);
        ensure!(records.len() == 1 && as_told(&records[0]), "records {}", told(&records));
        self.works_outside(operation).context("after")
    }

    fn works_outside(&mut self, operation: &Do) -> Result<()> {
        if let Do::Exec(_) = operation {
            return self.executes_outside(operation);
        }
        match self.outside.ask(operation)? {
            Answer::Done(_) => Ok(()),
            other => bail!("outside it does not even work: {other:?}"),
        }
    }

    fn executes_outside(&mut self, operation: &Do) -> Result<()> {
        let once = Actor::outside(&self.handles())?;
        once.tell(operation)?;
        let ended = once.wait()?;
        ensure!(ended == wasi_guard_enforce::spawn::Ended::Exited(0), "outside: {ended:?}");
        Ok(())
    }

    /// What the oracle denies first.
    fn deciding(&self, operation: &Do, leads_to: Option<&str>) -> Result<(Judgement, Verdict)> {
        for judgement in self.ground(leads_to).judgements(operation)? {
            let verdict = evaluate::evaluate(&self.policy, &judgement.attempt);
            if !verdict.allowed {
                return Ok((judgement, verdict));
            }
        }
        bail!("the oracle allows it")
    }
}

/// A server that answers no one at an address of the loopback interface.
pub(crate) fn listener(address: SocketAddr) -> Result<std::net::TcpListener> {
    std::net::TcpListener::bind(address).with_context(|| format!("listen at {address}"))
}
