//! A policy as the rest of the program sees it: checked, with every rule numbered.
//!
//! Made by [`crate::load`] from text or by [`Policy::from_grants`] from the command line; read
//! by [`mod@crate::compile`], [`crate::evaluate`], [`mod@crate::explain`] and the supervisor.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use wasi_guard_abi::operation::right;

use crate::bpf::Bpf;
use crate::network::NetworkRule;
use crate::pattern::{PathPattern, Pattern};

/// A checked policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Whether denials are errors or only recorded.
    pub mode: Mode,
    /// Directories that the guest sees, in the policy's order. At most
    /// [`wasi_guard_abi::table::MAX_PREOPENS`].
    pub preopens: Vec<Preopen>,
    /// Network rules, in the policy's order.
    pub network: Vec<NetworkRule>,
    /// Bounds on what the guest may use up.
    pub limits: Limits,
    /// Where records go.
    pub audit: Audit,
    /// What the guest may load through the `wasm_bpf` imports; `None` is nothing.
    pub bpf: Option<Bpf>,
    /// Every rule; number `n` is at `n - 1`.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// The rule with this number. Numbers count from 1 in the order of the text; 0 is no rule.
    pub fn rule(&self, number: RuleNumber) -> Option<&Rule> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.rules.get(index)
    }

    /// Whether every name of a file, in whichever preopen, gives the same rights to the file
    /// ([`right::OF_FILE`]), as a look at the rules tells; `false` if that is not plain.
    pub fn same_rights_everywhere(&self) -> bool {
        let mut first = None;
        self.preopens.iter().all(|preopen| {
            let mut rights = 0;
            for (right, rules) in preopen.grants() {
                if right & right::OF_FILE == 0 || rules.is_empty() {
                    continue;
                }
                let everything = |rule: &PathRule| {
                    rule.pattern.alternatives().iter().any(PathPattern::is_everything)
                };
                if !rules.iter().any(everything) {
                    return false;
                }
                rights |= right;
            }
            preopen.deny.is_empty() && *first.get_or_insert(rights) == rights
        })
    }

    /// The policy as it would be without one of its rules, to find out what that rule changes. The
    /// numbers of the others stay.
    #[must_use]
    pub fn without(&self, number: RuleNumber) -> Self {
        let mut policy = self.clone();
        for preopen in &mut policy.preopens {
            for list in [
                &mut preopen.read,
                &mut preopen.write,
                &mut preopen.create,
                &mut preopen.delete,
                &mut preopen.deny,
            ] {
                list.retain(|rule| rule.number != number);
            }
        }
        policy.network.retain(|rule| rule.number != number);
        policy
    }

    /// The host names that network rules mention and that somebody has to resolve before
    /// [`crate::compile::compile`], each once.
    pub fn host_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.network.iter().filter_map(|rule| rule.host.name()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Number of a rule: from 1, in the order in which rules appear in the policy; 0 is no rule.
/// The same number stands in tables, records and messages.
pub type RuleNumber = u32;

/// What a denial means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A denial is an error for the guest.
    #[default]
    Enforce,
    /// A denial is recorded and let through.
    Audit,
}

impl Mode {
    /// The word in policies and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a preopen is on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PreopenKind {
    /// A directory, or nobody has looked yet.
    #[default]
    Directory,
    /// A single file.
    File,
    /// A directory that wasi-guard makes for single files, and that the policy does not name.
    Holder,
}

/// One directory of the host that the guest sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Preopen {
    /// Its name for the guest, as written.
    pub guest: String,
    /// The directory on the host, as written; a relative one is relative to the directory of
    /// the policy file (for [`Policy::from_grants`]: to the current directory).
    pub host: PathBuf,
    /// What that is; told by [`Policy::with_files`].
    pub kind: PreopenKind,
    /// Names that may be opened for reading.
    pub read: Vec<PathRule>,
    /// Names that may be written to.
    pub write: Vec<PathRule>,
    /// Names that may come into being.
    pub create: Vec<PathRule>,
    /// Names that may be removed.
    pub delete: Vec<PathRule>,
    /// Names that are denied with everything below them.
    pub deny: Vec<PathRule>,
    /// Line of the policy at which it starts; `None` if it came from the command line.
    pub line: Option<u32>,
}

impl Preopen {
    /// The four lists that grant something, each with its right (a bit of
    /// [`wasi_guard_abi::operation::right`]).
    pub fn grants(&self) -> [(u16, &[PathRule]); 4] {
        [
            (right::READ, &self.read),
            (right::WRITE, &self.write),
            (right::CREATE, &self.create),
            (right::DELETE, &self.delete),
        ]
    }

