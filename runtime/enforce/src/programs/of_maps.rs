//! Maps of maps: what a guest has there, and how it comes in.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    time::{Duration, Instant},
};

use aya::maps::{HashOfMaps, Map, MapData, MapError};

use crate::{
    error::{Result, Step as _},
    sys,
};

/// The pause between two looks at an entry: mostly it is there as soon as the other process runs. A
/// thread that only yields keeps its processor from that for a millisecond and more.
const PAUSE: Duration = Duration::from_micros(50);

/// How long an entry may take to go, where nobody waits for the call that removes it.
const GOING: Duration = Duration::from_secs(1);

/// A map of maps: the cgroup's id to a map of the guest's.
pub(crate) struct OfMaps {
    map: HashOfMaps<MapData, u64, MapData>,
    /// The same map.
    data: MapData,
}

impl OfMaps {
    /// The map that is pinned at `pin`.
    ///
    /// # Errors
    /// If it cannot be opened, or is another one.
    pub(crate) fn open(pin: &Path) -> Result<Self> {
        let data = MapData::from_pin(pin).step(|| format!("open {}", pin.display()))?;
        Self::of(data, || format!("use {}", pin.display()))
    }

    fn of(data: MapData, step: impl Fn() -> String + Copy) -> Result<Self> {
        let map = Map::from_map_data(another(&data).step(step)?).step(step)?;
        Ok(Self { map: HashOfMaps::try_from(map).step(step)?, data })
    }

    /// Removes what a guest has.
    ///
    /// # Errors
    /// Of the system call, also if there is nothing.
    pub(crate) fn remove(&mut self, guest: u64) -> std::result::Result<(), MapError> {
        self.map.remove(&guest)
    }

    /// Begins to remove what a guest has; [`OfMaps::finish_removal`] sees that it is gone. In between
    /// a process of its own waits in the kernel, and goes on to wait when this one has ended.
    ///
    /// # Errors
    /// If there is no process to be had. Then nothing has begun.
    pub(crate) fn begin_removal(&self, guest: u64) -> io::Result<()> {
        sys::Apart::delete(self.data.fd().as_fd(), guest).map(sys::Apart::leave)
    }

    /// Waits until what a guest has is gone, and removes it if nobody else does.
    pub(crate) fn finish_removal(&mut self, guest: u64) {
        let begun = Instant::now();
        while begun.elapsed() < GOING {
            // In doubt it is not gone.
            if sys::has_key(self.data.fd().as_fd(), guest).is_ok_and(|has| !has) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        // An error says that there is nothing.
        let _ = self.remove(guest);
    }

    /// The guests that have something.
    pub(crate) fn guests(&self) -> impl Iterator<Item = u64> {
        self.map.keys().flatten()
    }

    /// Whether a guest has something; no if the kernel does not tell.
    pub(crate) fn has(&self, guest: u64) -> bool {
        sys::has_key(self.data.fd().as_fd(), guest).unwrap_or(false)
    }

    /// Begins to give a guest a map. `flags` are those of bpf(2). If this process is killed before the
    /// entry is there, it may come after the next start has tidied up; then it is for `gc`, which
    /// removes entries without a cgroup, and harms nobody: no other cgroup gets that id.
    ///
    /// # Errors
    /// If there is no process to be had.
    pub(crate) fn begin_insert(
        &self,
        guest: u64,
        map: BorrowedFd<'_>,
        flags: u64,
    ) -> std::result::Result<Entering, MapError> {
        let begun = sys::Apart::update(self.data.fd().as_fd(), guest, map, flags);
        begun.map(|call| Entering { call, seen: false }).map_err(refused)
    }

    /// Gives a guest a map. `flags` are those of bpf(2).
    ///
    /// # Errors
    /// Of the system call.
    pub(crate) fn insert(
        &mut self,
        guest: u64,
        map: &MapData,
        flags: u64,
    ) -> std::result::Result<(), MapError> {
        self.map.insert(guest, map, flags)
    }
}

fn another(map: &MapData) -> std::result::Result<MapData, MapError> {
    let fd = map.fd().as_fd().try_clone_to_owned().map_err(|io_error| {
        MapError::SyscallError(aya::sys::SyscallError { call: "fcntl", io_error })
    })?;
    MapData::from_fd(fd)
}

/// A new entry of a map of maps. It is there long before the system call that makes it returns: that
/// waits until all programs that run have ended (`maybe_wait_bpf_programs` in the kernel's
/// kernel/bpf/syscall.c), for the sake of those who replace an entry. A process of its own does the
/// waiting.
#[derive(Debug)]
pub(crate) struct Entering {
    call: sys::Apart,
    /// The entry is there.
    seen: bool,
}

impl Entering {
    /// Waits until `is_there` says so, or the system call has returned. [`None`] if it has.
    ///
    /// # Errors
    /// Of the system call.
    pub(crate) fn seen(
        mut self,
        is_there: impl Fn() -> bool,
    ) -> std::result::Result<Option<Self>, MapError> {
        loop {
            if let Some(answer) = self.call.answer() {
                return answer.map(|()| None).map_err(refused);
            }
            if is_there() {
                self.seen = true;
                return Ok(Some(self));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the system call has returned.
    ///
    /// # Errors
    /// Of the system call.
    pub(crate) fn finish(self) -> std::result::Result<(), MapError> {
        self.seen(|| false).map(drop)
    }

    /// Whether the system call has returned.
    pub(crate) fn is_over(&self) -> bool {
        self.call.answer().is_some()
    }

    /// Sees that the entry does not come later any more, in a process that ends soon: whoever waits in
    /// the kernel for others does so alone. An error says that it does not come at all.
    pub(crate) fn leave(self) {
        if self.seen {
            self.call.leave();
        }
    }
}

impl AsFd for Entering {
    /// Readable when the system call has returned.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.call.as_fd()
    }
}

fn refused(io_error: io::Error) -> MapError {
    MapError::SyscallError(aya::sys::SyscallError { call: "bpf_map_update_elem", io_error })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen as soon as it is there; an error comes out, whoever asks for it.
    #[test]
    fn an_entry_is_seen_and_an_error_comes_out() {
        let map = || {
            let object = aya_obj::Map::new_from_params(2, 4, 4, 1, 0);
            MapData::create(object, "inner", None).unwrap()
        };
        let outer = sys::hash_of_maps("outer", 1, map().fd().as_fd()).unwrap();
        let outer = OfMaps::of(MapData::from_fd(outer).unwrap(), || "use it".into()).unwrap();
        let entering = outer.begin_insert(7, map().fd().as_fd(), 0).unwrap();
        let entering = entering.seen(|| outer.has(7)).unwrap();
        entering.map_or(Ok(()), Entering::finish).unwrap();
        assert!(outer.has(7));

        let full = || outer.begin_insert(8, map().fd().as_fd(), 0).unwrap();
        let errno = |error: MapError| match error {
            MapError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        };
        assert_eq!(full().seen(|| false).map(drop).map_err(errno), Err(Some(libc::E2BIG)));
        assert_eq!(full().finish().map_err(errno), Err(Some(libc::E2BIG)));
    }
}
