//! The debug log of the BPF programs (`--bpf-log`), on stderr.
//!
//! Programs with the log are a build of their own ([`crate::programs::Build::log`]); the
//! programs that guests normally run under have none of it.

use std::os::fd::{AsFd, BorrowedFd};

use aya_log::EbpfLogger;

use crate::error::{Result, Step as _};

/// Where log lines go.
#[derive(Debug)]
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("bpf: {}: {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

/// The log of one set of programs.
pub struct DebugLog(EbpfLogger<Stderr>);

impl DebugLog {
    pub(crate) fn of_program(id: u32) -> Result<Self> {
        EbpfLogger::init_from_id_with_logger(id, Stderr)
            .map(Self)
            .step(|| "find the debug log of the BPF programs".into())
    }

    /// Prints what has come in.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

impl AsFd for DebugLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::fmt::Debug for DebugLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DebugLog")
    }
}
