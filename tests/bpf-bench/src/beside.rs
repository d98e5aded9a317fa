//! The other side: the same with aya, in this process.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, HashMap, MapData, RingBuf};
use aya::programs::TracePoint;
use aya::{Ebpf, EbpfLoader};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::producer::real_time;

/// What came of some samples.
pub(crate) struct Stream {
    /// How many there were.
    pub(crate) samples: u64,
    /// When the first came and when the last was taken, in nanoseconds of real time.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// How many did not come after the one before them.
    pub(crate) disordered: u64,
}

/// A tool that takes samples.
pub(crate) struct Samples {
    _object: Ebpf,
    counts: Array<MapData, [u64; 2]>,
    ring: RingBuf<MapData>,
    last: u64,
}

fn object(path: &Path) -> Result<Ebpf> {
    EbpfLoader::new().load_file(path).with_context(|| format!("load {}", path.display()))
}

fn attach(object: &mut Ebpf, program: &str, (category, name): (&str, &str)) -> Result<()> {
    let program = object.program_mut(program).context("the program is not there")?;
    let program: &mut TracePoint = program.try_into()?;
    program.load()?;
    program.attach(category, name)?;
    Ok(())
}

impl Samples {
    pub(crate) fn of(path: &Path, thread: u64, quiet: u64) -> Result<Self> {
        let mut object = object(path)?;
        let map = object.map_mut("wanted").context("the map is not there")?;
        Array::<_, [u64; 2]>::try_from(map)?.set(0, [thread, quiet], 0)?;
        let counts = object.take_map("counts").context("the map is not there")?.try_into()?;
        let ring = object.take_map("ring").context("the ring is not there")?.try_into()?;
        attach(&mut object, "to_ring", ("syscalls", "sys_enter_getppid"))?;
        Ok(Self { _object: object, counts, ring, last: 0 })
    }

    /// Takes so many samples, or those that come until for seconds none does.
    pub(crate) fn take(&mut self, wanted: u64) -> Result<Stream> {
        let mut stream = Stream { samples: 0, first: 0, end: 0, disordered: 0 };
        let mut idle = 0;
        while stream.samples < wanted && idle < 3 {
            let before = stream.samples;
            while stream.samples < wanted
                && let Some(sample) = self.ring.next()
            {
                let number = sample.first_chunk().context("a short sample")?;
                let number = u64::from_ne_bytes(*number);
                stream.disordered += u64::from(number != self.last + 1);
                self.last = number;
                if stream.samples == 0 {
                    stream.first = real_time();
                }
                stream.samples += 1;
            }
            if stream.samples == before {
                let mut fds = [PollFd::new(&self.ring, PollFlags::IN)];
                let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
                idle += u32::from(poll(&mut fds, Some(&timeout))? == 0);
            }
        }
        stream.end = real_time();
        Ok(stream)
    }

    /// What the object counted: samples that were sent, and that found no room.
    pub(crate) fn counts(&self) -> Result<[u64; 2]> {
        Ok(self.counts.get(&0, 0)?)
    }
}

/// Nanoseconds to load the object and attach its two programs.
pub(crate) fn load(path: &Path) -> Result<u64> {
    let bytes = std::fs::read(path)?;
    let start = Instant::now();
    let mut object = EbpfLoader::new().load(&bytes)?;
    attach(&mut object, "handle_exec", ("sched", "sched_process_exec"))?;
    attach(&mut object, "handle_exit", ("sched", "sched_process_exit"))?;
    Ok(nanoseconds(start))
}

/// Nanoseconds of so many lookups.
pub(crate) fn lookups(path: &Path, count: u64) -> Result<u64> {
    let mut object = object(path)?;
    let map = object.map_mut("started").context("the map is not there")?;
    let mut map = HashMap::<_, u32, u64>::try_from(map)?;
    map.insert(1, 7, 0)?;
    let start = Instant::now();
    for _ in 0..count {
        ensure!(black_box(map.get(&1, 0)?) == 7);
    }
    Ok(nanoseconds(start))
}

fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
