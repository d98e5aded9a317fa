//! The end of a process that a test wants dead.

/// SIGKILL for this process, the one way that a worker's seccomp list lets through.
pub(crate) fn kill_myself() -> ! {
    // SAFETY: system calls on plain numbers.
    unsafe {
        let thread = libc::syscall(libc::SYS_gettid);
        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGKILL);
    }
    // Only if the kernel refused: the test sees another signal than it expects.
    std::process::abort()
}
