//! The claims, by family.

mod access;
mod attributes;
mod differential;
mod file_systems;
mod files;
pub(crate) mod lifecycle;
mod links;
mod metadata;
mod mounts;
mod names;
mod network;
mod never;
mod overlay;
mod processes;
mod race;
mod removal;
mod renames;
mod scope;
mod sharing;
mod swap;
mod table;

use crate::Case;

/// Cases from functions; each function's name is the claim that it proves.
macro_rules! cases {
    ($($claim:ident),+ $(,)?) => {
        pub(crate) const CASES: &[crate::Case] =
            &[$(crate::Case { name: stringify!($claim), run: $claim }),+];
    };
}
use cases;

/// Every case, family by family.
pub(crate) const EVERY: &[&[Case]] = &[
    access::CASES,
    removal::CASES,
    renames::CASES,
    links::CASES,
    metadata::CASES,
    attributes::CASES,
    names::CASES,
    file_systems::CASES,
    files::CASES,
    overlay::CASES,
    mounts::CASES,
    processes::CASES,
    never::CASES,
    network::CASES,
    scope::CASES,
    table::CASES,
    sharing::CASES,
    lifecycle::CASES,
    differential::CASES,
    race::CASES,
    swap::CASES,
];
