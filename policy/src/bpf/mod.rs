//! `[bpf]`: what a guest may load into the kernel through the `wasm_bpf` imports, and what it may
//! attach it to.
//!
//! Made by [`crate::load`]; asked by the broker, once for each program of an object that a guest
//! wants loaded and once for each attachment.

pub mod helpers;
mod kind;
mod list;
mod point;
mod profile;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use crate::pattern::Pattern;

pub use kind::ProgramKind;
pub use list::{AttachList, COUNTERS};
pub use point::AttachPoint;
pub use profile::Profile;

/// Most entries of one list of `[bpf]`. The broker asks about each of them for each attachment.
pub const MAX_ENTRIES: usize = 1024;

/// What a guest may load.
#[derive(Clone, Debug, PartialEq)]
pub struct Bpf {
    /// Whose events programs may see.
    pub scope: Scope,
    /// Kinds of programs.
    pub programs: BTreeSet<ProgramKind>,
    /// Tracepoints, as `category/name`.
    pub tracepoints: Vec<Pattern>,
    /// Tracepoints by their name alone, for `raw_tracepoint` and `tp_btf`.
    pub raw_tracepoints: Vec<Pattern>,
    /// Functions of the kernel, for `kprobe`, `kretprobe`, `fentry` and `fexit`.
    pub functions: Vec<Pattern>,
    /// Functions of programs and libraries: the file's path, and the function's name.
    pub uprobes: Vec<Uprobe>,
    /// Counters of `perf_event`: `cpu-clock`, `task-clock`, `page-faults` and so on.
    pub perf_events: Vec<Pattern>,
    /// Cgroups, as paths below the root of the hierarchy.
    pub cgroups: Vec<Pattern>,
    /// Network interfaces.
    pub interfaces: Vec<Pattern>,
    /// Hooks of `lsm`.
    pub lsm_hooks: Vec<Pattern>,
    /// Helper functions that programs may call beside those of [`helpers::is_default`], by number.
    pub helpers: BTreeSet<u32>,
    /// Most programs that are loaded at once.
    pub max_programs: u32,
    /// Most maps that there are at once, those of `.rodata`, `.data` and `.bss` included.
    pub max_maps: u32,
    /// Most bytes that these maps may take, by the sizes that they declare.
    pub map_bytes: u64,
    /// Most instructions of one program.
    pub max_instructions: u32,
}

/// Nothing, within the bounds that hold where the policy names none.
impl Default for Bpf {
    fn default() -> Self {
        Self {
            scope: Scope::Guest,
            programs: BTreeSet::new(),
            tracepoints: Vec::new(),
            raw_tracepoints: Vec::new(),
            functions: Vec::new(),
            uprobes: Vec::new(),
            perf_events: Vec::new(),
            cgroups: Vec::new(),
            interfaces: Vec::new(),
            lsm_hooks: Vec::new(),
            helpers: BTreeSet::new(),
            max_programs: 16,
            max_maps: 16,
            map_bytes: 16 << 20,
            max_instructions: 65_536,
        }
    }
}

/// Whose events programs may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The guest's own: only programs that the kernel runs for one cgroup, attached to the guest's,
    /// and without the helper functions of [`helpers::needs_host`].
    ///
    /// Helper functions are not all that reads: programs also follow typed pointers, from variables
    /// of the kernel (`BPF_PSEUDO_BTF_ID`) on, and can give pointers away. The kernel lets them do
    /// neither if who loads them is without `CAP_PERFMON`, which none of these kinds needs.
    #[default]
    Guest,
    /// Everybody's on the host. Such programs can read all memory.
    Host,
}

impl Scope {
    /// Every one.
    pub const EVERY: [Self; 2] = [Self::Guest, Self::Host];

    /// The word in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Host => "host",
        }
    }
}

/// Functions of programs and libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uprobe {
    /// The file's absolute path, without the slash in front.
    pub path: Pattern,
    /// The function's symbol.
    pub symbol: Pattern,
}

/// As a policy would write it.
impl fmt::Display for Uprobe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}:{}", self.path, self.symbol)
    }
}

/// Why something was refused: what of the policy would have to be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key of `[bpf]`.
    pub key: &'static str,
    /// What the key does not list, as a policy would write it.
    pub wanted: String,
}

