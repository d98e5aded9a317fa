//! A guest's life in the kernel's eyes.
//!
//! ```text
//! create: cgroup, ring buffer, entry with GUEST_SETUP   everything denied but the worker's start
//! arm:    table entry                                   the policy, in one step; again to replace it
//! drop:   processes killed, entries gone, cgroup gone
//! ```

mod links;
mod refused;
mod ring;
mod state;

use std::{os::fd::AsFd as _, path::Path, time::Duration};

use wasi_guard_abi::guest::{GUEST_SETUP, Guest as Entry};
use wasi_guard_policy::compile::Table;

pub use self::{links::LinkedFile, state::Counts};
use self::{
    refused::{denied, full},
    ring::new_ring,
};
use crate::{
    cgroup::{Cgroup, Limits, Parent},
    error::{Error, Result, Step as _},
    fault::{self, Point},
    isolation::Identity,
    privilege::AsRoot,
    programs::{self, Build, Entering, HostLock, OfMaps, Pins, Shared, SwapLock},
    records::Records,
    spawn::{Process, Request},
};

/// `BPF_F_INNER_MAP` (uapi/linux/bpf.h).
pub(crate) const INNER_MAP: u32 = 1 << 12;
/// `BPF_NOEXIST` (uapi/linux/bpf.h).
const NO_EXIST: u64 = 1;

/// How long a start waits for others that replace their tables: hundreds may start at once.
const ARM_TIMEOUT: Duration = Duration::from_secs(60);

/// A guest between its creation and its end.
pub struct Guest {
    cgroup: Option<Cgroup>,
    pins: Pins,
    runtime: crate::mark::Runtime,
    records: Option<Records>,
    /// The ring buffer's entry, as long as it is waited for.
    entering_ring: Option<Entering>,
    /// The first table's.
    entering_table: Option<Entering>,
    /// Another handle of the map of tables, for the thread that enters the first one.
    tables: Option<OfMaps>,
    linked: Vec<LinkedFile>,
    /// The table in force.
    table: Option<Shared>,
    /// This process ends after it.
    last: bool,
}

impl Guest {
    /// Makes a cgroup in which everything is denied.
    ///
    /// # Errors
    /// If a layer is missing; the hint says which.
    pub fn create(build: &Build, limits: &Limits, ring_bytes: u32) -> Result<Self> {
        let _root = AsRoot::enter()?;
        let lock = HostLock::take()?;
        fault::at(Point::HostLocked);
        let mut pins = programs::open(build, &lock)?;
        fault::at(Point::PinsTaken);
        let parent = Parent::open(build)?;
        fault::at(Point::ParentMade);
        pins.guard_children_of(parent.id())?;
        parent.sweep(|abandoned| pins.forget_all(abandoned))?;
        let runtime = pins.marks.runtime()?;
        let (mut rings, tables) = pins.again(&lock)?;
        let cgroup = parent.child(limits)?;
        fault::at(Point::CgroupLimited);
        // While there is its cgroup, nobody removes the pins.
        drop(lock);
        let mut guest = Self {
            cgroup: Some(cgroup),
            pins,
            runtime,
            records: None,
            entering_ring: None,
            entering_table: None,
            tables: Some(tables),
            linked: Vec::new(),
            table: None,
            last: false,
        };
        let id = guest.id();
        let (ring, data) = new_ring(ring_bytes)?;
        guest.records = Some(Records::new(ring));
        guest.entering_ring = Some(Entering::begin("ring", move || {
            fault::map(Point::EnterRing)
                .and_then(|()| rings.insert(id, &data, NO_EXIST))
                .map_err(|error| full(error, "RINGS"))
        })?);
        let entry = Entry { flags: GUEST_SETUP, ..Entry::default() };
        fault::map(Point::EnterGuest)
            .and_then(|()| guest.pins.guests.insert(id, entry, NO_EXIST))
            .map_err(|error| full(error, "GUESTS"))?;
        fault::at(Point::GuestMade);
        Ok(guest)
    }

