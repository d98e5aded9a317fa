//! The cases, by family.

mod audit;
mod bpf;
mod cache;
mod capabilities;
mod command;
mod compiler;
mod crowd;
mod disks;
mod files;
mod host;
mod limits;
mod network;
mod preopens;
mod python;
mod reload;
mod signals;
mod unchecked;
mod wasm_bpf;

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::bpf::connect_if_asked;
pub(crate) use self::capabilities::serve_if_asked;
use crate::Case;
use crate::lab::Lab;

/// All cases. The debug log comes late: it loads the programs a second time, and every system
/// call is slower after that. The last one leaves a machine on which nothing can be guarded.
pub(crate) static EVERY: &[&[Case]] = &[
    GUESTS,
    command::CASES,
    files::CASES,
    preopens::CASES,
    unchecked::CASES,
    network::CASES,
    wasm_bpf::CASES,
    bpf::coverage::CASES,
    bpf::maps::CASES,
    bpf::denials::CASES,
    bpf::own::CASES,
    bpf::samples::CASES,
    bpf::ends::CASES,
    bpf::imports::CASES,
    limits::CASES,
    disks::CASES,
    signals::CASES,
    reload::CASES,
    cache::CASES,
    compiler::CASES,
    host::CASES,
    capabilities::CASES,
    python::CASES,
    audit::CASES,
    crowd::CASES,
    audit::DEBUG_LOG,
    host::LOCKDOWN,
];

const GUESTS: &[Case] = &[Case { name: "every_guest_has_a_case", run: every_guest_has_a_case }];

fn every_guest_has_a_case(_: &Lab) -> Result<()> {
    let mut count = 0;
    for entry in std::fs::read_dir("/guests").context("list /guests")? {
        let path = entry.context("list /guests")?.path();
        let name = path.file_stem().and_then(|name| name.to_str()).context("a guest's name")?;
        count += 1;
        // The escape suite's.
        if name == "captive" {
            continue;
        }
        let known = EVERY.iter().flat_map(|family| family.iter()).any(|case| case.name == name);
        ensure!(known, "no case is named {name:?}, as the guest is");
    }
    ensure!(count > 0, "there are no guests");
    Ok(())
}
