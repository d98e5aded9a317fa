//! Samples from ring buffers and from arrays of perf events.

use std::error::Error;
use std::io;
use std::mem::forget;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::maps::perf::{PerfBufferError, PerfEvent, PerfEventArrayBuffer};
use aya::maps::{MapData, MapError, PerfEventArray, RingBuf};
use aya_obj::generated::bpf_map_type as kinds;
use rustix::io::Errno;

use super::{LoadError, Map};

/// Pages of a perf buffer, of which every processor that is online has one.
const PERF_PAGES: usize = 64;

/// The reader of a map that programs write samples to. There should be one of each map: two would
/// take each other's samples.
///
/// Its descriptors say that samples came, not that some are there: call [`Buffer::collect`] until it
/// has no more before waiting for them (`perf_poll` in kernel/events/core.c forgets what it told).
pub struct Buffer {
    source: Source,
}

enum Source {
    Ring(RingBuf<MapData>),
    Perf(Perf),
}

struct Perf {
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    /// The one to begin with, so that none waits for ever behind one that is never empty.
    next: usize,
    /// A sample that did not fit: it is no longer in its buffer.
    held: Option<Vec<u8>>,
    lost: u64,
}

/// What was collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// How many samples.
    pub count: u32,
    /// There is at least one more that did not fit.
    pub more: bool,
}

impl Buffer {
    /// Opens a map of the kind `BPF_MAP_TYPE_RINGBUF` or `BPF_MAP_TYPE_PERF_EVENT_ARRAY`. In the
    /// latter every processor that is online gets a perf buffer of 64 pages; one that comes online
    /// later gets none, and what is sent there is lost without a count (`ENOENT` for the program).
    ///
    /// # Errors
    /// `EINVAL` if it is of another kind; those of mmap(2) and perf_event_open(2).
    pub fn open(map: &Map) -> Result<Self, LoadError> {
        let failed = |errno| LoadError::new("open the buffer", errno);
        let kind = map.kind();
        let data = || -> Result<MapData, LoadError> {
            let again = map.as_fd().try_clone_to_owned();
            let again = again.map_err(|error| failed(errno_of(&error)))?;
            MapData::from_fd(again).map_err(|error| failed(errno_of_map(&error)))
        };
        let source = if kind == kinds::BPF_MAP_TYPE_RINGBUF as u32 {
            let ring = RingBuf::try_from(aya::maps::Map::RingBuf(data()?));
            Source::Ring(ring.map_err(|error| failed(errno_of_map(&error)))?)
        } else if kind == kinds::BPF_MAP_TYPE_PERF_EVENT_ARRAY as u32 {
            Source::Perf(Perf::open(data()?)?)
        } else {
            return Err(failed(Errno::INVAL));
        };
        Ok(Self { source })
    }

    /// Adds samples to `out`, oldest first (of perf buffers: processor by processor): of each four
    /// bytes in little endian with the number of those that follow, and then its first bytes, at most
    /// `max_size`. Adds at most `limit` bytes, which should be no fewer than four; of a sample that is
    /// longer than that by itself, what fits.
    ///
    /// A sample of a perf buffer may end with up to seven bytes that the program did not send: the
    /// kernel rounds its size up and keeps no other (`perf_prepare_sample`, kernel/events/core.c).
    pub fn collect(&mut self, max_size: u32, limit: usize, out: &mut Vec<u8>) -> Collected {
        let mut into = Sink { max_size: max_size as usize, left: limit, count: 0, out };
        into.max_size = into.max_size.min(limit.saturating_sub(size_of::<u32>()));
        let more = match &mut self.source {
            Source::Ring(ring) => collect_ring(ring, &mut into),
            Source::Perf(perf) => perf.collect(&mut into),
        };
        Collected { count: into.count, more }
    }

    /// How many samples found no room, as far as was collected: what the perf buffers said. Of a ring
    /// buffer only the program knows, which gets an error for each.
    #[must_use]
    pub fn lost(&self) -> u64 {
        match &self.source {
            Source::Ring(_) => 0,
            Source::Perf(perf) => perf.lost,
        }
    }

