//! What the kernel tells about a guest.

use super::Guest;
use crate::{
    cgroup::{Cgroup, Population, Pressure},
    error::{Error, Result},
    privilege::AsRoot,
    programs::Shared,
};

/// What the kernel counted for a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Denials, or what audit mode let through.
    pub denied: u64,
    /// Records that were lost because the ring buffer was full.
    pub lost: u64,
    /// Denials because of an error on the kernel side.
    pub errors: u64,
}

impl Guest {
    /// What the kernel counted so far.
    pub fn counts(&self) -> Counts {
        let entry = self.pins.guests.get(&self.id(), 0).unwrap_or_default();
        Counts { denied: entry.denied, lost: entry.lost, errors: entry.errors }
    }

    /// The kernel's number of the table in force, which guests under the same policy share.
    pub fn table_id(&self) -> Option<u32> {
        self.table.as_ref().and_then(Shared::id)
    }

    /// What its limits did so far.
    pub fn pressure(&self) -> Pressure {
        // Without it nothing can be read, which counts as no pressure.
        let _root = AsRoot::enter();
        self.cgroup.as_ref().map_or_else(Pressure::default, Cgroup::pressure)
    }

    /// Whether anybody is in the guest's cgroup.
    ///
    /// # Errors
    /// If the cgroup cannot be looked at.
    pub fn population(&self) -> Result<Population> {
        let _root = AsRoot::enter()?;
        let cgroup = self.cgroup.as_ref();
        cgroup.map_or_else(|| Err(Error::new("find the guest's cgroup")), Population::of)
    }
}
