//! What fuzz/ reaches of the inside. Not for others: it changes with what it opens.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use wasi_guard_enforce::records::Denial;
use wasi_guard_policy::{Mode, Policy};

use crate::audit::{About, Auditor, Sink};

/// What the audit writes about a denial: a line with its end.
#[must_use]
pub fn audit_line(denial: &Denial, policy: &Policy) -> Vec<u8> {
    let lines = Lines::default();
    let about = About {
        policy: "app.toml".into(),
        policy_digest: String::new(),
        module: "app.wasm".into(),
        module_digest: String::new(),
        mode: Mode::Enforce,
    };
    Auditor::new(Sink::test(lines.clone()), about).denial(denial, policy);
    let written = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    written.clone()
}

/// Keeps what is written.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