    /// The cgroup's id, the guest's key in every map.
    pub fn id(&self) -> u64 {
        self.cgroup.as_ref().map_or(0, Cgroup::id)
    }

    /// The name of its cgroup, unique while it lives.
    pub fn name(&self) -> &str {
        self.cgroup.as_ref().map_or("", Cgroup::name)
    }

    /// The path of its cgroup.
    pub fn path(&self) -> &Path {
        self.cgroup.as_ref().map_or(Path::new(""), Cgroup::path)
    }

    /// Who the worker is to be.
    pub fn identity(&self) -> Identity {
        Identity::of_guest(self.id())
    }

    /// Marks the root of a preopen and writes it into the table. The caller keeps `fd` open as
    /// long as the guest lives.
    ///
    /// # Errors
    /// If the kernel refuses the mark.
    pub fn root(
        &mut self,
        table: &mut Table,
        preopen: usize,
        fd: std::os::fd::BorrowedFd<'_>,
    ) -> Result<()> {
        let _root = AsRoot::enter()?;
        let _lock = HostLock::take()?;
        let id = self.pins.marks.root(fd)?;
        table.set_root(preopen, id).step(|| "write a preopen's root into the table".into())
    }

    /// Marks a file that is handed to the worker as one of wasi-guard's own.
    ///
    /// # Errors
    /// If the kernel refuses the mark.
    pub fn runtime_file(&mut self, fd: std::os::fd::BorrowedFd<'_>) -> Result<()> {
        let _root = AsRoot::enter()?;
        let _lock = HostLock::take()?;
        self.pins.marks.runtime_file(fd)
    }

