//! A guest's life in the kernel's eyes.
//!
//! ```text
//! create:  cgroup, ring buffer, entry with GUEST_SETUP   everything denied but the worker's start
//! prepare: the table in the kernel, programs held        the same
//! arm:     table entry                                   the policy, in one step; again to replace it
//! drop:    processes killed, entries gone, cgroup gone
//! ```

mod links;
mod refused;
mod ring;
mod state;

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    time::Duration,
};

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
    programs::{self, Build, Entering, HostLock, Leaving, Pins, Shared, SwapLock},
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
    linked: Vec<LinkedFile>,
    /// The table in force.
    table: Option<Shared>,
    /// One that is in the kernel and not in force yet.
    prepared: Option<Shared>,
    /// This process ends after it, and its end has begun.
    ending: Option<Leaving>,
}

impl Guest {
    /// Makes a cgroup in which everything is denied. `program` is what [`Guest::spawn`] starts in it.
    ///
    /// # Errors
    /// If a layer is missing; the hint says which.
    pub fn create(build: &Build, limits: &Limits, ring_bytes: u32, program: &File) -> Result<Self> {
        let _root = AsRoot::enter()?;
        let lock = HostLock::take()?;
        fault::at(Point::HostLocked);
        let mut pins = programs::maps(build, &lock)?;
        fault::at(Point::PinsTaken);
        let parent = Parent::open(build)?;
        fault::at(Point::ParentMade);
        pins.guard_children_of(parent.id())?;
        parent.sweep(|abandoned| pins.forget_all(abandoned))?;
        let runtime = pins.marks.runtime(program)?;
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
            linked: Vec::new(),
            table: None,
            prepared: None,
            ending: None,
        };
        let id = guest.id();
        let records = Records::new(new_ring(ring_bytes)?);
        let begun = fault::map(Point::EnterRing)
            .and_then(|()| guest.pins.rings.begin_insert(id, records.as_fd(), NO_EXIST));
        guest.records = Some(records);
        guest.entering_ring = Some(begun.map_err(|error| full(error, "RINGS"))?);
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
    pub fn root(&mut self, table: &mut Table, preopen: usize, fd: BorrowedFd<'_>) -> Result<()> {
        let _root = AsRoot::enter()?;
        let _lock = HostLock::take()?;
        let id = self.pins.marks.root(fd)?;
        table.set_root(preopen, id).step(|| "write a preopen's root into the table".into())
    }

