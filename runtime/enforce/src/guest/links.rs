//! Files with several names, and another table in place of the one in force.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use wasi_guard_abi::table::Linked;
use wasi_guard_policy::compile::Table;

use super::Guest;
use crate::{
    error::{Result, Step as _},
    privilege::AsRoot,
    programs::HostLock,
};

/// How long the supervisor of a running guest waits: it has other things to do meanwhile.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(2);

/// A file with several names that differ in their rights.
#[derive(Debug)]
pub struct LinkedFile {
    /// The file, opened with `O_PATH`: its mark goes when nobody holds it.
    pub fd: OwnedFd,
    /// Rights that all names have, and those that belong to a name.
    pub rights: u16,
    /// The first deny rule that matches one of the names, 0 if none does.
    pub deny_rule: u32,
}

impl Guest {
    /// Marks files with several names and writes what their names have in common into the table.
    /// The files stay open as long as the guest lives.
    ///
    /// # Errors
    /// If the kernel refuses a mark, or there are too many files.
    pub fn links(&mut self, table: &mut Table, files: Vec<LinkedFile>) -> Result<()> {
        let _root = AsRoot::enter()?;
        let lock = HostLock::take()?;
        self.mark_links(table, files, &lock)
    }

    fn mark_links(
        &mut self,
        table: &mut Table,
        files: Vec<LinkedFile>,
        _lock: &HostLock,
    ) -> Result<()> {
        let mut links = Vec::new();
        let mut seen = HashSet::new();
        for file in &files {
            let id = self.pins.marks.linked(file.fd.as_fd())?;
            // Names of a file that share their inode share their rights.
            if !seen.insert(id) {
                continue;
            }
            links.push(Linked { id, rights: file.rights, reserved: 0, deny_rule: file.deny_rule });
        }
        table.set_links(&links).step(|| "write files with several names into the table".into())?;
        self.linked.extend(files);
        Ok(())
    }

    /// [`Guest::links`] and [`Guest::arm`] for a guest that runs: waits for others for two seconds
    /// only, and lets go of the files of the table before.
    ///
    /// # Errors
    /// As of both.
    pub fn replace(&mut self, table: &mut Table, files: Vec<LinkedFile>) -> Result<()> {
        let _root = AsRoot::enter()?;
        let before = self.linked.len();
        let linked = if files.is_empty() {
            Ok(())
        } else {
            HostLock::take_within(REPLACE_TIMEOUT)
                .and_then(|lock| self.mark_links(table, files, &lock))
        };
        let result = linked.and_then(|()| self.put(table, REPLACE_TIMEOUT));
        if result.is_ok() {
            self.linked.drain(..before);
        } else {
            self.linked.truncate(before);
        }
        result
    }
}
