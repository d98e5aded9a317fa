//! From an object to the state of the automaton after its path.
//!
//! By dentries, because path strings lie (chroot, bind mounts, `..`, paths longer than PATH_MAX)
//! and inode numbers too (replaced and future files). Upwards, because that is the only way: the
//! nearest inode that is marked as a root of this policy begins the path. The automaton reads it
//! the other way round.
//!
//! Mostly the directory's place is known from the decision before ([`crate::places`]), and only
//! the last name is read. Else a walk goes up until it meets something known, remembers the last
//! dentries that it passed in a small ring, and feeds their names on the way down; if there were
//! more than the ring holds, it starts upwards again.
//!
//! Names are moved meanwhile. If none was on the whole host ([`crate::places::renames`]), what was
//! read is one picture. Otherwise the walk is made again, carefully: it believes no place, hashes
//! each dentry's address and sequence count on its first way up, and again on one more when it is
//! done. Hashes differ, or a count is odd (a rename is being written): once more, until the steps
//! are used up; then the answer is a denial.
//!
//! Hashes are the same: so were the dentries and their counts, each of which goes up with every
//! move. So no dentry moved between the two times its count was read, and in between its name was
//! read, and its parent once more. One moment is in all these spans, that between the last count of
//! the first way up and the first of the last way; what the path was then is what was read. Dentries
//! are freed only after the program, by RCU, so an address is one dentry throughout.
//!
//! All of it is one loop over small steps, because loops within loops would take more of the 512
//! bytes of stack than there are.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use aya_log_ebpf::debug;
use core::ffi::c_void;
use wasi_guard_abi::{
    guest::MARK_ROOT,
    hash,
    operation::Reason,
    table::{Header, MAX_PREOPENS},
};

use crate::{
    automaton::{Automaton, Listed, until_zero},
    kernel::{
        OFF_DENTRY_INODE, OFF_DENTRY_NAME, OFF_DENTRY_PARENT, OFF_DENTRY_SEQ, Object, copy, global,
    },
    places::{place, remember, renames},
    scope::{Policy, mark},
};

/// Steps of a walk, all ways and tries together. A path of n names takes about 4 n + n * n / 6 of
/// them: one of 2,400 names, more than PATH_MAX allows, can be walked once.
const MAX_STEPS: u32 = 1 << 20;
/// Dentries that a way up remembers.
const RING: usize = 4;
/// Bytes of a name with its zero byte, in whole words.
const MAX_NAME: u32 = 256;

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

/// On the way up.
const UP: u32 = 0;
/// Looking for the preopen of which the inode is a root.
const ROOT: u32 = 1;
/// On the way down, before a name.
const DOWN: u32 = 2;
/// Reading the name's hash.
const HASH: u32 = 3;
/// Looking for it in a list.
const SEARCH: u32 = 4;
/// Comparing it with the one that was found.
const COMPARE: u32 = 5;
/// Feeding its bytes.
const SPELL: u32 = 6;
/// On one more way up, to see that nothing moved.
const CHECK: u32 = 7;
/// The path is known.
const FOUND: u32 = 8;
/// There is no root of this guest above.
const OUTSIDE: u32 = 9;

/// A walk in progress: the context of [`go`]. Small, see there.
#[repr(C)]
struct Walk<'a> {
    automaton: &'a Automaton,
    /// Where it started.
    start: Object,
    /// Where it is, on a way up.
    dentry: Object,
    /// The dentry after which the automaton is in `state`; 0 on the first way up.
    known: u64,
    /// The dentry at which the first way up ended; 0 if there was none.
    end: u64,
    /// The last dentries of this way up.
    ring: [u64; RING],
    /// Hash of the dentries of the first way up.
    way: u64,
    /// Hash of the name; in [`CHECK`] that of the last way up, in [`ROOT`] the mark's id.
    hash: u64,
    /// The name that is being fed.
    name: u64,
    /// Its next word, in bytes.
    offset: u32,
    /// Lists in which the name may be: the first in the low half.
    lists: u32,
    /// Where it leads if it is the one that was found, and the next word of that one.
    listed: Listed,
    /// [`renames`] at the beginning; odd for a careful walk.
    renames: u32,
    /// Dentries between `known` and where the walk started.
    count: u32,
    state: u32,
    /// State after the path of the directory in which the walk started.
    above: u32,
    /// How many of the dentries are still in the ring.
    held: u32,
    /// The preopen that is compared in [`ROOT`].
    preopen: u32,
    /// 1 if the inode here is the root of no preopen of this policy, though its mark says root.
    foreign: u32,
    /// [`UP`] to [`OUTSIDE`].
    phase: u32,
}

