//! From the rows of a list to a filter. The library itself contains the result: build.rs does this.
//!
//! The filter finds a call's number by halving, not row by row as the filter library's own do:
//! while the kernel takes a filter in, it runs it for each number that a call may have
//! (`seccomp_cache_prepare`, kernel/seccomp.c), and that took longer than all else of hardening.
//! Conditions on arguments are the library's code.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use super::list::{ListError, Rows, Unlisted};

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_RET | BPF_K`, and of `BPF_JMP`: `BPF_JA` and
/// `BPF_JGE | BPF_K` (uapi/linux/bpf_common.h).
pub(crate) const LOAD: u16 = 0x20;
pub(crate) const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const IF_AT_LEAST: u16 = 0x35;

/// From here on numbers are those of the x32 interface (`__X32_SYSCALL_BIT`, asm/unistd.h), which
/// has the architecture of the others, or nobody's.
const X32: u32 = 0x4000_0000;

/// Why a list is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// A row is wrong.
    #[error(transparent)]
    List(#[from] ListError),
    /// The filter library does not accept it.
    #[error("the filter library does not accept the list: {0}")]
    Library(#[from] BackendError),
}

/// What becomes of a call, by its number.
pub(crate) enum Verdict {
    /// The same with any arguments (`SECCOMP_RET_*`).
    Always(u32),
    /// It is let through if one of the rules matches.
    If(Vec<SeccompRule>),
}

/// The filter of a list. Where a row names the process itself, [`super::list::OWN_PID`] stands for
/// its id.
///
/// # Errors
/// See [`FilterError`].
pub(crate) fn program(rows: &Rows, unlisted: Unlisted) -> Result<BpfProgram, FilterError> {
    let otherwise = match unlisted {
        Unlisted::Denied => SeccompAction::Errno(libc::EACCES as u32).into(),
        // The filter library has no word for it.
        Unlisted::Asked => libc::SECCOMP_RET_USER_NOTIF,
    };
    let mut program = architecture()?;
    // `seccomp_data.nr` (uapi/linux/seccomp.h).
    program.push(step(LOAD, 0));
    program.extend(halve(&ranges(rows.verdicts(unlisted)?, otherwise)));
    Ok(program)
}

/// Ends the process at calls of another architecture, whose numbers mean other calls.
fn architecture() -> Result<BpfProgram, BackendError> {
    // A filter without rules is this, and its answer to all calls.
    let (mismatch, matched) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let filter = SeccompFilter::new(BTreeMap::new(), mismatch, matched, TargetArch::x86_64)?;
    let mut program: BpfProgram = filter.try_into()?;
    program.pop();
    Ok(program)
}

/// Code for the numbers from one on, up to the next range's. No code leaves its end.
pub(crate) type Range = (u32, BpfProgram);

/// Numbers that no row names are `otherwise`; from [`X32`] on they end the process.
fn ranges(verdicts: BTreeMap<u32, Verdict>, otherwise: u32) -> Vec<Range> {
    let always = |verdict: u32| vec![step(RETURN, verdict)];
    let mut ranges: Vec<Range> = vec![(0, always(otherwise))];
    let mut add = |from: u32, code: BpfProgram| match ranges.last_mut() {
        // Nothing lies between it and the range before.
        Some(last) if last.0 == from => last.1 = code,
        Some(last) if last.1 == code => {}
        _ => ranges.push((from, code)),
    };
    for (call, verdict) in verdicts {
        let code = match verdict {
            Verdict::Always(verdict) => always(verdict),
            Verdict::If(rules) => conditional(rules, otherwise),
        };
        add(call, code);
        add(call + 1, always(otherwise));
    }
    add(X32, always(libc::SECCOMP_RET_KILL_PROCESS));
    ranges
}

/// Lets a call through if a rule matches.
fn conditional(rules: Vec<SeccompRule>, otherwise: u32) -> BpfProgram {
    let mut code = BpfProgram::new();
    for rule in rules {
        // It goes on behind its end if it matches, and one instruction further if not.
        code.extend(BpfProgram::from(rule));
        code.push(step(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    code.push(step(RETURN, otherwise));
    code
}

/// Goes to the range of the number that is loaded.
pub(crate) fn halve(ranges: &[Range]) -> BpfProgram {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let ([_, ..], Some((first, _))) = (low, high.first()) else {
        return ranges.iter().flat_map(|(_, code)| code.clone()).collect();
    };
    let low = halve(low);
    let mut code = match u8::try_from(low.len()) {
        Ok(over) => vec![sock_filter { code: IF_AT_LEAST, jt: over, jf: 0, k: *first }],
        // A condition cannot jump so far.
        Err(_) => vec![
            sock_filter { code: IF_AT_LEAST, jt: 0, jf: 1, k: *first },
            step(JUMP, low.len() as u32),
        ],
    };
    code.extend(low);
    code.extend(halve(high));
    code
}

pub(crate) const fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}
