//! The system calls themselves. The only room of this crate with `unsafe`.
//!
//! Nothing here protects this process: a script may unmap its stack. That is the point, it does
//! what hostile code would do.
#![allow(unsafe_code, reason = "this module is the room for it")]

use std::arch::asm;
use std::ptr;

use crate::script::Entry;

/// Bytes at an address of their own, which the kernel may read and change.
pub(crate) struct Memory {
    bytes: *mut u8,
    length: usize,
}

// SAFETY: bytes without an owner among threads, as the kernel sees them. In a race each side writes
// to buffers of its own; that one thread changes what the kernel reads for another is the point.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let bytes = Box::into_raw(bytes.into_boxed_slice());
        Self { bytes: bytes.cast(), length: bytes.len() }
    }

    pub(crate) fn address(&self) -> u64 {
        self.bytes.expose_provenance() as u64
    }

    /// Makes it zeros again.
    pub(crate) fn clear(&self) {
        self.write(0, &vec![0; self.length]);
    }

    pub(crate) fn copy(&self) -> Vec<u8> {
        let mut copy = vec![0; self.length];
        // SAFETY: as many bytes as this memory has, to as many of a new one.
        unsafe { ptr::copy_nonoverlapping(self.bytes, copy.as_mut_ptr(), self.length) };
        copy
    }

    /// Four bytes of it.
    pub(crate) fn word(&self, offset: usize) -> Option<u64> {
        let word = self.copy().get(offset..)?.first_chunk().copied()?;
        Some(u64::from(u32::from_ne_bytes(word)))
    }

    /// False if there is no such place.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        if offset.checked_add(bytes.len()).is_none_or(|end| end > self.length) {
            return false;
        }
        // SAFETY: it ends within this memory, as was looked just now.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.bytes.add(offset), bytes.len()) };
        true
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: what `new` took out of its box, with the length that it had.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.bytes, self.length)) });
    }
}

/// Makes a system call and answers what the kernel answers. Where the call makes a child, which
/// may share all memory with this process, that child touches no memory at all: it ends, or it
/// waits for ever.
pub(crate) fn enter(entry: Entry, number: u64, arguments: [u64; 6]) -> i64 {
    let child = [libc::SYS_clone, libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone3];
    match entry {
        Entry::Plain if child.contains(&(number as i64)) => with_child(number, arguments),
        Entry::Plain => plain(number, arguments),
        Entry::Stay => staying(number, arguments),
        Entry::Int80 => int80(number, arguments),
    }
}

fn plain(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> i64 {
    let mut result = number;
    // SAFETY: not safe at all, see above; the compiler is told of the registers that change.
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            out("rcx") _, out("r11") _,
        );
    }
    result as i64
}

/// A call that may make a child, which goes on with these instructions: they lead nowhere else.
macro_rules! call_with_child {
    ($call:expr, [$($child:literal),+], $name:ident = $number:expr) => {{
        let (mut result, [a, b, c, d, e, f]) = $call;
        // SAFETY: as in `plain`.
        unsafe {
            asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                $($child,)+
                "2:",
                $name = const $number,
                inout("rax") result,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
                out("rcx") _, out("r11") _,
            );
        }
        result as i64
    }};
}

/// The child ends: exit(0).
fn with_child(number: u64, arguments: [u64; 6]) -> i64 {
    call_with_child!(
        (number, arguments),
        ["xor edi, edi", "mov eax, {exit}", "syscall"],
        exit = libc::SYS_exit
    )
}

/// The child waits for ever: poll(NULL, 0, -1), again and again.
fn staying(number: u64, arguments: [u64; 6]) -> i64 {
    call_with_child!(
        (number, arguments),
        [
            "3:",
            "xor edi, edi",
            "xor esi, esi",
            "mov rdx, -1",
            "mov eax, {poll}",
            "syscall",
            "jmp 3b"
        ],
        poll = libc::SYS_poll
    )
}

fn int80(number: u64, [a, b, c, d, e, _]: [u64; 6]) -> i64 {
    let mut result = number;
    // SAFETY: as in `plain`. RBX is the compiler's, so it is put aside; the kernel may clear R8 to
    // R11.
    unsafe {
        asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) a => _,
            inout("rax") result,
            in("rcx") b, in("rdx") c, in("rsi") d, in("rdi") e,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    // 32 bits came back.
    i64::from(result as u32 as i32)
}