impl Walk<'_> {
    fn careful(&self) -> bool {
        self.hide(self.renames) & 1 != 0
    }

    /// `value`, of which the verifier knows nothing. What it knows of a field, because a constant
    /// was written to it or it was compared, makes another state of the loop, and it follows each
    /// of them: so nothing is written or compared but through this.
    #[inline(always)]
    fn hide(&self, value: u32) -> u32 {
        opaque(self.automaton.header, value)
    }

    /// The address of `dentry` as a number, for the same reason. It goes through the ring, because
    /// what was written to a place that the verifier does not know is no pointer to it any more.
    #[inline(always)]
    fn address(&mut self, dentry: Object) -> u64 {
        let at = &raw mut self.ring[self.count as usize & (RING - 1)];
        // SAFETY: a reference is valid to write and read; volatile so that it is written and read.
        unsafe {
            at.write_volatile(dentry.0 as u64);
            at.read_volatile()
        }
    }

    fn go_on(&mut self, phase: u32) -> i64 {
        self.phase = self.hide(phase);
        0
    }

    fn end(&mut self, phase: u32) -> i64 {
        self.phase = self.hide(phase);
        1
    }

    /// Starts all over, carefully. Everything, used or not, is as it was at the start: then the
    /// verifier sees a state that it knows and follows it no further.
    #[inline(always)]
    fn again(&mut self) -> i64 {
        let zero = zero(self.automaton.header);
        let wide = u64::from(zero);
        self.dentry = self.start;
        self.known = wide;
        self.end = wide;
        self.way = wide;
        self.hash = wide;
        self.name = wide;
        self.offset = zero;
        self.lists = zero;
        self.listed = Listed { word: zero, to: zero };
        self.renames = 1 + zero;
        self.count = zero;
        self.state = zero;
        self.above = zero;
        self.held = zero;
        self.preopen = zero;
        self.foreign = zero;
        self.phase = UP + zero;
        0
    }

    /// One step upwards.
    #[inline(always)]
    fn up(&mut self) -> i64 {
        let dentry = self.dentry;
        let address = self.address(dentry);
        let known = opaque_wide(self.automaton.header, self.known);
        let first = known == 0;
        if first {
            if let Some(mark) = mark(dentry.pointer(&OFF_DENTRY_INODE)) {
                if mark.flags & MARK_ROOT != 0 && mark.id != 0 && self.hide(self.foreign) == 0 {
                    self.hash = opaque_wide(self.automaton.header, mark.id);
                    self.preopen = self.hide(0);
                    return self.go_on(ROOT);
                }
                // A careful walk has an odd number, which no place has.
                let state = place(mark, self.automaton.header, self.renames);
                if state != UNKNOWN {
                    return self.begin(state);
                }
            }
            self.foreign = self.hide(0);
        } else if address == known {
            return self.turn();
        }
        let parent = dentry.pointer(&OFF_DENTRY_PARENT);
        if parent == dentry {
            if !first {
                return self.again();
            }
            return self.end(OUTSIDE);
        }
        if self.careful() {
            // Read once: what is even here is what is hashed.
            let sequence = dentry.read::<u32>(&OFF_DENTRY_SEQ);
            if sequence & 1 != 0 {
                return self.again();
            }
            if first {
                let key = self.automaton.header.serial;
                self.way = hash::dentry(self.way, key, address, sequence);
            }
        }
        // In the ring it is already.
        self.count += 1;
        self.dentry = parent;
        0
    }

    /// Is the inode the root of one more preopen?
    #[inline(always)]
    fn root(&mut self) -> i64 {
        const { assert!(MAX_PREOPENS.is_power_of_two()) };
        let header = self.automaton.header;
        let preopen = self.hide(self.preopen);
        if preopen >= header.preopens {
            self.foreign = self.hide(1);
            return self.go_on(UP);
        }
        let slot = preopen as usize & (MAX_PREOPENS - 1);
        if header.root[slot] == self.hash {
            return self.begin(u32::from(header.root_state[slot]));
        }
        self.preopen = self.hide(preopen + 1);
        0
    }

    /// The way up ends here, where the path led to `state`.
    #[inline(always)]
    fn begin(&mut self, state: u32) -> i64 {
        self.state = self.hide(state);
        self.above = self.state;
        self.end = self.address(self.dentry);
        self.turn()
    }

    /// Down from here.
    #[inline(always)]
    fn turn(&mut self) -> i64 {
        self.known = self.address(self.dentry);
        let count = self.hide(self.count);
        // The place of one dentry was just written to.
        const MOST: u32 = RING as u32 - 1;
        self.held = self.hide(if count > MOST { MOST } else { count });
        self.go_on(DOWN)
    }

    /// The end of a way down, or the beginning of a name.
    #[inline(always)]
    fn down(&mut self) -> i64 {
        let (count, held) = (self.hide(self.count), self.hide(self.held));
        if count == 0 {
            if self.careful() {
                self.dentry = self.start;
                self.hash = u64::from(self.hide(0));
                return self.go_on(CHECK);
            }
            if renames() != self.hide(self.renames) {
                return self.again();
            }
            return self.end(FOUND);
        }
        if held == 0 {
            self.dentry = self.start;
            self.count = self.hide(0);
            return self.go_on(UP);
        }
        self.count = self.hide(count - 1);
        self.held = self.hide(held - 1);
        let address = self.ring[self.count as usize & (RING - 1)];
        self.known = address;
        self.above = self.state;
        let state = self.automaton.step(self.state, b'/');
        self.state = self.hide(state);
        let lists = self.automaton.lists(state);
        self.lists = self.hide(lists);
        let at = address.wrapping_add(u64::from(global(&OFF_DENTRY_NAME)));
        self.name = copy(at as *const u8);
        self.offset = self.hide(0);
        self.hash = hash::seeded(self.automaton.header.named_seed);
        self.go_on(if lists == 0 { SPELL } else { HASH })
    }

    /// The next word of the name; `None` if it cannot be read or the name has no end, which only
    /// one that is being changed has.
    #[inline(always)]
    fn next(&mut self) -> Option<u64> {
        let mut word = 0u64;
        let offset = self.hide(self.offset);
        if offset >= MAX_NAME {
            return None;
        }
        let from = self.name.wrapping_add(u64::from(offset));
        // SAFETY: the helper checks the address; it may read a few bytes behind the name, which
        // end up behind its zero byte.
        let failed = unsafe { bpf_probe_read_kernel((&raw mut word).cast(), 8, from as *const _) };
        self.offset = self.hide(offset + 8);
        (failed == 0).then_some(word)
    }

    #[inline(always)]
    fn hash(&mut self) -> i64 {
        let Some(word) = self.next() else { return self.again() };
        let (word, ended) = until_zero(word);
        self.hash = hash::step(self.hash, word);
        self.go_on(if ended { SEARCH } else { HASH })
    }

    #[inline(always)]
    fn search(&mut self) -> i64 {
        let lists = self.hide(self.lists);
        let list = lists & 0xffff;
        self.lists = self.hide(lists >> 16);
        self.offset = self.hide(0);
        if list != 0 {
            let found = self.automaton.listed(list, self.hash);
            self.listed = Listed { word: self.hide(found.word), to: self.hide(found.to) };
            if found.word != 0 {
                return self.go_on(COMPARE);
            }
        }
        self.go_on(if lists >> 16 == 0 { SPELL } else { SEARCH })
    }

    #[inline(always)]
    fn compare(&mut self) -> i64 {
        let Some(word) = self.next() else { return self.again() };
        let (word, ended) = until_zero(word);
        let at = self.hide(self.listed.word);
        if word != self.automaton.word(at) {
            return self.go_on(SEARCH);
        }
        self.listed.word = self.hide(at + 1);
        if !ended {
            return 0;
        }
        self.state = self.hide(self.listed.to);
        self.go_on(DOWN)
    }

    #[inline(always)]
    fn spell(&mut self) -> i64 {
        let Some(word) = self.next() else { return self.again() };
        let mut state = self.state;
        let ended = self.automaton.feed_word(&mut state, word);
        self.state = self.hide(state);
        if ended { self.go_on(DOWN) } else { 0 }
    }

    /// One step of the last way up.
    #[inline(always)]
    fn check(&mut self) -> i64 {
        let dentry = self.dentry;
        let address = self.address(dentry);
        if address == opaque_wide(self.automaton.header, self.end) {
            let same = opaque_wide(self.automaton.header, self.way ^ self.hash) == 0;
            return if same { self.end(FOUND) } else { self.again() };
        }
        // Before the count: the parent of a moment between its two readings.
        let parent = dentry.pointer(&OFF_DENTRY_PARENT);
        if parent == dentry {
            return self.again();
        }
        let key = self.automaton.header.serial;
        self.hash = hash::dentry(self.hash, key, address, dentry.read(&OFF_DENTRY_SEQ));
        self.dentry = parent;
        0
    }
}

