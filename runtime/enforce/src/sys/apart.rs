//! System calls on maps of maps by a process that waits for them in this one's place, and goes on
//! when this one is gone.
//!
//! Whoever changes such a map waits until all programs that run have ended
//! (`maybe_wait_bpf_programs` in the kernel's kernel/bpf/syscall.c), long after the change is there.
//! A thread would do the waiting as well, but a process is not over as long as one of its threads
//! waits in the kernel; and those of `std` map and unmap their stacks and heaps while this one works in
//! the same memory, for which all processors on which it runs are interrupted.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr::NonNull,
    sync::atomic::{AtomicI32, Ordering},
};

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use syscalls::{Sysno, syscall3};

use super::map::{BPF_MAP_DELETE_ELEM, BPF_MAP_UPDATE_ELEM, MapElement};

/// For a function that calls nothing; the kernel has a stack of its own.
const STACK: usize = 16 * 1024;
/// The highest descriptor, for close_range(2).
const LAST_FD: usize = u32::MAX as usize;
/// As long as the kernel has not answered.
const PENDING: i32 = -1;

/// What the process works on.
struct Call {
    command: libc::c_long,
    map: RawFd,
    key: u64,
    value: RawFd,
    flags: u64,
    /// The descriptors that it keeps, sorted.
    kept: [RawFd; 2],
    /// [`PENDING`], an errno, or 0.
    result: AtomicI32,
}

/// One such call. The process that makes it has this one's memory, no descriptor but the ones it
/// needs, and hears no signal but SIGKILL; it is a child without threads or a name of its own. Dropped,
/// it is waited for.
#[derive(Debug)]
pub(crate) struct Apart {
    call: NonNull<Call>,
    stack: NonNull<[u128]>,
    process: OwnedFd,
}

// SAFETY: what is shared with the process is only read there, or atomic.
unsafe impl Send for Apart {}

impl Apart {
    /// Begins to remove the entry at `key`, of eight bytes.
    ///
    /// # Errors
    /// Of clone(2): then nothing was done.
    pub(crate) fn delete(map: BorrowedFd<'_>, key: u64) -> io::Result<Self> {
        let map = map.as_raw_fd();
        Self::begin(Call {
            command: BPF_MAP_DELETE_ELEM,
            map,
            key,
            value: 0,
            flags: 0,
            kept: [map; 2],
            result: AtomicI32::new(PENDING),
        })
    }

    /// Begins to enter the map `value` at `key`, of eight bytes. `flags` are those of bpf(2). It is
    /// entered also if this process is killed meanwhile.
    ///
    /// # Errors
    /// Of clone(2): then nothing was done.
    pub(crate) fn update(
        map: BorrowedFd<'_>,
        key: u64,
        value: BorrowedFd<'_>,
        flags: u64,
    ) -> io::Result<Self> {
        let (map, value) = (map.as_raw_fd(), value.as_raw_fd());
        let kept = [map.min(value), map.max(value)];
        Self::begin(Call {
            command: BPF_MAP_UPDATE_ELEM,
            map,
            key,
            value,
            flags,
            kept,
            result: AtomicI32::new(PENDING),
        })
    }

    fn begin(call: Call) -> io::Result<Self> {
        let call = NonNull::from(Box::leak(Box::new(call)));
        let stack = vec![0u128; STACK / 16].into_boxed_slice();
        let stack = NonNull::from(Box::leak(stack));
        // SAFETY: call and stack are the process's until it is gone, and are freed only then.
        match unsafe { clone_deaf(call, stack) } {
            Ok(process) => Ok(Self { call, stack, process }),
            Err(error) => {
                // SAFETY: there is no process; these are the boxes from above.
                unsafe { free(call, stack) };
                Err(error)
            }
        }
    }

