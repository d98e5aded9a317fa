//! The hash that both sides compute: of names, and of the dentries that a walk passes.

/// 2^64 by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a hash of names starts from.
#[inline(always)]
#[must_use]
pub const fn seeded(seed: u32) -> u64 {
    seed as u64
}

/// One more word. A bijection of the word for any `hash`, and of `hash` for any word.
///
/// Of a name: its bytes in little endian, those from its zero byte on all zero. The word with the
/// zero byte is the last one of the name; the number of the list comes as one word more. Low bits
/// choose the bucket, the high half is the tag.
#[inline(always)]
#[must_use]
pub const fn step(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(MULTIPLIER);
    mixed ^ (mixed >> 32)
}

/// One more dentry of a walk: its address, and its sequence count (`dentry.d_seq`), which changes
/// with its name and its parent. `key` is one nobody can guess, the same for all of a walk.
///
/// Two walks that part at a dentry because it was moved must not come to the same again. They part
/// with two counts of that dentry and go on with the addresses of two others. The multiplier is
/// 2^64 by the golden ratio: counts that differ in their low 20 bits are more than 2^42 apart once
/// multiplied, and addresses that differ in their low 42 bits cannot make up for it. What differs
/// more than that is left to chance, 1 in 2^64.
#[inline(always)]
#[must_use]
pub const fn dentry(hash: u64, key: u64, address: u64, sequence: u32) -> u64 {
    step(step(hash, key ^ address), sequence as u64)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{
        collections::{HashMap, HashSet},
        vec::Vec,
    };

    use super::*;

    /// Bytes from one dentry to the next in a slab of Linux 6.1 and 6.12.
    const DENTRY: u64 = 192;

    /// A file in a directory that lies in one of many others, as it moves from one to the next: of
    /// all pictures, no two have the same hash.
    #[test]
    fn a_directory_that_moves_among_neighbours_never_looks_the_same() {
        for slab in [0xffff_8880_0412_3000, 0xffff_9c01_7fff_e000, 0xffff_888f_ffff_d000] {
            let place = |number: u64| slab + number * DENTRY;
            for key in [0, 1, 0x9e37_79b9, 0xfeed_f00d_dead_beef] {
                let file = dentry(0, key, place(17), 2);
                let mut seen = HashMap::new();
                for count in (2..4_096).step_by(2) {
                    let directory = dentry(file, key, place(5), count);
                    for parent in (0..64).filter(|number| ![5, 17].contains(number)) {
                        let picture = dentry(directory, key, place(parent), 2);
                        let before = seen.insert(picture, (count, parent));
                        assert_eq!(before, None, "{count} {parent}");
                    }
                }
            }
        }
    }

    /// Address and count are words of their own: one does not stand for a part of the other.
    #[test]
    fn a_dentry_is_never_another_one_with_another_count() {
        let mut seen = HashSet::new();
        for number in 0..64 {
            for count in (0..4_096).step_by(2) {
                let address = 0xffff_8880_0412_3000 + number * DENTRY;
                assert!(seen.insert(dentry(0, 7, address, count)), "{number} {count}");
            }
        }
    }

    #[test]
    fn the_key_matters() {
        assert_ne!(dentry(0, 7, 64, 2), dentry(0, 8, 64, 2));
    }

    /// What the text of [`dentry`] says of counts.
    #[test]
    fn near_counts_are_far_apart_once_multiplied() {
        let least = (1..1u64 << 20)
            .map(|apart| apart.wrapping_mul(MULTIPLIER))
            .map(|product| product.min(product.wrapping_neg()))
            .min();
        assert!(least > Some(1 << 42), "{least:?}");
    }

    #[test]
    fn order_matters() {
        let both: Vec<_> = [[1, 2], [2, 1]]
            .map(|[one, two]| dentry(dentry(0, 7, one << 12, 2), 7, two << 12, 2))
            .into();
        assert_ne!(both[0], both[1]);
    }
}
