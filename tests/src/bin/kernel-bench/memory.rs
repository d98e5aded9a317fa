//! What a guest takes of the kernel's memory.

use std::{collections::BTreeSet, fs, os::fd::AsFd as _};

use anyhow::{Context as _, Result, ensure};
use wasi_guard_enforce::{cgroup::Limits, guest::Guest, programs::Build};
use wasi_guard_tests::actor::own_program;
use wasi_guard_tests::{actor::describe, report, scale::Scale};

use crate::{ROOT, compile};

/// `BPF_MAP_TYPE_ARRAY`, of which tables are, and `BPF_MAP_TYPE_RINGBUF` (uapi/linux/bpf.h).
const ARRAY: u64 = 2;
const RING: u64 = 27;
/// What a policy has that says nothing of its `ring`.
const RING_BYTES: u32 = wasi_guard_policy::DEFAULT_RING as u32;

/// Prints the memory of a guest by number of rules.
pub(crate) fn measure() -> Result<()> {
    fs::create_dir_all(ROOT).with_context(|| format!("create {ROOT}"))?;
    let root = fs::File::open(ROOT).with_context(|| format!("open {ROOT}"))?;
    let program = own_program()?;
    let others = charged()?;
    for scale in Scale::EVERY {
        let create = || {
            Guest::create(&Build::this(false), &Limits::default(), RING_BYTES, &program)
                .map_err(describe)
        };
        let mut guest = create()?;
        // Maps that all guests share are not this guest's.
        let shared = charged()?.0 - others.0;
        let mut table = compile(&scale.policy("root"))?;
        guest.root(&mut table, 0, root.as_fd()).map_err(describe)?;
        guest.arm(&table).map_err(describe)?;
        let (arrays, ring) = charged()?;
        let charged_table = arrays - shared - others.0;
        ensure!(charged_table >= table.bytes().len() as u64, "{charged_table} hold a whole table");
        let mut second = create()?;
        second.arm(&table).map_err(describe)?;
        let with_second = charged()?;
        let rules = scale.rules.to_string();
        for (what, bytes) in [
            ("table", table.bytes().len() as u64),
            ("table, charged", charged_table),
            ("ring buffer, charged", ring - others.1),
            ("first guest under a policy", charged_table + ring - others.1),
            ("each further guest", with_second.0 - arrays + with_second.1 - ring),
        ] {
            report::print(&[("rules", &rules), ("what", what)], bytes as f64, "bytes");
        }
    }
    Ok(())
}

/// Bytes that the kernel charges (`memlock`) for the arrays and for the ring buffers that this
/// process holds, for each once.
fn charged() -> Result<(u64, u64)> {
    let (mut arrays, mut rings) = (0, 0);
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir("/proc/self/fdinfo").context("list our descriptors")?.flatten() {
        // The descriptor of this list itself is closed by now, or of no interest.
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value.trim().parse::<u64>().ok())
        };
        if field("map_id").is_none_or(|id| !seen.insert(id)) {
            continue;
        }
        match (field("map_type"), field("memlock")) {
            (Some(ARRAY), Some(bytes)) => arrays += bytes,
            (Some(RING), Some(bytes)) => rings += bytes,
            _ => {}
        }
    }
    Ok((arrays, rings))
}
