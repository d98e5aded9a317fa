//! The messages of the control socket.

use serde::{Deserialize, Serialize};

use super::config::Kind;
use super::layers::Layers;

/// From supervisor to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// The policy is in force.
    Armed,
    /// The canary's answer was right: load the guest.
    Load,
    /// No memory can become executable any more: run the guest.
    Start,
}

/// From worker to supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The worker gave up its rights.
    Hardened {
        /// What is in force so far.
        layers: Layers,
    },
    /// How the kernel answered the worker's attempt to open the canary.
    Canary {
        /// The errno; `None` if the open succeeded.
        errno: Option<i32>,
    },
    /// The guest is loaded and can start.
    Loaded {
        /// What is in force from now on.
        layers: Layers,
    },
    /// The guest ended; the worker exits with the code that belongs to it.
    Ended(End),
    /// wasmtime refused the artifact: made by another version, for other options or another CPU.
    Incompatible {
        /// wasmtime's reason.
        message: String,
    },
    /// Role Compile: the artifact is written.
    Compiled {
        /// What the module is.
        kind: Kind,
        /// Length of the artifact in bytes.
        length: u64,
        /// Whether the imports were compared with what wasi-guard provides. `false` if the
        /// artifact is for another architecture and cannot be loaded here; then the worker does it
        /// at the start of the run.
        imports_checked: bool,
        /// What was in force while compiling.
        layers: Layers,
    },
    /// A step failed; the worker exits with [`super::EXIT_REFUSED`].
    Failed {
        /// What was being done, to be read after "could not".
        step: String,
        /// The cause, one line per level.
        message: String,
        /// What can be done about it.
        hint: Option<String>,
    },
    /// The kernel refused the guest a descriptor: `[limits] open_files`. Said once, while it runs.
    NoDescriptor,
    /// The guest asked for a BPF object to be loaded, which no policy can grant yet.
    BpfLoad {
        /// The object's size, as the guest says.
        bytes: u32,
    },
    /// Role Run: the worker's program runs, and needs none of its files any more.
    Started,
}

/// How a guest ended, as the worker tells it. The exit status of the process is what counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It returned or called `proc_exit` or `wasi:cli/exit`.
    Exit {
        /// The guest's exit code.
        code: i32,
    },
    /// It trapped.
    Trap {
        /// One line.
        message: String,
    },
    /// Another error, for example a failed instantiation.
    Error {
        /// One line.
        message: String,
    },
}

/// Steps of role Compile that callers may want to tell apart; [`FromWorker::Failed`] names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileStep {
    /// The bytes are not WebAssembly, or not all of it.
    Read,
    /// wasmtime does not compile the module.
    Compile,
    /// The module imports or lacks something.
    Link,
}

impl CompileStep {
    /// The step's text in [`FromWorker::Failed`], to be read after "could not".
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Read => "read the module",
            Self::Compile => "compile the module",
            Self::Link => "link the module",
        }
    }
}
