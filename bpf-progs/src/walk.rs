//! From an object to its name: up from the dentry to a preopen's root, feeding each name to the
//! automaton on the way. By dentries, because path strings lie (chroot, bind mounts, `..`,
//! paths longer than PATH_MAX) and inode numbers too (replaced and future files).
//!
//! A walk sees names one by one while renames go on. [`resolve`] therefore walks twice and
//! compares: the first time it sums up each dentry's sequence count and name pointer while it
//! feeds the names, the second time it only sums up. Sums differ, or a count is odd (a rename
//! is being written): try again, then deny.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use aya_log_ebpf::debug;
use core::ffi::c_void;
use wasi_guard_abi::{
    guest::MARK_ROOT,
    operation::Reason,
    table::{CHUNK_ENTRIES, Header, MAX_PREOPENS, MAX_ROW_SHIFT},
};

use crate::{
    kernel::{
        DENTRY_INLINE_WORDS, OFF_DENTRY_INLINE, OFF_DENTRY_INODE, OFF_DENTRY_NAME,
        OFF_DENTRY_PARENT, OFF_DENTRY_SEQ, Object, global,
    },
    maps::Table,
    scope::{Policy, mark},
};

/// Steps of a walk, both ways up and all tries together: a tree of 4,096 levels, deeper than
/// PATH_MAX allows, can be walked once, one of 200 twenty times. What needs more is denied.
const MAX_STEPS: u32 = 8192;
/// NAME_MAX in words of 8 bytes.
const NAME_WORDS: u32 = 32;
/// log2 of [`CHUNK_ENTRIES`].
const CHUNK_SHIFT: u32 = CHUNK_ENTRIES.trailing_zeros();
const _: () = assert!(1 << CHUNK_SHIFT == CHUNK_ENTRIES);

/// A zero that the verifier does not know as such.
#[inline(always)]
pub(crate) fn zero(header: &'static Header) -> u32 {
    // SAFETY: a reference is valid to read; volatile so that the load stays a load.
    unsafe { core::ptr::read_volatile(&raw const header.zero) as u32 }
}

/// `value`, but unknown to the verifier: paths that differ only in it become one again, instead
/// of each being followed to the end of the program.
#[inline(always)]
pub(crate) fn opaque(header: &'static Header, value: u32) -> u32 {
    opaque_wide(header, u64::from(value)) as u32
}

/// [`opaque`] for 64 bits.
#[inline(always)]
pub(crate) fn opaque_wide(header: &'static Header, value: u64) -> u64 {
    // SAFETY: as in `zero`.
    value.wrapping_add(unsafe { core::ptr::read_volatile(&raw const header.zero) })
}

/// One automaton of a table.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Automaton {
    pub(crate) table: &'static Table,
    pub(crate) header: &'static Header,
    /// The first chunk of rows, looked up once: small policies need no other.
    first: *const u16,
    first_chunk: u32,
    row_shift: u32,
}

impl Automaton {
    /// The automaton whose rows start at chunk `first_chunk`.
    #[inline(always)]
    pub(crate) fn new(policy: &Policy, first_chunk: u32, row_shift: u32) -> Option<Self> {
        let first = policy.table.get_ptr(first_chunk)?.cast::<u16>();
        Some(Self {
            table: policy.table,
            header: policy.header,
            first,
            first_chunk,
            row_shift: row_shift & 15,
        })
    }

    /// Entry `column` of the row of `state`. A chunk that is not there reads as 0: dead, or the
    /// verdict that grants nothing.
    #[inline(always)]
    pub(crate) fn entry(&self, state: u32, column: u32) -> u32 {
        const { assert!(MAX_ROW_SHIFT <= 15) };
        let index = (state << self.row_shift) + column;
        let chunk = index >> CHUNK_SHIFT;
        let rows = if chunk == 0 {
            self.first
        } else {
            match self.table.get_ptr(self.first_chunk + chunk) {
                Some(rows) => rows.cast::<u16>(),
                None => return 0,
            }
        };
        // SAFETY: the mask keeps the index inside the chunk.
        u32::from(unsafe { *rows.add(index as usize & (CHUNK_ENTRIES - 1)) })
    }

    #[inline(always)]
    pub(crate) fn step(&self, state: u32, byte: u8) -> u32 {
        self.entry(state, u32::from(self.header.class[byte as usize]))
    }

    /// Feeds the bytes of `word`, lowest first, up to a zero byte. True if there was one.
    #[inline(always)]
    fn feed_word(&self, state: &mut u32, mut word: u64) -> bool {
        for _ in 0..8 {
            let byte = word as u8;
            if byte == 0 {
                return true;
            }
            *state = self.step(*state, byte);
            word >>= 8;
        }
        false
    }