/// No state has this number; they take 16 bits.
pub(crate) const UNKNOWN: u32 = u32::MAX;

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
extern "C" fn go(_: u32, walk: *mut Walk<'_>) -> i64 {
    // SAFETY: bpf_loop passes the pointer that it was given, to a live stack slot.
    let walk = unsafe { &mut *walk };
    match walk.hide(walk.phase) {
        UP => walk.up(),
        ROOT => walk.root(),
        DOWN => walk.down(),
        HASH => walk.hash(),
        SEARCH => walk.search(),
        COMPARE => walk.compare(),
        SPELL => walk.spell(),
        CHECK => walk.check(),
        _ => 1,
    }
}

/// The automaton's state after the path of `dentry`, by what is remembered of its directory. If
/// only the state after the directory's path is known, that with [`ABOVE`]; else [`UNKNOWN`].
#[inline(never)]
fn quick(names: &Automaton, dentry: Object, renames_before: u32) -> u32 {
    let header = names.header;
    if let Some(own) = mark(dentry.pointer(&OFF_DENTRY_INODE)) {
        let state = place(own, header, renames_before);
        if state != UNKNOWN {
            return state;
        }
        // A root's parent says nothing about it.
        if own.flags & MARK_ROOT != 0 {
            return UNKNOWN;
        }
    }
    let parent = dentry.pointer(&OFF_DENTRY_PARENT);
    if parent == dentry {
        return UNKNOWN;
    }
    let Some(mark) = mark(parent.pointer(&OFF_DENTRY_INODE)) else { return UNKNOWN };
    let above = place(mark, header, renames_before);
    if above == UNKNOWN {
        return UNKNOWN;
    }
    let mut state = above;
    if !names.feed_leaf(&mut state, dentry) {
        return opaque(header, above | ABOVE);
    }
    // The directory's place, the parent and the name were read one after the other.
    opaque(header, if renames() == renames_before { state & 0xffff } else { UNKNOWN })
}

