//! The system calls that a worker may make: an allow-list kept as data in `policies/seccomp/`.
//!
//! A call that no row names is answered with EACCES. Not with EPERM: the WASI layer takes EPERM
//! from openat2 for "this kernel has no openat2" and walks the path by hand, through code in which
//! its escapes were. A few calls that nobody innocent makes end the process instead.

mod list;

use std::collections::BTreeMap;

use seccompiler::BpfProgram;

pub use list::{ListError, Rows};

use crate::protocol::Seccomp;

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// A guest runs.
    Run,
    /// A module is compiled.
    Compile,
}

impl List {
    /// The list's TOML text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Run => include_str!("../../../../policies/seccomp/run.toml"),
            Self::Compile => include_str!("../../../../policies/seccomp/compile.toml"),
        }
    }
}

/// Why no filter could be installed.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// The list is wrong.
    #[error(transparent)]
    List(#[from] ListError),
    /// The list was written for x86_64; numbers and arguments of calls differ elsewhere.
    #[error("the seccomp lists are written for x86_64, this machine is {0}")]
    Architecture(&'static str),
    /// The filter library does not accept the list.
    #[error("the seccomp list cannot be made a filter")]
    Filter(#[from] seccompiler::Error),
    /// The kernel does not accept the filter.
    #[error("the kernel does not accept the seccomp filter")]
    Install(#[source] seccompiler::Error),
}

/// Puts `list` into force for all threads, for good. With [`Seccomp::Log`] nothing is denied, the
/// kernel logs what would be.
///
/// # Errors
/// See [`SeccompError`].
pub fn install(list: List, mode: Seccomp) -> Result<(), SeccompError> {
    for program in programs(&Rows::parse(list.text())?, mode)? {
        seccompiler::apply_filter_all_threads(&program).map_err(SeccompError::Install)?;
    }
    Ok(())
}

/// The filters of a list, in the order in which they must be installed: the last one denies the
/// call that installs filters. Of several filters' verdicts the kernel takes the strictest.
fn programs(rows: &Rows, mode: Seccomp) -> Result<Vec<BpfProgram>, SeccompError> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(SeccompError::Architecture(std::env::consts::ARCH));
    }
    let json = rows.to_json(mode);
    let architecture = seccompiler::TargetArch::x86_64;
    let programs: BTreeMap<_, _> =
        seccompiler::compile_from_json(json.as_bytes(), architecture)?.into_iter().collect();
    // Their names sort in the right order.
    Ok(programs.into_values().collect())
}

#[cfg(test)]
mod tests;
