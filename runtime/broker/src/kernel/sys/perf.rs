//! perf_event_open(2).

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use aya_obj::generated::{
    PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, PERF_FLAG_FD_CLOEXEC, perf_event_attr,
    perf_type_id::PERF_TYPE_TRACEPOINT,
};
use rustix::io::Errno;

use super::{answer, owned};

/// An event, of all processes.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) enum Event<'a> {
    /// A tracepoint by its number.
    Tracepoint(u64),
    /// A probe of a function of the kernel's, or in a file.
    Probe {
        /// Number of the unit that makes such probes.
        pmu: u32,
        /// Bits that this unit takes.
        config: u64,
        /// The function's name, or the file's path.
        place: &'a CStr,
        /// From there, in bytes.
        offset: u64,
    },
    /// A counter of which every so many counts are an event. It does not count before it is enabled.
    Counter {
        /// `enum perf_type_id`.
        kind: u32,
        /// Which of these.
        config: u64,
        /// How often it is an event.
        sampling: Sampling,
    },
}

/// How often a counter is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Sampling {
    /// After so many counts.
    Period(u64),
    /// About so many times a second; the kernel chooses periods for that.
    Frequency(u64),
}

/// Opens an event on one processor. A tracepoint's or a probe's program runs on all of them for that.
pub(in crate::kernel) fn perf_event_open(event: Event<'_>, cpu: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: perf_event_attr is a struct of integers and unions of integers, for which zeros are a
    // value.
    let mut attr: perf_event_attr = unsafe { std::mem::zeroed() };
    attr.size = size_of::<perf_event_attr>() as u32;
    match event {
        Event::Tracepoint(id) => {
            attr.type_ = PERF_TYPE_TRACEPOINT as u32;
            attr.config = id;
        }
        Event::Probe { pmu, config, place, offset } => {
            attr.type_ = pmu;
            attr.config = config;
            attr.__bindgen_anon_3.config1 = place.as_ptr() as u64;
            attr.__bindgen_anon_4.config2 = offset;
        }
        Event::Counter { kind, config, sampling } => {
            attr.type_ = kind;
            attr.config = config;
            attr.set_disabled(1);
            match sampling {
                Sampling::Period(counts) => attr.__bindgen_anon_1.sample_period = counts,
                Sampling::Frequency(times) => {
                    attr.set_freq(1);
                    attr.__bindgen_anon_1.sample_freq = times;
                }
            }
        }
    }
    let cpu = libc::c_int::try_from(cpu).map_err(|_| Errno::INVAL)?;
    let (every_process, no_group) = (-1 as libc::pid_t, -1 as libc::c_int);
    // SAFETY: the attribute is valid for the size in it, and its place is a string that the kernel
    // reads to its NUL.
    let fd = answer(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            every_process,
            cpu,
            no_group,
            libc::c_ulong::from(PERF_FLAG_FD_CLOEXEC),
        )
    })?;
    // SAFETY: the call gives a new descriptor.
    unsafe { owned(fd) }
}

/// Lets an event count.
pub(in crate::kernel) fn perf_enable(event: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: this request takes a number and no address.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE as _, 0) };
    answer(result.into()).map(drop)
}

/// Attaches a program to an event for as long as the event lives.
pub(in crate::kernel) fn perf_set_program(
    event: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let program = program.as_raw_fd();
    // SAFETY: this request takes a descriptor and no address.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF as _, program) };
    answer(result.into()).map(drop)
}
