//! The end of a process that a test wants dead.

/// SIGKILL for this process, the one way that a worker's seccomp list lets through.
pub(crate) fn kill_myself() -> ! {
    // SAFETY: system calls on plain numbers.
    unsafe {
        let thread = libc::syscall(libc::SYS_gettid);
        libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGKILL);
    }
    // In a pid namespace of its own, whose first process it is, the kernel ignores that and the signal
    // of abort as well. What abort does then is a crash: SIGSEGV.
    std::process::abort()
}
