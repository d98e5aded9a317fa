//! What is attached to a perf event: tracepoints, probes, counters.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type::BPF_PERF_EVENT, perf_type_id};
use rustix::io::Errno;

use super::{Link, LoadError, failed, text, tracefs};
use crate::kernel::buffers::online_cpus;
use crate::kernel::sys::{self, Event, Sampling, Target};

/// Where the kernel says what makes events.
const UNITS: &str = "/sys/bus/event_source/devices";

/// Samples a second on every processor of what counts all the time. Not a multiple of the frequencies
/// of the kernel's own timers, with which it would be in step: perf's choice, too.
const FREQUENCY: Sampling = Sampling::Frequency(99);
/// What happens seldom enough that each is an event.
const EACH: Sampling = Sampling::Period(1);

const SOFTWARE: u32 = perf_type_id::PERF_TYPE_SOFTWARE as u32;
const HARDWARE: u32 = perf_type_id::PERF_TYPE_HARDWARE as u32;

/// The counters that [`perf_event`] knows, with their numbers (`enum perf_sw_ids` and `perf_hw_id`,
/// uapi/linux/perf_event.h).
const COUNTERS: [(&str, u32, u64, Sampling); 13] = [
    ("cpu-clock", SOFTWARE, 0, FREQUENCY),
    ("task-clock", SOFTWARE, 1, FREQUENCY),
    ("page-faults", SOFTWARE, 2, EACH),
    ("context-switches", SOFTWARE, 3, EACH),
    ("cpu-migrations", SOFTWARE, 4, EACH),
    ("minor-faults", SOFTWARE, 5, EACH),
    ("major-faults", SOFTWARE, 6, EACH),
    ("cpu-cycles", HARDWARE, 0, FREQUENCY),
    ("instructions", HARDWARE, 1, FREQUENCY),
    ("cache-references", HARDWARE, 2, FREQUENCY),
    ("cache-misses", HARDWARE, 3, FREQUENCY),
    ("branch-instructions", HARDWARE, 4, FREQUENCY),
    ("branch-misses", HARDWARE, 5, FREQUENCY),
];

/// Attaches a program to a tracepoint, like `sched` and `sched_process_exec`.
///
/// # Errors
/// `ENOENT` if the kernel has no such tracepoint; `EACCES` if the program reads beyond its end
/// (`__perf_event_set_bpf_prog`, kernel/events/core.c); `EEXIST` if it is attached there already, and
/// `E2BIG` if 64 programs are (`perf_event_attach_bpf_prog`, kernel/trace/bpf_trace.c).
pub fn tracepoint(program: BorrowedFd<'_>, category: &str, name: &str) -> Result<Link, LoadError> {
    let step = || format!("attach to the tracepoint {category}/{name}");
    tracefs::tracepoint(category, name)
        .and_then(|id| attach_once(program, Event::Tracepoint(id)))
        .map_err(failed(step))
}

/// Attaches a program to an instruction of a function of the kernel's, `offset` bytes after its
/// beginning; or to where the function returns, and then the offset is 0.
///
/// # Errors
/// `ENOENT` if there is no such function, or none so long, or if the kernel has no kprobes;
/// `EADDRNOTAVAIL` if several functions have that name; `EINVAL` if it may not be probed; `EILSEQ` if
/// no instruction begins there (`perf_kprobe_init`, kernel/trace/trace_event_perf.c;
/// `register_kprobe`, kernel/kprobes.c).
pub fn kprobe(
    program: BorrowedFd<'_>,
    function: &str,
    offset: u64,
    on_return: bool,
) -> Result<Link, LoadError> {
    let step = || format!("attach to the function {function:?} of the kernel");
    let function = text(function, step)?;
    probe(program, "kprobe", &function, offset, on_return).map_err(failed(step))
}

