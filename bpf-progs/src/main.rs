//! The kernel side: one program a hook, all of one shape.
//!
//! ```text
//! hook -> scope (is this task guarded, by which table?) -> walk (where is this?)
//!      -> decide (what does the table grant it?) -> emit (a record, if not) -> verdict
//! ```
//!
//! Two rules hold everywhere: an error inside a guarded cgroup is a denial, and a denial is
//! `-EACCES`. Never `-EPERM`: WASI hosts take EPERM from openat2 for "this kernel has no
//! openat2" and fall back to walking paths by hand.

#![no_std]
#![no_main]
// The BPF target has no compare-and-swap in `core::sync::atomic`, though the machine has it.
#![feature(core_intrinsics)]
#![allow(internal_features)]

mod atomic;
mod automaton;
mod decide;
mod emit;
mod hooks;
mod kernel;
mod layers;
mod links;
mod maps;
mod network;
mod places;
mod scope;
mod walk;

/// The verdict of a hook that has no objection. A denial by a program that ran before ours ends
/// the chain before we are asked, so this never overrules one.
pub(crate) const ALLOW: i32 = 0;
/// The one denial.
pub(crate) const DENY: i32 = -13;

// The kernel gives inode storage, bpf_probe_read_kernel and other helpers to GPL-compatible
// programs only; the dual licence of this crate is such a one.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

// Required by the language; no reachable code panics, else the verifier would refuse the loop.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
