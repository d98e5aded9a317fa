//! One object of a guest's: its maps, programs and links.

use std::os::fd::OwnedFd;

use crate::check::{Loadable, Usage};
use crate::kernel::{self, Buffer, Link};
use crate::protocol::{MapHandle, MapShape};

/// An object that is loaded.
pub(super) struct Object {
    /// Detached first.
    pub(super) links: Vec<Link>,
    pub(super) maps: Vec<Map>,
    pub(super) programs: Vec<Program>,
    pub(super) usage: Usage,
}

/// A map of it.
pub(super) struct Map {
    pub(super) handle: MapHandle,
    pub(super) name: String,
    /// Read by the guest's polls, from the first on. Before the map, whose memory it has.
    pub(super) buffer: Option<Buffer>,
    /// How many of its losses the audit has heard of.
    pub(super) lost_said: u64,
    pub(super) map: kernel::Map,
}

/// A program of it.
pub(super) struct Program {
    pub(super) name: String,
    pub(super) loadable: Loadable,
    pub(super) fd: OwnedFd,
}

impl Object {
    /// Losses of its buffers that the audit has not heard of: the map's name, and how many.
    pub(super) fn unsaid_losses(&mut self) -> Vec<(String, u64)> {
        self.maps.iter_mut().filter_map(Map::unsaid_losses).collect()
    }
}

impl Map {
    pub(super) fn shape(&self) -> MapShape {
        MapShape {
            handle: self.handle,
            kind: self.map.kind(),
            key_size: u32::try_from(self.map.key_size()).unwrap_or(u32::MAX),
            value_size: u32::try_from(self.map.transfer_size()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.buffer.as_ref().map_or(0, Buffer::lost)
    }

    pub(super) fn unsaid_losses(&mut self) -> Option<(String, u64)> {
        let lost = self.lost();
        let count = lost - std::mem::replace(&mut self.lost_said, lost);
        (count > 0).then(|| (self.name.clone(), count))
    }
}