/// Attaches a program to an instruction in a file, at `offset` bytes from the file's beginning (see
/// [`symbol_offset`](crate::kernel::elf::symbol_offset)); or to where the function that begins there
/// returns. It sees all processes that have the file mapped, and those that map it later.
///
/// The kernel finds the file by its descriptor, so it is the one that the caller looked at, whatever
/// its path names meanwhile.
///
/// # Errors
/// `EINVAL` if it is no regular file, or the offset is beyond its end; `ENOTSUPP` (524) if the
/// instruction there cannot be probed; `ENOENT` if the kernel has no uprobes, or if there is no /proc.
pub fn uprobe(
    program: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    on_return: bool,
) -> Result<Link, LoadError> {
    let step = || "attach to an instruction of a file";
    let path = text(&format!("/proc/self/fd/{}", file.as_raw_fd()), step)?;
    probe(program, "uprobe", &path, offset, on_return).map_err(failed(step))
}

/// Attaches a program to a counter of perf's on every processor that is online. It runs 99 times a
/// second on each for counters that count all the time (`cpu-clock`, `task-clock`, `cpu-cycles`,
/// `instructions`, `cache-references`, `cache-misses`, `branch-instructions`, `branch-misses`), and
/// each time for the others (`page-faults`, `minor-faults`, `major-faults`, `context-switches`,
/// `cpu-migrations`), until there are more of them than `kernel.perf_event_max_sample_rate` a second.
///
/// # Errors
/// `EINVAL` for other names; `ENOENT` or `EOPNOTSUPP` if the processor does not count that, as in most
/// virtual machines.
pub fn perf_event(program: BorrowedFd<'_>, counter: &str) -> Result<Link, LoadError> {
    let step = || format!("attach to the counter {counter:?}");
    let known = COUNTERS.iter().find(|(name, ..)| *name == counter);
    let (_, kind, config, sampling) = *known.ok_or_else(|| failed(step)(Errno::INVAL))?;
    let mut descriptors = Vec::new();
    for cpu in online_cpus()? {
        match sys::perf_event_open(Event::Counter { kind, config, sampling }, cpu) {
            Ok(event) => descriptors.push(attach(program, event).map_err(failed(step))?),
            // It went offline just now.
            Err(Errno::NODEV) => {}
            Err(errno) => return Err(failed(step)(errno)),
        }
    }
    Ok(Link { descriptors })
}

fn probe(
    program: BorrowedFd<'_>,
    unit: &str,
    place: &CStr,
    offset: u64,
    on_return: bool,
) -> Result<Link, Errno> {
    let pmu = number(&format!("{UNITS}/{unit}/type"), "")?;
    let pmu = u32::try_from(pmu).map_err(|_| Errno::IO)?;
    let config = if on_return {
        let bit = number(&format!("{UNITS}/{unit}/format/retprobe"), "config:")?;
        u32::try_from(bit).ok().and_then(|bit| 1_u64.checked_shl(bit)).ok_or(Errno::IO)?
    } else {
        0
    };
    attach_once(program, Event::Probe { pmu, config, place, offset })
}

/// A number that the kernel shows in a file, after a prefix.
fn number(path: &str, prefix: &str) -> Result<u64, Errno> {
    let text = fs::read_to_string(path)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    text.trim().strip_prefix(prefix).and_then(|it| it.parse().ok()).ok_or(Errno::IO)
}

/// Attaches to an event that is opened on one processor for all of them.
fn attach_once(program: BorrowedFd<'_>, event: Event<'_>) -> Result<Link, Errno> {
    // Not on processor 0 in any case: there are machines where it may be offline.
    let cpus = online_cpus().map_err(|error| error.errno)?;
    let event = sys::perf_event_open(event, *cpus.first().ok_or(Errno::NODEV)?)?;
    attach(program, event).map(Link::of)
}

/// Attaches to an event and lets it count. What is given back keeps the event, too: a link holds it.
fn attach(program: BorrowedFd<'_>, event: OwnedFd) -> Result<OwnedFd, Errno> {
    let target = Target::Descriptor(event.as_fd());
    let held = match sys::link_create(program, target, BPF_PERF_EVENT as u32, 0) {
        Ok(link) => Some(link),
        // Before Linux 5.15 there are no such links, and the event itself holds the program.
        Err(Errno::INVAL) => {
            sys::perf_set_program(event.as_fd(), program)?;
            None
        }
        Err(errno) => return Err(errno),
    };
    sys::perf_enable(event.as_fd())?;
    Ok(held.unwrap_or(event))
}