    /// What the kernel has answered, if it has; an error if the process is gone without an answer.
    pub(crate) fn answer(&self) -> Option<io::Result<()>> {
        // Before the look at the answer, or one that came in between would be missed.
        let over = waitid(
            WaitId::PidFd(self.process.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
        )
        .map_or(true, |status| status.is_some());
        // SAFETY: it is freed when this is dropped.
        match unsafe { self.call.as_ref() }.result.load(Ordering::Acquire) {
            PENDING if over => Some(Err(io::ErrorKind::BrokenPipe.into())),
            PENDING => None,
            0 => Some(Ok(())),
            errno => Some(Err(io::Error::from_raw_os_error(errno))),
        }
    }

    /// Lets the process go on alone, for a process that ends soon: what they share is never freed.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl AsFd for Apart {
    /// Readable when the process is gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let ended = loop {
            match waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED) {
                Err(Errno::INTR) => {}
                // The kernel waits for children itself where nobody wants to hear of them, and says
                // this when it has.
                Err(Errno::CHILD) => break true,
                ended => break ended.is_ok(),
            }
        };
        if ended {
            // SAFETY: the process is gone, nobody else has the boxes.
            unsafe { free(self.call, self.stack) }
        }
    }
}

/// # Safety
/// The two are from [`Apart::begin`], and nobody uses them.
unsafe fn free(call: NonNull<Call>, stack: NonNull<[u128]>) {
    // SAFETY: says the caller.
    unsafe {
        drop(Box::from_raw(call.as_ptr()));
        drop(Box::from_raw(stack.as_ptr()));
    }
}

/// Starts the process. Returns a descriptor of it.
///
/// # Errors
/// Of clone(2).
///
/// # Safety
/// The two are there as long as the process is, and nobody else writes to them.
unsafe fn clone_deaf(call: NonNull<Call>, stack: NonNull<[u128]>) -> io::Result<OwnedFd> {
    // A handler would run on that stack, with this thread's variables.
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut process: RawFd = -1;
    // SAFETY: both sets are written before they are read. The function shares what else it sees with
    // nobody: it touches neither thread-local variables nor the heap. The stack is aligned to 16
    // bytes, as the ABI has it, and grows down from its end.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        let error = libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let pid = libc::clone(
            call_and_end,
            stack.cast::<u128>().add(stack.len()).as_ptr().cast(),
            libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD,
            call.as_ptr().cast(),
            &raw mut process,
        );
        let result = if pid < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(process))
        };
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        result
    }
}

/// The whole life of that process. It calls the kernel past libc, which would write `errno`: that is
/// another thread's here.
extern "C" fn call_and_end(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the caller gave a `Call` that is there as long as this process.
    let call = unsafe { &*argument.cast::<Call>() };
    // Nobody is to wait for the end of a pipe because of this process.
    // SAFETY: these descriptors are this process's own, which was started without `CLONE_FILES`.
    if !unsafe { close_all_but(&call.kept) } {
        return 1;
    }
    let mut attr = MapElement::at(call.map, &raw const call.key);
    // For a removal the kernel wants nothing else.
    if call.command == BPF_MAP_UPDATE_ELEM {
        attr = attr.with(&raw const call.value, call.flags);
    }
    // SAFETY: the attribute is a valid prefix of union bpf_attr, of the size given; key and value have
    // the sizes that those of the map have. The descriptors are open in this process, which began
    // with all of the caller's.
    let result = unsafe {
        let (attr, size) = (&raw mut attr as usize, size_of::<MapElement>());
        syscall3(Sysno::bpf, call.command as usize, attr, size)
    };
    let errno = result.err().map_or(0, |error| error.into_raw());
    call.result.store(errno, Ordering::Release);
    libc::c_int::from(errno != 0)
}

