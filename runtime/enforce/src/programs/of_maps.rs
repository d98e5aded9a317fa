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

    /// Begins to remove what a guest has; [`OfMaps::finish_removal`] sees that it is gone. In between
    /// a process of its own waits in the kernel, and goes on to wait when this one has ended.
    ///
    /// # Errors
    /// If there is no process to be had. Then nothing has begun.
    pub(crate) fn begin_removal(&self, guest: u64) -> io::Result<()> {
        sys::map_delete_apart(self.data.fd().as_fd(), guest).map(drop)
    }

    /// Waits until what a guest has is gone, and removes it if nobody else does.
    pub(crate) fn finish_removal(&mut self, guest: u64) {
        let begun = Instant::now();
        while begun.elapsed() < GOING {
            // In doubt it is not gone.
            if sys::has_key(self.data.fd().as_fd(), guest).is_ok_and(|has| !has) {
                return;
            }
            pause(begun);
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

/// Between two looks at something that began at `begun` and is done soon.
fn pause(begun: Instant) {
    if begun.elapsed() < EAGER {
        std::thread::yield_now();
    } else {
        std::thread::sleep(PAUSE);
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
            pause(begun);
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
