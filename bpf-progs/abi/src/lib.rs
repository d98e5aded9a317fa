//! What the kernel side and userspace agree on: the layout of every map value and record, and
//! the numbers of operations, rights and reasons.
//!
//! Relied on by `bpf-progs` (writes records, reads tables), `wasi-guard-policy` (compiles
//! tables) and `wasi-guard-enforce` (fills maps, decodes records). There is no logic here but a
//! hash that both sides compute. Every type is `repr(C)` with fixed-size fields and no padding;
//! the `const` assertions beside each one make a change of layout a build error, and [`LAYOUT`]
//! makes it another build of the pinned programs.

#![no_std]

pub mod guest;
pub mod hash;
pub mod operation;
pub mod record;
pub mod table;

/// Number of the layout as a whole. A change of meaning that leaves sizes as they are must
/// raise it, because pinned programs are shared only between equal layouts.
pub const LAYOUT: u32 = 2;

/// How many guests may be guarded at once on one host (entries of each per-guest map).
pub const MAX_GUESTS: u32 = 4096;

/// Asserts the size of a shared type and that the sizes of its fields add up to it, so that no
/// padding byte, which would carry kernel memory or compare unequal, can hide in it.
#[macro_export]
macro_rules! assert_layout {
    ($type:ty, $size:expr, [$($field:ty),+ $(,)?]) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        const _: () = assert!($(core::mem::size_of::<$field>() +)+ 0 == $size);
    };
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: each type is `repr(C)`, `Copy`, made of integers and arrays of integers only, and
    // without padding (the layout assertions beside the types), so every byte pattern is valid.
    unsafe impl aya::Pod for crate::guest::Guest {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::guest::Mark {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::guest::HostConfig {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::table::Chunk {}
}
