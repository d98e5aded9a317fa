//! A seccomp list: TOML rows, checked, turned into what the filter library reads.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    BackendError, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule,
};
use serde::Deserialize;

use super::filters::{FilterError, Verdict};

/// The rows of one list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rows {
    /// Calls that are let through, if one of the call's rows matches.
    #[serde(default)]
    allow: Vec<Row>,
    /// Calls that get an errno other than EACCES, because the caller knows what to do then.
    #[serde(default)]
    answer: Vec<Answer>,
    /// Calls that are let through until the module is loaded.
    #[serde(default)]
    load: Vec<Row>,
    /// Calls that end the process.
    #[serde(default)]
    kill: Vec<Bare>,
}

/// What becomes of calls that no row lets through or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unlisted {
    /// The kernel denies them, and kills for those of the rows `kill`.
    Denied,
    /// The kernel asks the supervisor.
    Asked,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    syscall: String,
    /// Who needs it.
    reason: String,
    /// Why it is there although no test makes the call (`runtime/tests/worker/rows.rs`).
    #[serde(default)]
    unseen: Option<String>,
    /// Conditions that must all hold.
    #[serde(default)]
    args: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    syscall: String,
    reason: String,
    errno: Errno,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {
    syscall: String,
    reason: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Errno {
    #[serde(rename = "ENOSYS")]
    NoSys,
}

impl Errno {
    const fn number(self) -> u32 {
        match self {
            Self::NoSys => libc::ENOSYS as u32,
        }
    }
}

/// A condition on one argument.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    /// Position of the argument, from 0.
    index: u8,
    op: Operator,
    /// For `masked_eq`: the bits that are looked at.
    mask: Option<u64>,
    value: Operand,
    /// `dword` for arguments of 32 bits, whose upper half the kernel ignores.
    width: Width,
}

/// What an argument is compared with.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Operand {
    Number(u64),
    Process(Process),
}

/// A number that differs from process to process.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Process {
    /// The worker's process id, in its own pid namespace as in the calls that it makes.
    OwnPid,
}

/// Stands for the process's own id, which is not known yet; see the constant of this name where
/// filters are installed.
pub(crate) const OWN_PID: u32 = 0x7fff_0001;