    /// Starts a program inside the cgroup.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn spawn(&mut self, request: &Request<'_>) -> Result<Process> {
        let _root = AsRoot::enter()?;
        let Some(cgroup) = &self.cgroup else { return Err(Error::new("find the guest's cgroup")) };
        fault::call(Point::Spawn).step(|| "start the worker process".into())?;
        let process =
            crate::spawn::spawn(Some(cgroup.dir().as_fd()), self.runtime.executable(), request)
                .map_err(denied)?;
        fault::at(Point::Spawned);
        Ok(process)
    }

    /// Waits until the ring buffer is in its map: from then on there are records.
    fn hear(&mut self) -> Result<()> {
        let id = self.id();
        if let Some(ring) = self.entering_ring.take() {
            self.entering_ring = ring.seen(|| self.pins.rings.has(id))?;
        }
        self.records.as_ref().map(drop).ok_or_else(|| Error::new("find the guest's ring buffer"))
    }

    /// Puts `table` into force, in place of the one before, in one step. When this returns, nobody
    /// decides by the one before any more, and what was denied by it has its record: the system
    /// call waits for the programs that run (`maybe_wait_bpf_programs` in the kernel's
    /// kernel/bpf/syscall.c). Before the first one nothing was allowed but the worker's start, so
    /// that the first one is not waited for.
    ///
    /// # Errors
    /// If the kernel has no memory for it, or others replace their tables for a minute; then
    /// everything stays as it was.
    pub fn arm(&mut self, table: &Table) -> Result<()> {
        let _root = AsRoot::enter()?;
        self.put(table, ARM_TIMEOUT)
    }

    fn put(&mut self, table: &Table, limit: Duration) -> Result<()> {
        self.hear()?;
        let table = Shared::take(self.pins.dir(), table)?;
        let entered = if self.table.is_none() {
            self.put_first(&table)
        } else {
            self.put_again(&table, limit)
        };
        if let Err(error) = entered {
            table.release(&self.pins.table_ids);
            return Err(error);
        }
        self.pins.table_ids.set(self.id(), &table);
        match self.table.replace(table) {
            Some(before) => {
                fault::at(Point::TableReplaced);
                before.release(&self.pins.table_ids);
            }
            None => {
                // The exception for the worker's start ends; the table alone would end it too.
                fault::map(Point::EndSetup)
                    .and_then(|()| self.pins.guests.insert(self.id(), Entry::default(), 0))
                    .step(|| "end the guest's set-up".into())?;
                fault::at(Point::Armed);
            }
        }
        Ok(())
    }

    fn put_first(&mut self, table: &Shared) -> Result<()> {
        let Some(mut tables) = self.tables.take() else {
            return Err(Error::new("enter the guest's table: one was tried before"));
        };
        let (id, map) = (self.id(), table.map().clone());
        let entering = Entering::begin("table", move || {
            fault::map(Point::EnterTable)
                .and_then(|()| tables.insert(id, &map, 0))
                .map_err(|error| full(error, "TABLES"))
        })?;
        self.entering_table = entering.seen(|| self.pins.tables.has(id))?;
        fault::at(Point::TableEntered);
        Ok(())
    }

    /// The lock is held until nobody decides by the table before.
    fn put_again(&mut self, table: &Shared, limit: Duration) -> Result<()> {
        if let Some(first) = self.entering_table.take() {
            first.finish()?;
        }
        let _lock = SwapLock::take(limit)?;
        fault::map(Point::EnterTable)
            .and_then(|()| self.pins.tables.insert(self.id(), table.map(), 0))
            .map_err(|error| full(error, "TABLES"))?;
        fault::at(Point::TableEntered);
        Ok(())
    }

    /// Lets the worker make memory executable under the policy, to load compiled code.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn begin_loading(&mut self) -> Result<()> {
        let id = self.id();
        fault::map(Point::BeginLoading)
            .and_then(|()| self.pins.loading.insert(id, 1, 0))
            .map_err(|error| full(error, "LOADING"))
    }

    /// Ends that.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn end_loading(&mut self) -> Result<()> {
        let id = self.id();
        fault::map(Point::EndLoading)
            .and_then(|()| self.pins.loading.remove(&id))
            .step(|| "end the leave to make memory executable".into())
    }

    /// Bounds the guest anew, while it runs: each limit that is `None` is lifted. Memory that it
    /// got before the first limit of memory is not counted.
    ///
    /// # Errors
    /// If a controller is missing or the kernel refuses a value. Then some of the limits may be
    /// the new ones.
    pub fn set_limits(&self, limits: &Limits) -> Result<()> {
        let _root = AsRoot::enter()?;
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.set_limits(limits))
    }

    /// The guest's records, as they come.
    pub fn records(&mut self) -> Option<&mut Records> {
        self.records.as_mut()
    }

    /// Kills everything in the cgroup.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        let _root = AsRoot::enter()?;
        self.cgroup.as_ref().map_or(Ok(()), Cgroup::kill)
    }

    /// Ends the guest as dropping it does, for a process that ends soon: nothing of the guest is left
    /// when this returns, but processes of their own, children of this one, go on to wait in the
    /// kernel for a few ticks of its clock, for the programs that may still see the guest's maps.
    pub fn end(mut self) {
        self.last = true;
    }

    /// The pinned programs in use.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What cannot be removed is found by the next start.
        let _root = AsRoot::enter();
        // An entry that comes later would stay.
        for entering in [self.entering_ring.take(), self.entering_table.take()] {
            let _ = entering.map(Entering::finish);
        }
        // The cgroup goes last: as long as it is there, whoever comes after a crash finds it, and
        // by it all that is left.
        fault::at(Point::EndBegun);
        if let Some(cgroup) = &self.cgroup {
            cgroup.clear();
        }
        fault::at(Point::ProcessesGone);
        let id = self.id();
        if self.last {
            self.pins.leave(id);
        } else {
            self.pins.forget(id);
        }
        fault::at(Point::EntriesGone);
        if let Some(table) = self.table.take() {
            table.release(&self.pins.table_ids);
        }
        fault::at(Point::TableReleased);
        self.cgroup = None;
        fault::at(Point::CgroupRemoved);
    }
}
