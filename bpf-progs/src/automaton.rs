//! The automaton of a table: states, steps on bytes, and names that are steps by themselves.

use wasi_guard_abi::{
    hash,
    table::{
        BELOW_COLUMN, CHUNK_ENTRIES, CHUNK_NAMED, CHUNK_VERDICTS, CHUNK_WORDS, Chunk, Header,
        LIST_COLUMN, NAMED_SLOTS, Named, SHARED_COLUMN, Verdict,
    },
};

use crate::{
    kernel::{DENTRY_INLINE_WORDS, OFF_DENTRY_INLINE, OFF_DENTRY_NAME, Object, global},
    maps::Table,
    scope::Policy,
    walk::zero,
};

/// A table and its automaton.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Automaton {
    pub(crate) table: &'static Table,
    pub(crate) header: &'static Header,
}

impl Automaton {
    #[inline(always)]
    pub(crate) fn new(policy: &Policy) -> Self {
        Self { table: policy.table, header: policy.header }
    }

    /// Chunk `number`. The first one is at hand: small tables have no other.
    #[inline(always)]
    fn chunk(&self, number: u32) -> Option<*const Chunk> {
        if number == 0 {
            return Some(core::ptr::from_ref(self.header).cast());
        }
        self.table.get_ptr(number)
    }

    /// Entry `column` of the row of `state`. A chunk that is not there reads as 0: dead, or the
    /// verdict that grants nothing.
    #[inline(always)]
    pub(crate) fn entry(&self, state: u32, column: u32) -> u32 {
        const { assert!(CHUNK_ENTRIES.is_power_of_two()) };
        let index = self.header.rows_at + state * self.header.stride + column;
        let Some(chunk) = self.chunk(index / CHUNK_ENTRIES as u32) else { return 0 };
        // SAFETY: the mask keeps the index inside the chunk.
        let entry = unsafe { *chunk.cast::<u16>().add(index as usize & (CHUNK_ENTRIES - 1)) };
        u32::from(entry)
    }

    /// Entry `column` behind those of the classes.
    #[inline(always)]
    fn extra(&self, state: u32, column: u32) -> u32 {
        self.entry(state, self.header.verdict_column + column)
    }

    /// What the table grants a name whose path leads to `state`; `None` if the table is damaged.
    #[inline(always)]
    pub(crate) fn verdict(&self, state: u32) -> Option<Verdict> {
        const { assert!(CHUNK_VERDICTS.is_power_of_two()) };
        let index = self.header.verdicts_at + self.extra(state, 0);
        let chunk = self.chunk(index / CHUNK_VERDICTS as u32)?;
        // SAFETY: the mask keeps the index inside the chunk; all bit patterns are valid.
        Some(unsafe { *chunk.cast::<Verdict>().add(index as usize & (CHUNK_VERDICTS - 1)) })
    }

    /// A number that two directories have in common only if what holds below them is the same.
    #[inline(always)]
    pub(crate) fn below(&self, state: u32) -> u32 {
        self.extra(state, BELOW_COLUMN)
    }

    #[inline(always)]
    pub(crate) fn step(&self, state: u32, byte: u8) -> u32 {
        self.entry(state, u32::from(self.header.class[byte as usize]))
    }

    /// Feeds the bytes of `word`, lowest first, up to a zero byte. True if there was one.
    #[inline(always)]
    pub(crate) fn feed_word(&self, state: &mut u32, mut word: u64) -> bool {
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

    /// Numbers of the lists in which a name that follows may be: the state's own in the low half,
    /// the shared one in the high half. 0 if there are none.
    #[inline(always)]
    pub(crate) fn lists(&self, state: u32) -> u32 {
        self.extra(state, LIST_COLUMN) | self.extra(state, SHARED_COLUMN) << 16
    }

    /// Feeds `/` and the name of the dentry, if the name is short and in no list. False if not, or
    /// if it has no end, which only a name that is being changed has.
    #[inline(always)]
    pub(crate) fn feed_leaf(&self, state: &mut u32, dentry: Object) -> bool {
        let name = dentry.read::<*const u8>(&OFF_DENTRY_NAME);
        *state = self.step(*state, b'/');
        if self.lists(*state) != 0 || name != dentry.inside(&OFF_DENTRY_INLINE).0 {
            return false;
        }
        // A short name lies in the dentry itself, where typed loads need no helper call.
        // The load offsets must be constants, hence no loop.
        let words = global(&DENTRY_INLINE_WORDS);
        macro_rules! inline_words {
            ($($n:literal)+) => {$(
                if words > $n {
                    let at = dentry.inside(&OFF_DENTRY_INLINE).0.cast::<u64>();
                    // SAFETY: word $n lies in d_iname (DENTRY_INLINE_WORDS), checked by the
                    // verifier against the kernel's BTF.
                    let word = unsafe { core::ptr::read_volatile(at.add($n)) };
                    if self.feed_word(state, word) {
                        return true;
                    }
                }
            )+};
        }
        inline_words!(0 1 2 3 4);
        false
    }

    /// The name in a list that may be the one with this hash; its bytes tell.
    #[inline(always)]
    pub(crate) fn listed(&self, list: u32, hash: u64) -> Listed {
        const { assert!(CHUNK_NAMED.is_power_of_two() && NAMED_SLOTS.is_power_of_two()) };
        let header = self.header;
        let hash = hash::step(hash, u64::from(list));
        let bucket = hash as u32 & header.named_mask;
        let first = header.named_at + bucket * NAMED_SLOTS as u32;
        // Unknown to the verifier, as what is found will be: else it follows each slot to the end.
        let mut found = Listed { word: zero(header), to: zero(header) };
        let Some(chunk) = self.chunk(first / CHUNK_NAMED as u32) else { return found };
        let first = first as usize & (CHUNK_NAMED - NAMED_SLOTS);
        for slot in 0..NAMED_SLOTS {
            // SAFETY: the mask keeps the bucket inside the chunk; all bit patterns are valid.
            let named = unsafe { &*chunk.cast::<Named>().add(first + slot) };
            // A free slot is in no list.
            if named.tag == (hash >> 32) as u32 && u32::from(named.list) == list {
                found = Listed { word: header.names_at + named.word, to: u32::from(named.to) };
            }
        }
        found
    }

    /// A word of a listed name.
    #[inline(always)]
    pub(crate) fn word(&self, at: u32) -> u64 {
        const { assert!(CHUNK_WORDS.is_power_of_two()) };
        // No name is made of zeros.
        let Some(chunk) = self.chunk(at / CHUNK_WORDS as u32) else { return 0 };
        // SAFETY: the mask keeps the word inside the chunk.
        unsafe { *chunk.cast::<u64>().add(at as usize & (CHUNK_WORDS - 1)) }
    }
}

/// A name of a list.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Listed {
    /// Its first word, in words from the beginning of the table; 0 if there is none.
    pub(crate) word: u32,
    /// State to which it leads.
    pub(crate) to: u32,
}

/// The word with everything from its first zero byte on zero, and whether there was one.
#[inline(always)]
pub(crate) fn until_zero(word: u64) -> (u64, bool) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The lowest bit of this is bit 7 of the first zero byte (H. S. Warren, Hacker's Delight, 6-1).
    let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
    if zeros == 0 {
        return (word, false);
    }
    (word & (zeros & zeros.wrapping_neg()).wrapping_sub(1), true)
}
