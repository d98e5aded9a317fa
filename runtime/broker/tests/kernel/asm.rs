//! Programs for the tests, instruction by instruction (`struct bpf_insn`, uapi/linux/bpf.h).

use std::os::fd::{AsRawFd as _, BorrowedFd};

const LOOKUP: i32 = 1;
const CURRENT_PID_TGID: i32 = 14;
const PERF_EVENT_OUTPUT: i32 = 25;
const RINGBUF_OUTPUT: i32 = 130;

/// Where the sample begins on the stack, and how long it may be.
const SAMPLE: i32 = 256;

const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | ((dst | src << 4) as u64) << 8
        | (off.cast_unsigned() as u64) << 16
        | (imm.cast_unsigned() as u64) << 32
}

pub(crate) fn mov(dst: u8, imm: i32) -> u64 {
    insn(0xb7, dst, 0, 0, imm)
}

pub(crate) fn exit() -> u64 {
    insn(0x95, 0, 0, 0, 0)
}

fn copy(dst: u8, src: u8) -> u64 {
    insn(0xbf, dst, src, 0, 0)
}

fn add(dst: u8, imm: i32) -> u64 {
    insn(0x07, dst, 0, 0, imm)
}

fn call(function: i32) -> u64 {
    insn(0x85, 0, 0, 0, function)
}

/// dst = *(u64 *)(src + off)
pub(crate) fn load(dst: u8, src: u8, off: i16) -> u64 {
    insn(0x79, dst, src, off, 0)
}

/// *(u64 *)(dst + off) = src
fn store(dst: u8, off: i16, src: u8) -> u64 {
    insn(0x7b, dst, src, off, 0)
}

/// A map's address, which takes two instructions.
fn map(dst: u8, map: BorrowedFd<'_>) -> [u64; 2] {
    [insn(0x18, dst, 1, 0, map.as_raw_fd()), 0]
}

/// Puts instructions between those that leave the program, if another thread runs it or the map has
/// no element 0, and its end. They find the context in r6 and the element in r7.
fn around(counter: BorrowedFd<'_>, thread: Option<i32>, body: &[u64], answer: i32) -> Vec<u64> {
    let [low, high] = map(1, counter);
    let find = [
        insn(0x62, 10, 0, -4, 0), // *(u32 *)(r10 - 4) = 0
        copy(2, 10),
        add(2, -4),
        low,
        high,
        call(LOOKUP),
        insn(0x15, 0, 0, body.len() as i16 + 1, 0), // if r0 == 0 leave
        copy(7, 0),
    ];
    let mut all = vec![copy(6, 1)];
    if let Some(thread) = thread {
        all.extend([
            call(CURRENT_PID_TGID),
            insn(0x56, 0, 0, (find.len() + body.len()) as i16, thread), // if w0 != thread leave
        ]);
    }
    all.extend(find);
    all.extend(body);
    all.extend([mov(0, answer), exit()]);
    all
}

/// Counts in element 0 how often it ran.
pub(crate) fn counting(counter: BorrowedFd<'_>, thread: Option<i32>, answer: i32) -> Vec<u64> {
    // lock *(u64 *)(r7 + 0) += r1
    around(counter, thread, &[mov(1, 1), insn(0xdb, 7, 1, 0, 0)], answer)
}

/// Where samples go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Ring,
    Perf,
}

/// Sends `times` samples of `size` bytes each time the thread runs it. Each begins with its number,
/// from 1, of which element 0 is the last; the rest are zeros.
pub(crate) fn sending(
    to: Output,
    buffer: BorrowedFd<'_>,
    counter: BorrowedFd<'_>,
    thread: i32,
    (times, size): (i32, i32),
) -> Vec<u64> {
    assert!(size <= SAMPLE && times > 0);
    let mut body = vec![mov(1, 0)];
    body.extend((0..SAMPLE / 8).map(|at| store(10, (-SAMPLE - 8 + at * 8) as i16, 1)));
    body.push(mov(8, times));
    let start = body.len();
    body.extend([load(1, 7, 0), add(1, 1), store(7, 0, 1), store(10, -SAMPLE as i16 - 8, 1)]);
    match to {
        Output::Ring => {
            body.extend(map(1, buffer));
            body.extend([copy(2, 10), add(2, -SAMPLE - 8), mov(3, size), mov(4, 0)]);
            body.push(call(RINGBUF_OUTPUT));
        }
        Output::Perf => {
            body.push(copy(1, 6));
            body.extend(map(2, buffer));
            body.push(insn(0xb4, 3, 0, 0, -1)); // w3 = BPF_F_CURRENT_CPU
            body.extend([copy(4, 10), add(4, -SAMPLE - 8), mov(5, size)]);
            body.push(call(PERF_EVENT_OUTPUT));
        }
    }
    body.push(add(8, -1));
    body.push(insn(0x55, 8, 0, start as i16 - body.len() as i16 - 1, 0)); // if r8 != 0 again
    around(counter, Some(thread), &body, 0)
}
