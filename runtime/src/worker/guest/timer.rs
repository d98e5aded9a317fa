//! The guest's time limit.
//!
//! The thread is started before seccomp and before the guest, and waits for the guest's start.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

/// Stops the guest of one engine once, `limit` after [`Timer::go`].
pub(super) struct Timer {
    start: SyncSender<()>,
    limit: Duration,
}

impl Timer {
    pub(super) fn new(engine: Engine, limit: Duration) -> io::Result<Self> {
        let (start, started) = sync_channel::<()>(1);
        thread::Builder::new().name("timer".to_owned()).spawn(move || {
            if started.recv().is_ok() {
                thread::sleep(limit);
                engine.increment_epoch();
            }
        })?;
        Ok(Self { start, limit })
    }

    pub(super) const fn limit(&self) -> Duration {
        self.limit
    }

    /// Starts the clock.
    pub(super) fn go(self) {
        // The thread waits for exactly this and ends in no other way.
        let _ = self.start.send(());
    }
}