    /// Descriptors that become readable when samples come: one, or as many as processors were online.
    #[must_use]
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match &self.source {
            Source::Ring(ring) => vec![ring.as_fd()],
            Source::Perf(perf) => perf.buffers.iter().map(|buffer| buffer.as_fd()).collect(),
        }
    }
}

/// Where samples go.
struct Sink<'a> {
    max_size: usize,
    left: usize,
    count: u32,
    out: &'a mut Vec<u8>,
}

impl Sink<'_> {
    /// Adds a sample that is in two pieces, and says whether there was room for it.
    fn add(&mut self, head: &[u8], tail: &[u8]) -> bool {
        let head = head.get(..self.max_size).unwrap_or(head);
        let tail = tail.get(..self.max_size - head.len()).unwrap_or(tail);
        let size = head.len() + tail.len();
        let (Some(left), Ok(length)) =
            (self.left.checked_sub(size_of::<u32>() + size), u32::try_from(size))
        else {
            return false;
        };
        self.left = left;
        self.count += 1;
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(tail);
        true
    }
}

fn collect_ring(ring: &mut RingBuf<MapData>, into: &mut Sink<'_>) -> bool {
    while let Some(sample) = ring.next() {
        if !into.add(&sample, &[]) {
            // What takes it out of the ring is its end. Without one it is the next again.
            forget(sample);
            return true;
        }
    }
    false
}

impl Perf {
    fn open(map: MapData) -> Result<Self, LoadError> {
        let failed = |errno| LoadError::new("open the perf buffers", errno);
        let entries = map.info().map_err(|error| failed(errno_of_map(&error)))?.max_entries();
        let mut array = PerfEventArray::try_from(aya::maps::Map::PerfEventArray(map))
            .map_err(|error| failed(errno_of_map(&error)))?;
        let mut buffers = Vec::new();
        for cpu in online_cpus()?.into_iter().filter(|cpu| *cpu < entries) {
            match array.open(cpu, Some(PERF_PAGES)).map_err(|error| errno_of_perf(&error)) {
                Ok(buffer) => buffers.push(buffer),
                // It went offline just now.
                Err(Errno::NODEV) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(Self { buffers, next: 0, held: None, lost: 0 })
    }

    fn collect(&mut self, into: &mut Sink<'_>) -> bool {
        if let Some(held) = self.held.take()
            && !into.add(&held, &[])
        {
            self.held = Some(held);
            return true;
        }
        let count = self.buffers.len();
        for at in (self.next..count).chain(0..self.next) {
            let Some(buffer) = self.buffers.get_mut(at) else { continue };
            let lost = &mut self.lost;
            // What the closure has seen is out of the buffer, also if it says Break.
            let stopped = buffer.try_fold((), |(), event| match event {
                PerfEvent::Sample { head, tail } if into.add(head, tail) => {
                    ControlFlow::Continue(())
                }
                PerfEvent::Sample { head, tail } => ControlFlow::Break([head, tail].concat()),
                PerfEvent::Lost { count } => {
                    *lost = lost.saturating_add(count);
                    ControlFlow::Continue(())
                }
            });
            if let ControlFlow::Break(sample) = stopped {
                self.held = Some(sample);
                self.next = (at + 1) % count;
                return true;
            }
        }
        self.next = 0;
        false
    }
}

/// The processors that are online.
pub(super) fn online_cpus() -> Result<Vec<u32>, LoadError> {
    aya::util::online_cpus()
        .map_err(|(path, error)| LoadError::new(format!("read {path}"), errno_of(&error)))
}

fn errno_of_map(error: &MapError) -> Errno {
    match error {
        MapError::IoError(error) => errno_of(error),
        error => error.source().map_or(Errno::IO, errno_of),
    }
}

fn errno_of_perf(error: &PerfBufferError) -> Errno {
    match error {
        PerfBufferError::IOError(error) => errno_of(error),
        error => error.source().map_or(Errno::IO, errno_of),
    }
}

/// The kernel's error behind one of a library's.
fn errno_of(error: &(dyn Error + 'static)) -> Errno {
    let mut next = Some(error);
    while let Some(error) = next {
        let errno = error.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
        if let Some(errno) = errno {
            return errno;
        }
        next = error.source();
    }
    Errno::IO
}
