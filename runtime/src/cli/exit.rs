//! Every exit status.

use std::process::ExitCode;

use crate::protocol::EXIT_REFUSED;

/// The exit statuses of `run`, as its help shows them.
macro_rules! run_help {
    () => {
        "\
Exit status:
  the guest's own exit code, or
  1      the guest failed in another way than by a trap
  125    wasi-guard refused: wrong usage, bad policy, missing layer, failed step
  134    the guest trapped (128 + SIGABRT, as in `wasmtime run`)
  128+N  signal N ended the guest; 137 is its memory limit, or somebody's kill
A guest may itself exit with any of these; the audit's `end` record tells."
    };
}
pub(crate) use run_help;

/// The exit statuses of all commands, as the help of the whole shows them.
macro_rules! help {
    () => {
        "\
Exit status:
  run      the guest's own exit code; 134 if it trapped; see `wasi-guard run --help`
  check    0 if there are no errors, 1 if there are
  explain  0 allowed, 1 denied
  policy   0, or 1 if an assertion of `policy test` does not hold, or `policy reload` is refused
  doctor   0 if all that is required is there, 1 if something is missing
  others   0
  all      125 if wasi-guard refused: wrong usage, bad policy, missing layer, failed step"
    };
}
pub(crate) use help;

/// Success, or a positive answer.
#[must_use]
pub const fn ok() -> ExitCode {
    ExitCode::SUCCESS
}

/// A negative answer of `check`, `explain`, `policy` or `doctor`.
#[must_use]
pub const fn no() -> ExitCode {
    ExitCode::FAILURE
}

/// wasi-guard's own refusal.
#[must_use]
pub fn refused() -> ExitCode {
    code(EXIT_REFUSED)
}

/// The exit status of a process for an exit code: its low eight bits, as the kernel has it.
#[must_use]
pub fn code(code: i32) -> ExitCode {
    let [low, ..] = code.to_le_bytes();
    ExitCode::from(low)
}