/// Whether it is done. `kept` is sorted.
///
/// # Safety
/// No other descriptor is anybody's.
unsafe fn close_all_but(kept: &[RawFd; 2]) -> bool {
    let mut low = 0;
    for &fd in kept {
        let fd = fd as usize;
        // SAFETY: says the caller.
        if fd > low && unsafe { syscall3(Sysno::close_range, low, fd - 1, 0) }.is_err() {
            return false;
        }
        low = fd + 1;
    }
    // SAFETY: says the caller.
    unsafe { syscall3(Sysno::close_range, low, LAST_FD, 0) }.is_ok()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        time::{Duration, Instant},
    };

    use super::*;

    fn maps() -> (OwnedFd, OwnedFd) {
        let object = aya_obj::Map::new_from_params(2, 4, 4, 1, 0);
        let inner = aya::maps::MapData::create(object, "inner", None).unwrap();
        let inner = inner.fd().as_fd().try_clone_to_owned().unwrap();
        (crate::sys::hash_of_maps("outer", 2, inner.as_fd()).unwrap(), inner)
    }

    fn update(map: &OwnedFd, key: u64, value: &OwnedFd) -> Apart {
        const NO_EXIST: u64 = 1;
        Apart::update(map.as_fd(), key, value.as_fd(), NO_EXIST).unwrap()
    }

    /// The errno that is answered in the end.
    fn answer(call: &Apart) -> Option<i32> {
        let begun = Instant::now();
        loop {
            match call.answer() {
                Some(result) => return result.err().map(|error| error.raw_os_error().unwrap()),
                None => assert!(begun.elapsed() < Duration::from_secs(60), "no answer"),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn has(map: &OwnedFd, key: u64) -> bool {
        crate::sys::has_key(map.as_fd(), key).unwrap()
    }

    #[test]
    fn entries_come_and_go() {
        let (map, inner) = maps();
        assert_eq!(answer(&update(&map, 7, &inner)), None);
        assert_eq!(answer(&update(&map, 7, &inner)), Some(libc::EEXIST));
        // Dropped, it is done.
        drop(update(&map, 8, &inner));
        assert!(has(&map, 7) && has(&map, 8));
        assert_eq!(answer(&update(&map, 9, &inner)), Some(libc::E2BIG));
        drop(Apart::delete(map.as_fd(), 7).unwrap());
        assert!(!has(&map, 7) && has(&map, 8));
        assert_eq!(answer(&Apart::delete(map.as_fd(), 7).unwrap()), Some(libc::ENOENT));
    }

    /// Left alone, it goes on.
    #[test]
    fn nobody_has_to_wait() {
        let (map, inner) = maps();
        drop(update(&map, 7, &inner));
        Apart::delete(map.as_fd(), 7).unwrap().leave();
        let begun = Instant::now();
        while has(&map, 7) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A process that is killed has no answer; that is told.
    #[test]
    fn a_killed_one_is_an_error() {
        let killed = (0..1000).any(|_| {
            let (map, inner) = maps();
            let call = update(&map, 7, &inner);
            rustix::process::pidfd_send_signal(&call.process, rustix::process::Signal::KILL)
                .unwrap();
            let begun = Instant::now();
            loop {
                match call.answer() {
                    Some(Ok(())) => break false,
                    Some(Err(error)) => break error.kind() == io::ErrorKind::BrokenPipe,
                    None => assert!(begun.elapsed() < Duration::from_secs(60), "no answer"),
                }
            }
        });
        assert!(killed, "each was faster than the signal");
    }

    /// Who holds the other end of a pipe until he ends is seen to have ended when the pipe is at its
    /// end; a process that has let go of it is then, in one of many trials at least, still waiting.
    #[test]
    fn no_descriptor_is_held() {
        type Begin = fn(&OwnedFd, &OwnedFd) -> Apart;
        let delete: Begin = |map, _| Apart::delete(map.as_fd(), 7).unwrap();
        let enter: Begin = |map, inner| update(map, 8, inner);
        for begin in [delete, enter] {
            let waits = |_| {
                let (map, inner) = maps();
                drop(update(&map, 7, &inner));
                let (mut pipe, writer) = std::io::pipe().unwrap();
                let call = begin(&map, &inner);
                drop(writer);
                assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap(), 0);
                call.answer().is_none()
            };
            assert!((0..1000).any(waits), "descriptors are held until the end");
        }
    }

    /// What cannot be done is not done; the caller hears other signals than before in neither case.
    #[test]
    fn a_descriptor_that_is_no_map_does_no_harm() {
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut after = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let (pipe, _writer) = std::io::pipe().unwrap();
        // SAFETY: sets that the calls fill.
        let same = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), before.as_mut_ptr());
            let call = Apart::delete(pipe.as_fd(), 7).unwrap();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), after.as_mut_ptr());
            assert_eq!(answer(&call), Some(libc::EINVAL));
            (1..32).all(|signal| {
                libc::sigismember(before.as_ptr(), signal)
                    == libc::sigismember(after.as_ptr(), signal)
            })
        };
        assert!(same);
    }
}
