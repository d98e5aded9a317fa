//! The BPF programs: loaded once a boot and build, pinned, and taken from their pins after
//! that. A warm start parses no BTF and loads no BPF.

pub mod btf;
pub mod hooks;
mod kernel_symbols;
mod load;
mod lock;
mod pins;
mod tables;

use std::path::PathBuf;

pub(crate) use kernel_symbols::rename_lock;
pub(crate) use load::UNFINISHED;
pub(crate) use load::offsets;
pub use load::open;
pub(crate) use lock::SwapLock;
pub use lock::{HostLock, run_dir};
pub use pins::{Pins, unload};
pub(crate) use pins::{own_programs, remove_pins};
pub(crate) use tables::Shared;

/// The object built from `bpf-progs/`, embedded with the alignment that its parser wants.
pub(crate) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../bpf-progs/wasi-guard.bpf.o"
));

/// Where bpffs is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Identity of a set of programs: object, layout of the shared types, and whether the debug
/// log is compiled in. Different builds share nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    digest: [u8; 32],
    /// The programs write a debug log (`--bpf-log`).
    pub log: bool,
}

impl Build {
    /// This binary's.
    pub fn this(log: bool) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(OBJECT);
        hasher.update(&wasi_guard_abi::LAYOUT.to_le_bytes());
        hasher.update(&[u8::from(log)]);
        // What the loader does with the object belongs to the build as well.
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        Self { digest: *hasher.finalize().as_bytes(), log }
    }

    /// Sixteen hexadecimal digits that name it in bpffs and among the cgroups.
    pub fn short(&self) -> String {
        self.digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The directory of its pins.
    pub fn pin_dir(&self) -> PathBuf {
        PathBuf::from(BPFFS).join(format!("wasi-guard-{}", self.short()))
    }
}

/// How much the programs of `--bpf-log` log: aya-log's numbers, 0 is off, 4 is debug.
pub(crate) const LOG_LEVEL: u8 = 4;
