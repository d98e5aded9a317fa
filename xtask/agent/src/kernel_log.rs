//! Finds out whether the kernel warned or failed while a command ran.

use std::fs::{self, OpenOptions};
use std::io::Read;

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use std::os::unix::fs::OpenOptionsExt;

/// Bits of `/proc/sys/kernel/tainted` that tell of a failure; names as in the kernel's
/// `Documentation/admin-guide/tainted-kernels.rst`.
const FAULTS: [(u32, &str); 5] = [
    (4, "machine check"),
    (5, "bad page"),
    (7, "oops or BUG"),
    (9, "kernel warning (WARN)"),
    (14, "soft lockup"),
];

/// Longest part of the kernel's log that a fault carries, in bytes.
const LOG_TAIL: usize = 16 * 1024;

/// The kernel's taint flags at one moment.
pub(crate) struct Taint(u64);

impl Taint {
    /// Reads the flags of now.
    pub(crate) fn read() -> Result<Self> {
        let path = "/proc/sys/kernel/tainted";
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        Ok(Self(text.trim().parse().with_context(|| format!("{path} holds {text:?}"))?))
    }

    /// What went wrong in the kernel since these flags were read, with the end of its log.
    pub(crate) fn new_fault(&self) -> Result<Option<String>> {
        let new = Self::read()?.0 & !self.0;
        let names: Vec<_> =
            FAULTS.iter().filter(|(bit, _)| new >> bit & 1 == 1).map(|(_, name)| *name).collect();
        if names.is_empty() {
            return Ok(None);
        }
        Ok(Some(format!("the kernel reports: {}\n{}", names.join(", "), log_tail()?)))
    }
}

fn log_tail() -> Result<String> {
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open("/dev/kmsg")
        .context("cannot open /dev/kmsg")?;
    let mut text = String::new();
    let mut record = vec![0; 8192];
    // One read is one record: "prefix;message\n". EAGAIN is the end of the log; EPIPE says that
    // records were overwritten, and the next read goes on behind them.
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let line = String::from_utf8_lossy(&record[..length]);
                let message = line.split_once(';').map_or(&*line, |(_, message)| message);
                text.push_str(message.lines().next().unwrap_or_default());
                text.push('\n');
            }
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    let mut start = text.len().saturating_sub(LOG_TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    Ok(text.split_off(start))
}