    /// Feeds the dentry's name. False if it has no end within NAME_MAX, which only a name that
    /// is being changed has.
    #[inline(always)]
    fn feed_name(&self, state: &mut u32, dentry: Object) -> bool {
        let name = dentry.read::<*const u8>(&OFF_DENTRY_NAME);
        if name == dentry.inside(&OFF_DENTRY_INLINE).0 {
            // A short name lies in the dentry itself, where typed loads need no helper call.
            // The load offsets must be constants, hence no loop.
            let words = global(&DENTRY_INLINE_WORDS);
            macro_rules! inline_words {
                ($($n:literal)+) => {$(
                    if words > $n {
                        let at = dentry.inside(&OFF_DENTRY_INLINE).0.cast::<u64>();
                        // SAFETY: word $n lies in d_iname (DENTRY_INLINE_WORDS), checked by
                        // the verifier against the kernel's BTF.
                        let word = unsafe { core::ptr::read_volatile(at.add($n)) };
                        if self.feed_word(state, word) {
                            return true;
                        }
                    }
                )+};
            }
            inline_words!(0 1 2 3 4);
            return false;
        }
        let ended = zero(self.header);
        let mut long = LongName { automaton: *self, name, state: *state, ended };
        // SAFETY: the callback has the signature that bpf_loop wants; the context outlives the
        // call.
        unsafe { bpf_loop(NAME_WORDS, feed_long as *mut c_void, (&raw mut long).cast(), 0) };
        *state = long.state;
        long.ended != 0
    }
}

/// A name that does not lie in its dentry.
#[repr(C)]
struct LongName {
    automaton: Automaton,
    name: *const u8,
    state: u32,
    ended: u32,
}

#[inline(never)]
extern "C" fn feed_long(_: u32, long: *mut LongName) -> i64 {
    // SAFETY: bpf_loop passes the pointer that it was given, to a live stack slot.
    let long = unsafe { &mut *long };
    if long.ended != 0 {
        return 1;
    }
    let mut word = 0u64;
    // SAFETY: the helper checks the address; it may read a few bytes behind the name, which end
    // up behind the zero byte that stops `feed_word`.
    let failed = unsafe { bpf_probe_read_kernel((&raw mut word).cast(), 8, long.name.cast()) };
    if failed != 0 {
        return 1;
    }
    let mut state = long.state;
    let ended = long.automaton.feed_word(&mut state, word);
    long.state = state;
    long.name = long.name.wrapping_add(8);
    if ended {
        long.ended = 1;
        return 1;
    }
    0
}

/// Feeding names on the way up.
const FEED: u32 = 0;
/// Walking the same way again to see that nothing moved.
const CHECK: u32 = 1;
/// The root was found, and nothing moved.
const FOUND: u32 = 2;
/// There is no root of this guest above.
const OUTSIDE: u32 = 3;

/// A walk in progress: the context of [`up`].
#[repr(C)]
struct Walk {
    automaton: Automaton,
    /// Where it started.
    start: Object,
    /// Where it is.
    dentry: Object,
    /// Where the way up ended: the preopen's root.
    end: Object,
    /// Sum of the first walk, and of the second.
    sums: [u64; 2],
    /// [`FEED`], [`CHECK`], [`FOUND`] or [`OUTSIDE`].
    phase: u32,
    state: u32,
    /// The preopen's number + 1.
    found: u32,
}

impl Walk {
    /// Starts all over. Everything, used or not, is as it was at the start: then the verifier
    /// sees a state that it knows and follows it no further.
    #[inline(always)]
    fn again(&mut self) -> i64 {
        self.dentry = self.start;
        self.state = self.automaton.header.start;
        let zero = zero(self.automaton.header);
        self.sums = [u64::from(zero), u64::from(zero)];
        self.end = self.start;
        self.found = zero;
        self.phase = FEED + zero;
        0
    }

    /// One step of the first walk.
    #[inline(always)]
    fn feed(&mut self) -> i64 {
        let dentry = self.dentry;
        let found = root_of(self.automaton.header, dentry.pointer(&OFF_DENTRY_INODE));
        if found != 0 {
            self.found = found;
            self.end = dentry;
            self.dentry = self.start;
            self.phase = CHECK;
            return 0;
        }
        let parent = dentry.pointer(&OFF_DENTRY_PARENT);
        if parent == dentry {
            self.phase = OUTSIDE;
            return 1;
        }
        if dentry.read::<u32>(&OFF_DENTRY_SEQ) & 1 != 0 {
            return self.again();
        }
        self.sums[0] = mix(self.sums[0], dentry);
        let mut state = self.state;
        if !self.automaton.feed_name(&mut state, dentry) {
            return self.again();
        }
        self.state = self.automaton.step(state, b'/');
        self.dentry = parent;
        0
    }