/// ``` `functions` does not list "vfs_read" ```
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            "scope" => write!(f, "`scope` is not \"{}\"", self.wanted),
            key => write!(f, "`{key}` does not list \"{}\"", self.wanted),
        }
    }
}

impl Bpf {
    /// May programs of this kind be loaded?
    ///
    /// # Errors
    /// What the policy lacks.
    pub fn permits_program(&self, kind: ProgramKind) -> Result<(), Refusal> {
        permitted(self.programs.contains(&kind), "programs", kind.name())?;
        permitted(self.scope == Scope::Host || kind.runs_for_a_cgroup(), "scope", "host")
    }

    /// May a program of this kind be loaded and attached there?
    ///
    /// # Errors
    /// What the policy lacks.
    pub fn permits_attach(&self, kind: ProgramKind, point: &AttachPoint) -> Result<(), Refusal> {
        self.permits_program(kind)?;
        if *point == AttachPoint::OwnCgroup && kind.runs_for_a_cgroup() {
            return Ok(());
        }
        let list = kind.list();
        if list == AttachList::Cgroups {
            permitted(self.scope == Scope::Host, "scope", "host")?;
        }
        // A point of another list is none to which the kernel attaches such a program.
        let listed = list == point.list() && self.lists(point);
        permitted(listed, list.name(), point.to_string())
    }

    /// May programs call the helper function with this number?
    ///
    /// # Errors
    /// What the policy lacks.
    pub fn permits_helper(&self, id: u32) -> Result<(), Refusal> {
        let granted = self.helpers.contains(&id) && helpers::is_grantable(id);
        let name = helpers::name(id).map_or_else(|| format!("number {id}"), str::to_owned);
        permitted(helpers::is_default(id) || granted, "helpers", name)?;
        permitted(self.scope == Scope::Host || !helpers::needs_host(id), "scope", "host")
    }

    /// The entries of a list, as a policy would write them.
    pub fn entries(&self, list: AttachList) -> Vec<String> {
        match self.patterns(list) {
            Some(patterns) => patterns.iter().map(Pattern::to_string).collect(),
            None => self.uprobes.iter().map(Uprobe::to_string).collect(),
        }
    }

    /// Whether the list that is about such points has one that matches.
    fn lists(&self, point: &AttachPoint) -> bool {
        if let AttachPoint::Uprobe { path, symbol } = point {
            let below = path.strip_prefix('/');
            let matches =
                |rule: &Uprobe, path| rule.path.matches(path) && rule.symbol.matches(symbol);
            return below.is_some_and(|path| self.uprobes.iter().any(|rule| matches(rule, path)));
        }
        let text = point.to_string();
        let patterns = self.patterns(point.list());
        patterns.is_some_and(|patterns| patterns.iter().any(|pattern| pattern.matches(&text)))
    }

    /// `None` for [`AttachList::Uprobes`], whose entries are two patterns.
    fn patterns(&self, list: AttachList) -> Option<&Vec<Pattern>> {
        match list {
            AttachList::Tracepoints => Some(&self.tracepoints),
            AttachList::RawTracepoints => Some(&self.raw_tracepoints),
            AttachList::Functions => Some(&self.functions),
            AttachList::Uprobes => None,
            AttachList::PerfEvents => Some(&self.perf_events),
            AttachList::Cgroups => Some(&self.cgroups),
            AttachList::Interfaces => Some(&self.interfaces),
            AttachList::LsmHooks => Some(&self.lsm_hooks),
        }
    }

    /// `None` for [`AttachList::Uprobes`], whose entries are two patterns.
    pub(crate) fn patterns_mut(&mut self, list: AttachList) -> Option<&mut Vec<Pattern>> {
        match list {
            AttachList::Tracepoints => Some(&mut self.tracepoints),
            AttachList::RawTracepoints => Some(&mut self.raw_tracepoints),
            AttachList::Functions => Some(&mut self.functions),
            AttachList::Uprobes => None,
            AttachList::PerfEvents => Some(&mut self.perf_events),
            AttachList::Cgroups => Some(&mut self.cgroups),
            AttachList::Interfaces => Some(&mut self.interfaces),
            AttachList::LsmHooks => Some(&mut self.lsm_hooks),
        }
    }
}

fn permitted(is: bool, key: &'static str, wanted: impl Into<String>) -> Result<(), Refusal> {
    if is { Ok(()) } else { Err(Refusal { key, wanted: wanted.into() }) }
}
