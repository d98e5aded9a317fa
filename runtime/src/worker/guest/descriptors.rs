//! Notices that the kernel refused the guest a descriptor, and tells the supervisor.
//!
//! The kernel asks nobody before it refuses one (`EMFILE`), and the WASI layer has no word for it:
//! the guest is told `io` or `unknown`, whichever call and version of WASI it was. But where the
//! layer meets an error that it has no word for, it writes a line to its log, and this reads that.

use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_core::span::{Attributes, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, Field, Level, LevelFilter, Metadata, Subscriber, dispatcher, field};

use super::super::failure::{Failure, Step as _};
use crate::protocol::{Channel, FromWorker};

/// The parts of wasmtime-wasi 48 that turn errors of the kernel into WASI's, and no others: some
/// would hand us what the guest writes.
const TARGETS: [&str; 3] =
    ["wasmtime_wasi::filesystem", "wasmtime_wasi::p2::host::filesystem", "wasmtime_wasi::sockets"];
/// How their lines begin; the error follows.
const BEGINNINGS: [&str; 2] = ["unknown raw os error: ", "unknown I/O error: "];

/// From now on the supervisor hears of the first descriptor that the guest is refused.
///
/// # Errors
/// If something else reads the log already.
pub(in super::super) fn watch(channel: &Arc<Channel>) -> Result<(), Failure> {
    let channel = Arc::clone(channel);
    // If the supervisor is gone, so is this process in a moment.
    let log = Log::new(move || drop(channel.send(&FromWorker::NoDescriptor)));
    dispatcher::set_global_default(log.into()).step("read the log of the WASI layer")
}

struct Log {
    tell: Box<dyn Fn() + Send + Sync>,
    told: AtomicBool,
    /// What the lines look for.
    error: String,
}

impl Log {
    fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        let error = io::Error::from_raw_os_error(libc::EMFILE).to_string();
        Self { tell: Box::new(tell), told: AtomicBool::new(false), error }
    }
}

fn is_read(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && *metadata.level() == Level::DEBUG && TARGETS.contains(&metadata.target())
}

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_read(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_read(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        if self.told.load(Ordering::Relaxed) {
            return;
        }
        let mut line = Line { error: &self.error, has_it: false };
        event.record(&mut line);
        if line.has_it && !self.told.swap(true, Ordering::Relaxed) {
            (self.tell)();
        }
    }

    // Spans are not read.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Whether a line of the log is about this error.
struct Line<'a> {
    error: &'a str,
    has_it: bool,
}

impl field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let text = fmt::format(format_args!("{value:?}"));
            let error = BEGINNINGS.iter().find_map(|beginning| text.strip_prefix(beginning));
            self.has_it |= error == Some(self.error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

    use super::*;

    /// The WASI layer's own words, so that another version of it cannot change them unseen.
    #[test]
    fn of_all_errors_a_missing_descriptor_is_told_and_once() {
        let (tell, told) = mpsc::channel();
        let log = Log::new(move || tell.send(()).unwrap());
        dispatcher::with_default(&log.into(), || {
            for errno in [libc::ENFILE, libc::EROFS, libc::ENOENT, libc::ENXIO] {
                let _ = ErrorCode::from(io::Error::from_raw_os_error(errno));
            }
            assert!(told.try_recv().is_err());
            for _ in 0..2 {
                let code = ErrorCode::from(io::Error::from_raw_os_error(libc::EMFILE));
                assert_eq!(code, ErrorCode::Io);
            }
        });
        assert_eq!(told.iter().count(), 1);
    }
}