    /// One step of the second walk.
    #[inline(always)]
    fn check(&mut self) -> i64 {
        let dentry = self.dentry;
        if dentry == self.end {
            if self.sums[0] == self.sums[1] {
                self.phase = FOUND;
                return 1;
            }
            return self.again();
        }
        let parent = dentry.pointer(&OFF_DENTRY_PARENT);
        if parent == dentry {
            return self.again();
        }
        self.sums[1] = mix(self.sums[1], dentry);
        self.dentry = parent;
        0
    }
}

/// What is added to a walk's sum for a dentry: changes whenever the dentry moves.
#[inline(always)]
fn mix(sum: u64, dentry: Object) -> u64 {
    let name = dentry.read::<u64>(&OFF_DENTRY_NAME);
    let sequence = dentry.read::<u32>(&OFF_DENTRY_SEQ);
    (sum.rotate_left(7) ^ name).wrapping_add(u64::from(sequence))
}

/// The preopen of which `inode` is the root, plus 1; 0 if it is none of this policy's.
#[inline(always)]
pub(crate) fn root_of(header: &'static Header, inode: Object) -> u32 {
    let Some(mark) = mark(inode) else { return 0 };
    if mark.flags & MARK_ROOT == 0 || mark.id == 0 {
        return 0;
    }
    let mut search = Search { header, id: mark.id, found: zero(header) };
    let preopens = header.preopens;
    let preopens = if preopens > MAX_PREOPENS as u32 { MAX_PREOPENS as u32 } else { preopens };
    // By bpf_loop, because the verifier would follow each iteration of a plain loop to the end of
    // the program with its own constant.
    // SAFETY: the callback has the signature that bpf_loop wants; the context outlives the call.
    unsafe { bpf_loop(preopens, try_root as *mut c_void, (&raw mut search).cast(), 0) };
    search.found
}

#[repr(C)]
struct Search {
    header: &'static Header,
    id: u64,
    found: u32,
}

#[inline(never)]
extern "C" fn try_root(preopen: u32, search: *mut Search) -> i64 {
    // SAFETY: bpf_loop passes the pointer that it was given, to a live stack slot.
    let search = unsafe { &mut *search };
    if search.found != 0 {
        return 1;
    }
    const { assert!(MAX_PREOPENS.is_power_of_two()) };
    if search.header.root[preopen as usize & (MAX_PREOPENS - 1)] != search.id {
        return 0;
    }
    search.found = preopen + 1;
    1
}

#[inline(never)]
extern "C" fn up(_: u32, walk: *mut Walk) -> i64 {
    // SAFETY: bpf_loop passes the pointer that it was given, to a live stack slot.
    let walk = unsafe { &mut *walk };
    match walk.phase {
        FEED => walk.feed(),
        CHECK => walk.check(),
        _ => 1,
    }
}

/// Where a dentry lies.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Number of the preopen.
    pub(crate) preopen: u32,
    /// State of the names automaton after the whole path.
    pub(crate) state: u32,
}

/// Where `dentry` lies, as one consistent picture.
#[inline(always)]
pub(crate) fn resolve(policy: &Policy, dentry: Object) -> Result<(Automaton, Place), Reason> {
    let header = policy.header;
    let Some(names) = Automaton::new(policy, header.names_chunk, header.row_shift) else {
        return Err(Reason::Error);
    };
    // As `again` leaves it. Not made of constants first: zeros side by side become a call of
    // memset, which costs as much as a level.
    let zero = zero(header);
    let mut walk = Walk {
        automaton: names,
        start: dentry,
        dentry,
        end: dentry,
        sums: [u64::from(zero), u64::from(zero)],
        phase: FEED + zero,
        state: header.start,
        found: zero,
    };
    // SAFETY: the callback has the signature that bpf_loop wants; the context outlives the call.
    unsafe { bpf_loop(MAX_STEPS, up as *mut c_void, (&raw mut walk).cast(), 0) };
    match walk.phase {
        FOUND => Ok((names, Place { preopen: walk.found - 1, state: walk.state })),
        OUTSIDE => Err(Reason::Outside),
        // No step left: names move all the time, or the tree is too deep.
        phase => {
            debug!(
                (),
                "walk without end: phase {} preopen {} state {} sums {} {}",
                phase,
                walk.found,
                walk.state,
                walk.sums[0],
                walk.sums[1]
            );
            Err(Reason::Moving)
        }
    }
}
