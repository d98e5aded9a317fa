//! Runs WASI guests under file-level policies that the Linux kernel enforces.
//!
//! The library is what the executables `wasi-guard` and `wasi-guard-worker` are made of; docs/architecture.md tells how the
//! parts work together.

/// A compile error in a static build without what such a build needs.
#[doc(hidden)]
#[macro_export]
macro_rules! check_static {
    () => {
        #[cfg(all(target_feature = "crt-static", not(getrandom_backend = "linux_getrandom")))]
        compile_error!(
            "a static wasi-guard takes --cfg getrandom_backend=\"linux_getrandom\", which \
             .cargo/config.toml has; flags from elsewhere (RUSTFLAGS) replace those"
        );
    };
}

pub mod audit;
#[cfg(feature = "run")]
pub mod cache;
#[cfg(feature = "run")]
pub mod cli;
#[cfg(feature = "run")]
pub mod compile;
#[cfg(feature = "run")]
mod confined;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "run")]
mod names;
#[cfg(feature = "run")]
pub mod program;
pub mod protocol;
mod stderr;
#[cfg(feature = "run")]
pub mod supervisor;
#[cfg(feature = "run")]
pub mod worker;
