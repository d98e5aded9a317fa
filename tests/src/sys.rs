//! Raw system calls that no safe wrapper offers. The only room of this crate with `unsafe`.
#![allow(unsafe_code, reason = "this module is the room for it")]

pub mod bpf;

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use io_uring::{IoUring, opcode, squeue, types};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The descriptor `fd`, which the process got at its start.
///
/// # Errors
/// EBADF if it did not.
pub fn inherited(fd: RawFd) -> io::Result<BorrowedFd<'static>> {
    // SAFETY: fcntl with F_GETFD only looks.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: it is open, and nothing in an actor closes the descriptors that it was given.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// truncate(2).
///
/// # Errors
/// The call's.
pub fn truncate(path: &CStr, length: i64) -> io::Result<()> {
    // SAFETY: a string that ends with NUL.
    check(unsafe { libc::truncate(path.as_ptr(), length) }).map(drop)
}

/// clone(2) with these `CLONE_NEW*` flags, fork(2) if there are none; the child ends at once, the
/// parent waits for it.
///
/// # Errors
/// The call's.
pub fn clone_and_reap(flags: i32) -> io::Result<()> {
    let flags = i64::from(flags | libc::SIGCHLD);
    // SAFETY: no memory is shared, and the child calls _exit and nothing else.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } as libc::c_int)?;
    if pid == 0 {
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: status is a valid place for the result.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) }).map(drop)
}

/// The system call `number`. Where it takes an address, the test that asks for the call gives a
/// buffer as large as the call wants it.
///
/// # Errors
/// The call's.
pub fn raw(number: i64, args: [u64; 6]) -> io::Result<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: see above; an actor does nothing but what its test says.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Runs `child` in a forked copy of this process and says whether it returned true.
///
/// # Errors
/// Of fork(2) and waitpid(2).
pub fn in_child(child: impl FnOnce() -> bool) -> io::Result<bool> {
    // SAFETY: the callers have one thread, so the child may do what the parent may.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        let status = i32::from(!child());
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(status) }
    }
    let mut status = 0;
    // SAFETY: status is a valid place for the result.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
}

/// socket(2), closed on exec.
///
/// # Errors
/// The call's.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// socketpair(2).
///
/// # Errors
/// The call's.
pub fn socketpair(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    let mut pair = [0; 2];
    // SAFETY: a place for two descriptors.
    check(unsafe { libc::socketpair(family, kind, protocol, pair.as_mut_ptr()) })?;
    for fd in pair {
        // SAFETY: a new descriptor that nobody else owns.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    Ok(())
}

/// connect(2) to a raw sockaddr.
///
/// # Errors
/// The call's.
pub fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as there are.
    check(unsafe {
        libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as u32)
    })
    .map(drop)
}

/// bind(2) to a raw sockaddr.
///
/// # Errors
/// The call's.
pub fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as there are.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), address.len() as u32) })
        .map(drop)
}

/// sendto(2) of `bytes` to a raw sockaddr; none if it is empty.
///
/// # Errors
/// The call's.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], flags: i32, address: &[u8]) -> io::Result<()> {
    let to = if address.is_empty() { std::ptr::null() } else { address.as_ptr() };
    // SAFETY: the kernel reads as many bytes as there are.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
            to.cast(),
            address.len() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// ioctl(2) with the address of 64 bytes, through `int 0x80`: the kernel takes it for the call of a
/// 32-bit program.
///
/// # Errors
/// The call's.
pub fn ioctl32(file: BorrowedFd<'_>, request: u32) -> io::Result<()> {
    /// `__NR_ioctl` (asm/unistd_32.h).
    const IOCTL: u64 = 54;
    let length = 4096;
    let (read_write, private) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, of nothing that is in use, at an address that 32 bits can name.
    let place = unsafe {
        libc::mmap(std::ptr::null_mut(), length, read_write, private | libc::MAP_32BIT, -1, 0)
    };
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let address = place.expose_provenance() as u64;
    let mut result = IOCTL;
    // SAFETY: the call writes to the mapping only, which is as long as any request's argument. RBX
    // is the compiler's, so it is put aside; the kernel may clear R8 to R11.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) file.as_raw_fd() as u64 => _,
            inout("rax") result,
            in("rcx") u64::from(request),
            in("rdx") address,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    // SAFETY: the mapping made above, to which nothing points any more.
    unsafe { libc::munmap(place, length) };
    // 32 bits came back.
    let result = result as u32 as i32;
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

/// One request that does nothing, made as whoever this process is: with credentials that it
/// registers first.
///
/// # Errors
/// What the kernel answers, or the request.
pub fn ring_with_credentials() -> io::Result<()> {
    let mut ring = IoUring::new(2)?;
    let credentials = ring.submitter().register_personality()?;
    one_request(&mut ring, &opcode::Nop::new().build().personality(credentials))
}

/// One command, of a kind that is none of its driver's.
///
/// # Errors
/// What the kernel answers, or the request.
pub fn ring_command(file: BorrowedFd<'_>) -> io::Result<()> {
    let mut ring = IoUring::new(2)?;
    let file = types::Fd(file.as_raw_fd());
    one_request(&mut ring, &opcode::UringCmd16::new(file, 0).build())
}

fn one_request(ring: &mut IoUring, request: &squeue::Entry) -> io::Result<()> {
    // SAFETY: the requests made here name no memory.
    unsafe { ring.submission().push(request) }
        .map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
    ring.submit_and_wait(1)?;
    let answer = ring.completion().next();
    match answer.map(|answer| answer.result()) {
        Some(error) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        Some(_) => Ok(()),
        None => Err(io::Error::from_raw_os_error(libc::ENODATA)),
    }
}
