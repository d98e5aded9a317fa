//! Maps of maps: what a guest has there, and how it comes in.

use std::{
    io,
    os::fd::AsFd as _,
    path::Path,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use aya::maps::{HashOfMaps, Map, MapData, MapError};

use crate::{
    error::{Error, Result, Step as _},
    sys,
};

/// How long to look for an entry without a pause: mostly it is there as soon as the thread runs.
const EAGER: Duration = Duration::from_millis(1);
/// The pause between looks after that.
const PAUSE: Duration = Duration::from_micros(200);

/// How many keys are listed to find one.
const LISTED: usize = 64;

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
        let data = || MapData::from_pin(pin).step(|| format!("open {}", pin.display()));
        let step = || format!("use {}", pin.display());
        let map = Map::from_map_data(data()?).step(step)?;
        Ok(Self { map: HashOfMaps::try_from(map).step(step)?, data: data()? })
    }

    /// Removes what a guest has.
    ///
    /// # Errors
    /// Of the system call, also if there is nothing.
    pub(crate) fn remove(&mut self, guest: u64) -> std::result::Result<(), MapError> {
        self.map.remove(&guest)
    }

    /// The guests that have something.
    pub(crate) fn guests(&self) -> impl Iterator<Item = u64> {
        self.map.keys().flatten()
    }

    /// Whether a guest has something, as far as can be said without waiting: kernels before 6.8 make
    /// whoever reads a value wait as if he had changed it (`bpf_map_copy_value` there), but not
    /// who lists keys. Among many guests the answer may be no although it has.
    pub(crate) fn has(&self, guest: u64) -> bool {
        self.guests().take(LISTED).any(|it| it == guest)
    }

    /// The kernel's number of the map that a guest has.
    ///
    /// # Errors
    /// Of the system call; `ENOENT` if it has none.
    pub(crate) fn id_of(&self, guest: u64) -> io::Result<u32> {
        sys::inner_map_id(self.data.fd().as_fd(), guest)
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

/// A new entry of a map of maps. It is there long before the system call that makes it returns: that
/// waits until all programs that run have ended (`maybe_wait_bpf_programs` in the kernel's
/// kernel/bpf/syscall.c), for the sake of those who replace an entry. A thread does the waiting.
pub(crate) struct Entering(JoinHandle<Result<()>>);

impl Entering {
    /// Calls `insert` on a thread named `name`.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn begin(
        name: &str,
        insert: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(insert);
        thread.map(Self).step(|| "start a thread".into())
    }

    /// Waits until `is_there` says so, or the system call has returned. [`None`] if it has.
    ///
    /// # Errors
    /// Of `insert`.
    pub(crate) fn seen(self, is_there: impl Fn() -> bool) -> Result<Option<Self>> {
        let begun = Instant::now();
        loop {
            if self.0.is_finished() {
                return self.finish().map(|()| None);
            }
            if is_there() {
                return Ok(Some(self));
            }
            if begun.elapsed() < EAGER {
                std::thread::yield_now();
            } else {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Waits until the system call has returned.
    ///
    /// # Errors
    /// Of `insert`.
    pub(crate) fn finish(self) -> Result<()> {
        self.0.join().map_err(|_| Error::new("enter a guest into a map"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen as soon as it is there; an error comes out, whoever asks for it.
    #[test]
    fn an_entry_is_seen_before_the_call_returns() {
        use std::sync::{Arc, atomic::AtomicBool, atomic::Ordering::SeqCst, mpsc};
        let there = Arc::new(AtomicBool::new(false));
        let (release, wait) = mpsc::channel();
        let entering = Entering::begin("test", {
            let there = there.clone();
            move || {
                there.store(true, SeqCst);
                // Not for ever, so that who waits for the end of the call fails instead of hanging.
                let released = wait.recv_timeout(Duration::from_secs(10));
                released.map_err(|error| Error::new("wait").because(error))
            }
        })
        .unwrap();
        let entering = entering.seen(|| there.load(SeqCst)).unwrap().expect("it still waits");
        release.send(()).unwrap();
        entering.finish().unwrap();

        let failing = || Entering::begin("test", || Err(Error::new("find room"))).unwrap();
        assert!(failing().seen(|| false).is_err());
        assert!(failing().finish().is_err());
    }
}
