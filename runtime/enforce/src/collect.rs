//! Finds and removes what killed supervisors and interrupted starts left, of every build. Each start
//! does the same for its own build; this is for a host on which no guest will start soon.

use std::fs;

use crate::{
    cgroup::Parent,
    error::{Result, Step as _},
    fault::{self, Point},
    privilege::AsRoot,
    programs::{self, BPFFS, Build, Entries, HostLock, Pins},
};

/// How much was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Cgroups without a living supervisor, with the processes in them.
    pub cgroups: usize,
    /// Guests that are gone and had map entries.
    pub entries: usize,
    /// Tables by which no guest decides.
    pub tables: usize,
    /// Directories of pins that were never finished.
    pub pins: usize,
}

/// Removes all of it. The pins of programs stay, and guests that run are not touched.
///
/// # Errors
/// If something of it cannot be looked at or removed.
pub fn collect(_lock: &HostLock) -> Result<Collected> {
    let _root = AsRoot::enter()?;
    let mut collected = Collected::default();
    let mut living = Vec::new();
    for parent in Parent::every()? {
        let entries = Entries::of(parent.path().file_name().unwrap_or_default());
        collected.cgroups += parent.sweep(|abandoned| {
            let (known, tables) = entries.forget(abandoned);
            collected.entries += known;
            collected.tables += tables;
        })?;
        living.extend(parent.children()?);
    }
    fault::at(Point::GcCgroups);
    for build in [Build::this(false), Build::this(true)] {
        let Some(mut pins) = Pins::take(&build)? else { continue };
        // A guest that is being made has its cgroup before its entry.
        let gone: Vec<u64> =
            pins.guests().into_iter().filter(|guest| !living.contains(guest)).collect();
        let tables = pins.pinned_tables().len();
        pins.forget_all(&gone);
        pins.sweep_tables();
        collected.entries += gone.len();
        collected.tables += tables.saturating_sub(pins.pinned_tables().len());
    }
    fault::at(Point::GcEntries);
    for entry in fs::read_dir(BPFFS).step(|| format!("list {BPFFS}"))?.flatten() {
        // Whoever makes pins holds the lock: these are nobody's.
        if programs::is_unfinished(&entry.file_name()) {
            programs::remove_pins(&entry.path())?;
            collected.pins += 1;
            fault::at(Point::GcPins);
        }
    }
    Ok(collected)
}
