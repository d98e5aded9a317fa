//! The imports as guests find them: modules that wasmtime runs, and a broker that is a thread.

mod arbitrary;
mod calls;
mod confined;
mod fake;
mod gone;
mod link;
mod machine;
mod poll;
mod reenter;
