//! Prints the policy reference, which the schema's own texts make.
//!
//! A program of its own, so that xtask builds (and boots machines) while the policy crate is
//! being worked on.

fn main() {
    print!("{}", wasi_guard_policy::reference::reference_markdown());
}