    /// The union of the rights that some rule grants somewhere below; a mask of
    /// [`wasi_guard_abi::operation::right`] without STAT.
    pub fn rights_somewhere(&self) -> u16 {
        self.grants()
            .iter()
            .filter(|(_, rules)| !rules.is_empty())
            .fold(0, |all, (bit, _)| all | bit)
    }
}

/// A pattern in one of a preopen's lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRule {
    /// Its number.
    pub number: RuleNumber,
    /// What it matches.
    pub pattern: Pattern,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleKind {
    /// An entry of `read`.
    Read,
    /// An entry of `write`.
    Write,
    /// An entry of `create`.
    Create,
    /// An entry of `delete`.
    Delete,
    /// An entry of `deny`.
    Deny,
    /// An entry of `connect`.
    Connect,
    /// An entry of `bind`.
    Bind,
}

impl RuleKind {
    /// The key of the policy under which the rule stands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Deny => "deny",
            Self::Connect => "connect",
            Self::Bind => "bind",
        }
    }
}

impl fmt::Display for RuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One rule, as messages and records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its number.
    pub number: RuleNumber,
    /// What it does.
    pub kind: RuleKind,
    /// The preopen that it belongs to (index into [`Policy::preopens`]), if it is about names.
    pub preopen: Option<usize>,
    /// The pattern or address as written.
    pub text: String,
    /// Where it stands.
    pub origin: Origin,
}

impl Rule {
    /// Line of the policy, if it stands in one.
    pub fn line(&self) -> Option<u32> {
        match self.origin {
            Origin::Policy { line, .. } => Some(line),
            Origin::CommandLine(_) | Origin::Implied(_) => None,
        }
    }
}

/// `deny "secret/**" (line 12)`, or `read "**" (--dir ./data::/data)`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\" ({})", self.kind, self.text, self.origin)
    }
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the text of a policy; line and column from 1.
    Policy {
        /// Line.
        line: u32,
        /// Column in characters.
        column: u32,
    },
    /// On the command line: the option as the user could have written it.
    CommandLine(String),
    /// Nowhere: it follows from something else, which this names.
    Implied(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { line, .. } => write!(f, "line {line}"),
            Self::CommandLine(text) | Self::Implied(text) => f.write_str(text),
        }
    }
}

/// Bounds on what the guest may use up; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Memory of the worker in bytes (cgroup `memory.max`).
    pub memory: Option<u64>,
    /// Processors, as a share of one (cgroup `cpu.max`): 0.5 is half of one.
    pub cpu: Option<f64>,
    /// Threads and processes (cgroup `pids.max`).
    pub pids: Option<u64>,
    /// Descriptors of the guest (RLIMIT_NOFILE of the worker, which has some of its own).
    pub open_files: Option<u64>,
    /// Reading and writing of the disks on which the preopens lie (cgroup `io.max`).
    pub disk: DiskLimits,
    /// Wall-clock time of the guest.
    pub time: Option<Duration>,
    /// Units of wasmtime's fuel.
    pub fuel: Option<u64>,
}

/// Bounds for each disk; `None` is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskLimits {
    /// Bytes read in a second (`rbps`).
    pub read_bps: Option<u64>,
    /// Bytes written in a second (`wbps`).
    pub write_bps: Option<u64>,
    /// Reads in a second (`riops`).
    pub read_iops: Option<u64>,
    /// Writes in a second (`wiops`).
    pub write_iops: Option<u64>,
}

impl DiskLimits {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether writing is bounded.
    #[must_use]
    pub fn of_writing(&self) -> bool {
        self.write_bps.or(self.write_iops).is_some()
    }
}

/// Where records go and how many can wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// File for records as written (relative to the policy file); `None` is standard error.
    pub file: Option<PathBuf>,
    /// Size in bytes of the ring buffer through which the kernel hands out records. A power of
    /// two from 4 KiB to 16 MiB.
    pub ring: u64,
}

/// Size of the ring buffer where the policy names none: some fifty records, in a guest's 64 KiB of
/// the kernel's memory.
pub const DEFAULT_RING: u64 = 16 * 1024;

impl Default for Audit {
    fn default() -> Self {
        Self { file: None, ring: DEFAULT_RING }
    }
}

/// The addresses of the host names in network rules, by name. A name that is missing or has no
/// address matches nothing.
pub type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// The words for a mask of [`wasi_guard_abi::operation::right`], as in `read, stat`; `none` for
/// an empty one.
pub fn rights_text(mask: u16) -> String {
    let words = [
        (right::READ, "read"),
        (right::WRITE, "write"),
        (right::CREATE, "create"),
        (right::DELETE, "delete"),
        (right::STAT, "stat"),
    ];
    let held: Vec<&str> =
        words.iter().filter(|(bit, _)| mask & bit != 0).map(|(_, word)| *word).collect();
    if held.is_empty() { "none".into() } else { held.join(", ") }
}
