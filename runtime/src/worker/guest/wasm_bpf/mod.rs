//! The imports of guests that are eBPF tools: those of eunomia's wasm-bpf and of WasmEdge's plugin,
//! in every shape that their SDKs give them. docs/wasm-bpf.md has the answers, call by call.
//!
//! * [`shapes`]: names and types. [`link`]: the functions of one module.
//! * [`arguments`]: what pointers, sizes and texts mean, against the bytes of the memory.
//! * [`answer`], [`tool`], [`poll`]: the calls. [`queue`]: samples on their way.
//! * [`connection`]: questions to the broker, which has all that this process has no right to.
//!
//! A policy without `[bpf]` has no broker: no object is ever loaded, and every call answers what
//! those hosts answer for an object that they could not load, and for a handle that is none.

mod answer;
mod arguments;
mod connection;
mod link;
mod poll;
mod queue;
mod shapes;
#[cfg(test)]
mod tests;
mod tool;

use std::sync::Arc;

use wasi_guard_broker::window::Window;

pub(super) use self::link::{imports, wanted};
use self::tool::Tool;
use crate::protocol::{Channel, FromWorker};

/// Who answers a guest's calls.
pub(super) enum Broker {
    /// Nobody: all are refused, and the supervisor, if there is one, hears of loads.
    Refusing(Option<Arc<Channel>>),
    /// The guest's broker.
    Connected(Box<Tool>),
}

impl Broker {
    /// No broker.
    pub(super) const fn refusing(supervisor: Option<Arc<Channel>>) -> Self {
        Self::Refusing(supervisor)
    }

    /// The broker at the other end. `timed`: the guest has a time limit.
    pub(super) fn connected(channel: Channel, window: Window, timed: bool) -> Self {
        Self::Connected(Box::new(Tool::new(channel, window, timed)))
    }

    fn tool(&mut self) -> Option<&mut Tool> {
        match self {
            Self::Connected(tool) => Some(tool),
            Self::Refusing(_) => None,
        }
    }

    /// The guest asked for an object of so many bytes to be loaded, and none is.
    fn refused(&self, bytes: u64) {
        if let Self::Refusing(Some(supervisor)) = self {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            // If the supervisor is gone, so is this process in a moment.
            drop(supervisor.send(&FromWorker::BpfLoad { bytes }));
        }
    }
}