    /// Marks a file that is handed to the worker as one of wasi-guard's own.
    ///
    /// # Errors
    /// If the kernel refuses the mark.
    pub fn runtime_file(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
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
            let seen = ring.seen(|| self.pins.rings.has(id));
            self.entering_ring = seen.map_err(|error| full(error, "RINGS"))?;
        }
        self.records.as_ref().map(drop).ok_or_else(|| Error::new("find the guest's ring buffer"))
    }

    /// Brings a table into the kernel, ahead of [`Guest::arm_prepared`] and in place of one that was
    /// prepared before. Nobody decides by it yet.
    ///
    /// # Errors
    /// If the kernel has no memory for it.
    pub fn prepare(&mut self, table: &Table) -> Result<()> {
        let _root = AsRoot::enter()?;
        self.pins.hold()?;
        if self.is_arming() {
            return Err(Error::new("prepare a table: another one is about to be in force"));
        }
        let table = Shared::take(self.pins.dir(), table)?;
        if let Some(before) = self.prepared.replace(table) {
            before.release(&self.pins.table_ids);
        }
        Ok(())
    }

    /// Whether the first table is on its way into force.
    fn is_arming(&self) -> bool {
        self.table.is_none() && self.entering_table.is_some()
    }

    /// Begins to put the prepared table into force, the guest's first. From some moment on between this
    /// and the end of [`Guest::arm_prepared`] the policy holds, and with it ends what a worker needs to
    /// start: it has to run already.
    ///
    /// # Errors
    /// As of [`Guest::arm`], and if none was prepared.
    pub fn begin_arming(&mut self) -> Result<()> {
        let _root = AsRoot::enter()?;
        self.hear()?;
        let id = self.id();
        let Some(table) = self.prepared.as_ref().filter(|_| self.table.is_none()) else {
            return Err(unprepared());
        };
        let begun = fault::map(Point::EnterTable)
            .and_then(|()| self.pins.tables.begin_insert(id, table.map().fd().as_fd(), 0));
        self.entering_table = Some(begun.map_err(|error| full(error, "TABLES"))?);
        Ok(())
    }

    /// [`Guest::arm`] with the table that was prepared.
    ///
    /// # Errors
    /// As of [`Guest::arm`], and if none was prepared.
    pub fn arm_prepared(&mut self) -> Result<()> {
        let _root = AsRoot::enter()?;
        self.put_prepared(ARM_TIMEOUT)
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
        self.prepare(table)?;
        self.put_prepared(limit)
    }

    fn put_prepared(&mut self, limit: Duration) -> Result<()> {
        self.hear()?;
        let entered = if self.table.is_none() { self.put_first() } else { self.put_again(limit) };
        let table = self.prepared.take().ok_or_else(unprepared)?;
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

    fn put_first(&mut self) -> Result<()> {
        if !self.is_arming() {
            self.begin_arming()?;
        }
        let id = self.id();
        if let Some(entering) = self.entering_table.take() {
            let seen = entering.seen(|| self.pins.tables.has(id));
            self.entering_table = seen.map_err(|error| full(error, "TABLES"))?;
        }
        fault::at(Point::TableEntered);
        Ok(())
    }

    /// The lock is held until nobody decides by the table before.
    fn put_again(&mut self, limit: Duration) -> Result<()> {
        if let Some(first) = self.entering_table.take() {
            first.finish().map_err(|error| full(error, "TABLES"))?;
        }
        let (id, table) = (self.id(), self.prepared.as_ref().ok_or_else(unprepared)?);
        let _lock = SwapLock::take(limit)?;
        fault::map(Point::EnterTable)
            .and_then(|()| self.pins.tables.insert(id, table.map(), 0))
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

    /// Readable when there are records.
    pub fn ring(&self) -> Option<BorrowedFd<'_>> {
        self.records.as_ref().map(Records::as_fd)
    }

    /// Kills everything in the cgroup.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn kill(&self) -> Result<()> {
        let _root = AsRoot::enter()?;
        self.cgroup.as_ref().map_or(Ok(()), Cgroup::kill)
    }

    /// Processes that wait in the kernel for this guest's entries to be everywhere; each is readable when
    /// it has ended, and then [`Guest::settle`] is to be called.
    pub fn waiting(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.entering_ring, &self.entering_table].into_iter().flatten().map(|it| it.as_fd())
    }

    /// Lets go of those of [`Guest::waiting`] that have ended.
    pub fn settle(&mut self) {
        for entering in [&mut self.entering_ring, &mut self.entering_table] {
            if entering.as_ref().is_some_and(Entering::is_over) {
                *entering = None;
            }
        }
    }

    /// Begins the guest's end in a process that ends soon as well: whatever is left in its cgroup is
    /// killed, and its table and its ring buffer leave their maps. What has been recorded can still be
    /// read. When the guest is dropped, nothing of it is left, but processes of their own, children
    /// of this one, may go on to wait in the kernel for a few ticks of its clock, for the programs that
    /// may still see the guest's maps.
    pub fn begin_end(&mut self) {
        let _root = AsRoot::enter();
        if self.ending.is_none() {
            self.empty(Entering::leave);
            self.ending = Some(self.pins.begin_leaving(self.id()));
        }
    }

    /// Ends the guest as dropping it does after [`Guest::begin_end`].
    pub fn end(mut self) {
        self.begin_end();
    }

    /// What is to be over before the guest's entries are removed. An entry that comes later would stay.
    fn empty(&mut self, finish: impl Fn(Entering)) {
        let entering = [self.entering_ring.take(), self.entering_table.take()];
        entering.into_iter().flatten().for_each(finish);
        // The cgroup goes last: as long as it is there, whoever comes after a crash finds it, and
        // by it all that is left.
        fault::at(Point::EndBegun);
        if let Some(cgroup) = &self.cgroup {
            cgroup.clear();
        }
        fault::at(Point::ProcessesGone);
    }

    /// The pinned programs in use.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

fn unprepared() -> Error {
    Error::new("put a table into force: none is prepared")
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What cannot be removed is found by the next start.
        let _root = AsRoot::enter();
        let id = self.id();
        match self.ending.take() {
            Some(leaving) => self.pins.finish_leaving(id, leaving),
            None => {
                // Dropped, a process is waited for.
                self.empty(drop);
                self.pins.forget(id);
            }
        }
        fault::at(Point::EntriesGone);
        for table in [self.table.take(), self.prepared.take()].into_iter().flatten() {
            table.release(&self.pins.table_ids);
        }
        fault::at(Point::TableReleased);
        self.cgroup = None;
        fault::at(Point::CgroupRemoved);
    }
}