/// The automaton and its state after the path of `dentry`.
#[inline(always)]
pub(crate) fn resolve(policy: &Policy, dentry: Object) -> Result<(Automaton, u32), Reason> {
    let names = Automaton::new(policy);
    let renames = renames();
    let known = if renames & 1 == 0 { quick(&names, dentry, renames) } else { UNKNOWN };
    if known <= 0xffff {
        return Ok((names, known));
    }
    match walk(&names, dentry, renames, known) {
        found if found <= 0xffff => Ok((names, found)),
        NO_ROOT => Err(Reason::Outside),
        _ => Err(Reason::Moving),
    }
}

/// What [`walk`] answers if there is no root above.
const NO_ROOT: u32 = (OUTSIDE + 1) << 16;
/// Beside a state: it is the one after the directory's path.
const ABOVE: u32 = 1 << 16;

/// The state after the path of `dentry`, or in the high half the phase in which the walk ended and one more.
/// `known` is what [`quick`] answered. With a stack frame of its
/// own, for all that a walk carries.
#[inline(never)]
fn walk(names: &Automaton, dentry: Object, renames: u32, known: u32) -> u32 {
    let header = names.header;
    // Made of what the verifier does not know, as `again` leaves it. Not made of constants first:
    // zeros side by side become a call of memset.
    let zero = zero(header);
    let wide = u64::from(zero);
    let mut walk = Walk {
        automaton: names,
        start: dentry,
        dentry,
        known: wide,
        end: wide,
        ring: [wide; RING],
        way: wide,
        hash: wide,
        name: wide,
        offset: zero,
        lists: zero,
        listed: Listed { word: zero, to: zero },
        renames: renames | zero,
        count: zero,
        state: zero,
        above: zero,
        held: zero,
        preopen: zero,
        foreign: zero,
        phase: UP + zero,
    };
    if known != UNKNOWN {
        walk.state = known & 0xffff;
        walk.address(dentry);
        walk.count = 1 + zero;
        walk.held = 1 + zero;
        walk.phase = DOWN + zero;
    }
    // SAFETY: the callback has the signature that bpf_loop wants; the context outlives the call.
    unsafe { bpf_loop(MAX_STEPS, go as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.phase != FOUND {
        debug!(
            (),
            "walk without end: phase {} state {} hashes {} {}",
            walk.phase,
            walk.state,
            walk.way,
            walk.hash
        );
        return opaque(header, (walk.phase + 1) << 16);
    }
    // What was known before is remembered already.
    if !walk.careful() && walk.end != 0 {
        // Places are directories'; a root may be a file.
        if dentry.is_directory() {
            remember(dentry.pointer(&OFF_DENTRY_INODE), header, walk.renames, walk.state & 0xffff);
        } else if walk.end != walk.address(dentry) {
            let parent = dentry.pointer(&OFF_DENTRY_PARENT);
            remember(parent.pointer(&OFF_DENTRY_INODE), header, walk.renames, walk.above & 0xffff);
        }
    }
    opaque(header, walk.state & 0xffff)
}