impl Operand {
    fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Process(Process::OwnPid) => OWN_PID.into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Operator {
    Eq,
    MaskedEq,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Width {
    Dword,
    Qword,
}

/// Why a list is no good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// It is not TOML, or a row has a wrong key or value.
    #[error("the seccomp list cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// A row is wrong.
    #[error("the seccomp list's row for `{syscall}`: {problem}")]
    Row {
        /// The row's call.
        syscall: String,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Rows {
    /// Reads and checks a list.
    ///
    /// # Errors
    /// See [`ListError`].
    pub(crate) fn parse(text: &str) -> Result<Self, ListError> {
        let rows: Self = toml::from_str(text)?;
        rows.check()?;
        Ok(rows)
    }

    fn check(&self) -> Result<(), ListError> {
        let reasons = (self.allow.iter().map(|row| (&row.syscall, &row.reason)))
            .chain(self.answer.iter().map(|row| (&row.syscall, &row.reason)))
            .chain(self.load.iter().map(|row| (&row.syscall, &row.reason)))
            .chain(self.kill.iter().map(|row| (&row.syscall, &row.reason)));
        for (syscall, reason) in reasons {
            if reason.trim().is_empty() {
                return Err(wrong(syscall, "it gives no reason"));
            }
        }
        for row in self.allow.iter().chain(&self.load) {
            if row.unseen.as_ref().is_some_and(|why| why.trim().is_empty()) {
                return Err(wrong(&row.syscall, "it does not say why no test needs it"));
            }
        }
        let mut plain = BTreeSet::new();
        let mut conditional = BTreeSet::new();
        for row in &self.allow {
            let first = if row.args.is_empty() {
                plain.insert(&row.syscall)
            } else {
                conditional.insert(&row.syscall);
                true
            };
            if !first || (plain.contains(&row.syscall) && conditional.contains(&row.syscall)) {
                return Err(wrong(&row.syscall, "an earlier row makes it meaningless"));
            }
            for condition in &row.args {
                condition.check(&row.syscall)?;
            }
        }
        for row in &self.load {
            for condition in &row.args {
                condition.check(&row.syscall)?;
                if matches!(condition.value, Operand::Process(_)) {
                    // The supervisor compares, whose process is another one.
                    return Err(wrong(&row.syscall, "`value` of a load row is a number"));
                }
            }
        }
        let mut once = BTreeSet::new();
        let others = (self.answer.iter().map(|row| &row.syscall))
            .chain(self.kill.iter().map(|row| &row.syscall));
        // More of a call may be let through while loading than after it, or it is meaningless.
        let load: BTreeSet<_> = self.load.iter().map(|row| &row.syscall).collect();
        if let Some(syscall) = load.iter().find(|syscall| plain.contains(*syscall)) {
            return Err(wrong(syscall, "an earlier row makes it meaningless"));
        }
        for syscall in others {
            let allowed =
                plain.contains(syscall) || conditional.contains(syscall) || load.contains(syscall);
            if allowed || !once.insert(syscall) {
                return Err(wrong(syscall, "two rows contradict each other"));
            }
        }
        Ok(())
    }

    /// What becomes of the calls that rows name, by their numbers.
    ///
    /// # Errors
    /// If there is no such call, or the filter library does not accept a condition.
    pub(crate) fn verdicts(
        &self,
        unlisted: Unlisted,
    ) -> Result<BTreeMap<u32, Verdict>, FilterError> {
        let mut verdicts = BTreeMap::new();
        if unlisted == Unlisted::Denied {
            for row in &self.kill {
                let verdict = Verdict::Always(SeccompAction::KillProcess.into());
                verdicts.insert(number(&row.syscall)?, verdict);
            }
        }
        for row in &self.answer {
            let verdict = Verdict::Always(SeccompAction::Errno(row.errno.number()).into());
            verdicts.insert(number(&row.syscall)?, verdict);
        }
        for row in &self.allow {
            let call = number(&row.syscall)?;
            if row.args.is_empty() {
                verdicts.insert(call, Verdict::Always(SeccompAction::Allow.into()));
                continue;
            }
            let rule = row.rule()?;
            // No call stands in rows of two kinds (`check`).
            if let Verdict::If(rules) =
                verdicts.entry(call).or_insert_with(|| Verdict::If(Vec::new()))
            {
                rules.push(rule);
            }
        }
        Ok(verdicts)
    }

    /// Numbers of the calls that are let through until the module is loaded, with the conditions
    /// of a row each: place of the argument, bits that are looked at, and how they are to be.
    ///
    /// # Errors
    /// If there is no such call.
    pub(crate) fn load_numbers(&self) -> Result<Vec<Loading>, ListError> {
        let conditions = |row: &Row| {
            row.args.iter().map(|it| (it.index, it.looked_at(), it.value.number())).collect()
        };
        let row = |row: &Row| Ok((number(&row.syscall)? as usize, conditions(row)));
        self.load.iter().map(row).collect()
    }

    /// Numbers of the calls that end the process.
    ///
    /// # Errors
    /// If there is no such call.
    pub(crate) fn kill_numbers(&self) -> Result<Vec<usize>, ListError> {
        self.kill.iter().map(|row| Ok(number(&row.syscall)? as usize)).collect()
    }
}

/// A `load` row.
type Loading = (usize, Vec<(u8, u64, u64)>);

fn number(syscall: &str) -> Result<u32, ListError> {
    let call: syscalls::Sysno =
        syscall.parse().map_err(|()| wrong(syscall, "there is no such system call"))?;
    Ok(call as u32)
}

impl Row {
    fn rule(&self) -> Result<SeccompRule, BackendError> {
        SeccompRule::new(self.args.iter().map(Condition::built).collect::<Result<_, _>>()?)
    }
}

impl Condition {
    fn check(&self, syscall: &str) -> Result<(), ListError> {
        if self.index > 5 {
            return Err(wrong(syscall, "a call has the arguments 0 to 5"));
        }
        if self.mask.is_some() != (self.op == Operator::MaskedEq) {
            return Err(wrong(syscall, "`mask` belongs to `masked_eq`"));
        }
        if self.mask.is_some_and(|mask| self.value.number() & !mask != 0) {
            return Err(wrong(syscall, "`value` has bits that `mask` hides"));
        }
        if matches!(self.width, Width::Dword) && u32::try_from(self.value.number()).is_err() {
            return Err(wrong(syscall, "`value` does not fit into a dword"));
        }
        Ok(())
    }

    /// The bits that are compared.
    fn looked_at(&self) -> u64 {
        let cut = match self.width {
            Width::Dword => u64::from(u32::MAX),
            Width::Qword => u64::MAX,
        };
        self.mask.unwrap_or(u64::MAX) & cut
    }

    #[cfg(test)]
    fn holds(&self, arguments: &[u64; 6]) -> bool {
        let argument = arguments.get(usize::from(self.index));
        argument.is_some_and(|argument| argument & self.looked_at() == self.value.number())
    }

    fn built(&self) -> Result<SeccompCondition, BackendError> {
        let width = match self.width {
            Width::Dword => SeccompCmpArgLen::Dword,
            Width::Qword => SeccompCmpArgLen::Qword,
        };
        let op = self.mask.map_or(SeccompCmpOp::Eq, SeccompCmpOp::MaskedEq);
        SeccompCondition::new(self.index, width, op, self.value.number())
    }
}

fn wrong(syscall: &str, problem: &'static str) -> ListError {
    ListError::Row { syscall: syscall.to_owned(), problem }
}

#[cfg(test)]
mod bent;
#[cfg(test)]
mod random;

#[cfg(test)]
mod tests {
    use super::super::List;
    use super::*;

    #[test]
    fn malformed_rows_are_errors() {
        for (text, problem) in [
            ("[[allow]]\nsyscall = \"read\"\n", "missing field `reason`"),
            ("[[allow]]\nsyscall = \"read\"\nreason = \" \"\n", "no reason"),
            (
                "[[allow]]\nsyscall = \"read\"\nreason = \"x\"\nunseen = \"\"\n",
                "why no test needs it",
            ),
            ("[[allow]]\nsyscall = \"read\"\nreason = \"x\"\nwhy = 1\n", "unknown field"),
            ("[[deny]]\nsyscall = \"read\"\nreason = \"x\"\n", "unknown field"),
            (
                "[[answer]]\nsyscall = \"read\"\nreason = \"x\"\nerrno = \"EPERM\"\n",
                "unknown variant `EPERM`",
            ),
            (
                "[[allow]]\nsyscall = \"read\"\nreason = \"x\"\n\
                 [[allow]]\nsyscall = \"read\"\nreason = \"x\"\n",
                "meaningless",
            ),
            (
                "[[allow]]\nsyscall = \"bpf\"\nreason = \"x\"\n\
                 [[kill]]\nsyscall = \"bpf\"\nreason = \"x\"\n",
                "contradict",
            ),
            (&with("index = 6, op = \"eq\", value = 1, width = \"dword\""), "0 to 5"),
            (&with("index = 0, op = \"masked_eq\", value = 1, width = \"dword\""), "`mask`"),
            (
                &with("index = 0, op = \"masked_eq\", mask = 1, value = 2, width = \"dword\""),
                "hides",
            ),
            (&with("index = 0, op = \"eq\", value = 0x1_0000_0000, width = \"dword\""), "fit"),
            (&with("index = 0, op = \"lt\", value = 1, width = \"dword\""), "unknown variant"),
            (&with("index = 0, op = \"eq\", value = \"init\", width = \"dword\""), "did not match"),
        ] {
            let error = Rows::parse(text).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}\n{error}");
        }
    }

    fn with(condition: &str) -> String {
        format!("[[allow]]\nsyscall = \"x\"\nreason = \"x\"\nargs = [{{ {condition} }}]\n")
    }

    #[test]
    fn no_list_lets_new_executable_files_or_processes_through() {
        for list in [List::Run, List::Compile, List::Parse] {
            let rows = Rows::parse(list.text()).unwrap();
            for call in ["execve", "execveat", "fork", "vfork", "open", "bpf", "ptrace", "seccomp"]
            {
                assert!(rows.allow.iter().all(|row| row.syscall != call), "{list:?} {call}");
            }
            for call in ["clone", "mmap", "mprotect", "prctl", "ioctl", "socket", "tgkill"] {
                let bare = rows.allow.iter().any(|row| row.syscall == call && row.args.is_empty());
                assert!(!bare, "{list:?} lets {call} through with any argument");
            }
        }
    }

    #[test]
    fn who_runs_no_guest_gets_no_call_that_takes_a_path_or_makes_a_socket() {
        let texts = [List::Compile, List::Parse].map(List::text);
        let rows = texts.map(|text| Rows::parse(text).unwrap());
        for row in rows.iter().flat_map(|it| &it.allow) {
            let name = row.syscall.as_str();
            let path = ["open", "stat", "mkdir", "unlink", "rename", "link", "chdir", "access"];
            let hit = path.iter().any(|part| name.contains(part)) && name != "fstat";
            assert!(!hit && !name.starts_with("socket"), "{name}");
        }
    }
}
