//! A system call that goes on when this process is gone.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
};

use syscalls::{Sysno, syscall3};

use super::map::{BPF_MAP_DELETE_ELEM, MapElement};

/// For a function that calls nothing; the kernel has a stack of its own.
const STACK: usize = 16 * 1024;
/// The highest descriptor, for close_range(2).
const LAST_FD: usize = u32::MAX as usize;

/// What the process of [`map_delete_apart`] works on.
struct Delete {
    map: RawFd,
    key: u64,
}

/// Removes an entry of a map of maps whose keys have eight bytes, by a process that is nobody's to
/// wait for: whoever removes from such a map waits until all programs that run have ended
/// (`maybe_wait_bpf_programs` in the kernel's kernel/bpf/syscall.c), long after the entry is gone.
/// That process has this one's memory, no descriptor but the map's, and hears no signal but
/// SIGKILL. It is a child without threads or a name of its own; the memory it works on, 16 KiB, is
/// never freed. For a process that ends soon. Returns the pid.
///
/// # Errors
/// Of clone(2): then nothing was done. Whether the entry is gone has to be looked at.
pub(crate) fn map_delete_apart(map: BorrowedFd<'_>, key: u64) -> io::Result<i32> {
    let delete = Box::leak(Box::new(Delete { map: map.as_raw_fd(), key }));
    let stack: &'static mut [u128] = Box::leak(vec![0u128; STACK / 16].into_boxed_slice());
    let delete: *mut Delete = delete;
    // A handler would run on that stack, with this thread's variables.
    let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are written before they are read. The function gets memory that is never
    // freed or used by anybody else, and shares what else it sees with nobody: it touches neither
    // thread-local variables nor the heap. The stack is aligned to 16 bytes, as the ABI has it, and
    // grows down from its end.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        let error = libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let pid = libc::clone(
            delete_and_end,
            stack.as_mut_ptr_range().end.cast(),
            libc::CLONE_VM | libc::SIGCHLD,
            delete.cast(),
        );
        let result = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
        result
    }
}

/// The whole life of that process. It calls the kernel past libc, which would write `errno`: that is
/// another thread's here.
extern "C" fn delete_and_end(argument: *mut libc::c_void) -> libc::c_int {
    let delete: *mut Delete = argument.cast();
    // SAFETY: the caller gave a `Delete` to this function alone, for ever.
    let delete = unsafe { &*delete };
    let number = delete.map as usize;
    // Nobody is to wait for the end of a pipe, or for the lock of a cgroup, because of this process.
    // SAFETY: these descriptors are this process's own, which was started without `CLONE_FILES`.
    let closed = unsafe {
        (number == 0 || syscall3(Sysno::close_range, 0, number - 1, 0).is_ok())
            && syscall3(Sysno::close_range, number + 1, LAST_FD, 0).is_ok()
    };
    if !closed {
        return 1;
    }
    // SAFETY: the attribute is a valid prefix of union bpf_attr, of the size given. The descriptor is
    // open in this process, which began with all of the caller's.
    let result = unsafe {
        let mut attr = MapElement::at(BorrowedFd::borrow_raw(delete.map), &raw const delete.key);
        let (attr, size) = (&raw mut attr as usize, size_of::<MapElement>());
        syscall3(Sysno::bpf, BPF_MAP_DELETE_ELEM as usize, attr, size)
    };
    libc::c_int::from(result.is_err())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::fd::AsFd as _,
        time::{Duration, Instant},
    };

    use rustix::process::{Pid, WaitOptions, waitpid};

    use super::*;

    fn map_of_maps() -> std::os::fd::OwnedFd {
        let object = aya_obj::Map::new_from_params(2, 4, 4, 1, 0);
        let inner = aya::maps::MapData::create(object, "inner", None).unwrap();
        let map = crate::sys::hash_of_maps("outer", 8, inner.fd().as_fd()).unwrap();
        let mut outer = aya::maps::HashOfMaps::<_, u64, aya::maps::MapData>::try_from(
            aya::maps::Map::from_map_data(
                aya::maps::MapData::from_fd(map.try_clone().unwrap()).unwrap(),
            )
            .unwrap(),
        )
        .unwrap();
        for key in [7u64, 8] {
            outer.insert(key, &inner, 0).unwrap();
        }
        map
    }

    /// The entry goes, others stay, and the process ends with success.
    #[test]
    fn an_entry_is_removed_and_no_other() {
        let map = map_of_maps();
        let pid = map_delete_apart(map.as_fd(), 7).unwrap();
        let begun = Instant::now();
        while crate::sys::has_key(map.as_fd(), 7).unwrap() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(crate::sys::has_key(map.as_fd(), 8).unwrap());
        assert_eq!(ended(pid, WaitOptions::empty()), Some(Some(0)));
    }

    /// Who holds the other end of a pipe until he ends is seen to have ended when the pipe is at its
    /// end; a process that has let go of it is then, in one of many trials at least, still waiting.
    #[test]
    fn no_descriptor_is_held() {
        let waits = |_| {
            let map = map_of_maps();
            let (mut pipe, writer) = std::io::pipe().unwrap();
            let pid = map_delete_apart(map.as_fd(), 7).unwrap();
            drop(writer);
            assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap(), 0);
            let waits = ended(pid, WaitOptions::NOHANG).is_none();
            if waits {
                ended(pid, WaitOptions::empty());
            }
            waits
        };
        assert!((0..100).any(waits));
    }

    /// How a child ended, if it has.
    fn ended(pid: i32, options: WaitOptions) -> Option<Option<i32>> {
        let ended = waitpid(Pid::from_raw(pid), options).unwrap();
        ended.map(|(_, status)| status.exit_status())
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
            map_delete_apart(pipe.as_fd(), 7).unwrap();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), after.as_mut_ptr());
            (1..32).all(|signal| {
                libc::sigismember(before.as_ptr(), signal)
                    == libc::sigismember(after.as_ptr(), signal)
            })
        };
        assert!(same);
    }
}
