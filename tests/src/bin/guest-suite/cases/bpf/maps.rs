//! Maps of every kind that a guest may have, and what can be done with each.

use anyhow::Result;

use super::{EVERYTHING, policy, run};
use crate::Case;
use crate::lab::Lab;

pub(in super::super) const CASES: &[Case] =
    &[Case { name: "bpf_maps_of_every_kind", run: every_kind }];

fn every_kind(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let processors =
        aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("{path}: {error}"))?;
    // A value of eight bytes for each: 1, 2, and so on.
    let values: String = (1..=processors).map(|at| format!("{at:02x}00000000000000")).collect();
    let bytes = processors * 8;
    let each = |key: &str| {
        (
            format!("update {key} {values} 0"),
            format!("lookup {key} {bytes}"),
            format!("lookup 0 {values}"),
        )
    };
    let (set_array, get_array, found_array) = each("02000000");
    let (set_hash, get_hash, found_hash) = each("0500000000000000");
    let state = "0100000000000000020000000300000004000000ffffffff";
    let set_state = format!("update 07000000 {state} 0");
    let found_state = format!("lookup 0 {state}");
    let variables = format!("lookup 0 {}", "00".repeat(64));
    let steps = [
        ("load /objects/maps.bpf.o", "load 1"),
        ("map hash", "map 0"),
        ("next -", "next -2 "),
        ("lookup 07000000 24", "lookup -2 "),
        (&set_state, "update 0"),
        ("lookup 07000000 24", &found_state),
        // BPF_NOEXIST, BPF_EXIST
        (&format!("update 07000000 {state} 1"), "update -17"),
        (&format!("update 08000000 {state} 2"), "update -2"),
        ("next -", "next 0 07000000"),
        ("next 07000000", "next -2 "),
        ("delete 07000000", "delete 0"),
        ("delete 07000000", "delete -2"),
        ("map array", "map 0"),
        ("lookup 03000000 8", "lookup 0 0000000000000000"),
        ("update 03000000 0123456789abcdef 0", "update 0"),
        ("lookup 03000000 8", "lookup 0 0123456789abcdef"),
        ("update 04000000 0123456789abcdef 0", "update -7"),
        ("delete 03000000", "delete -22"),
        ("next 02000000", "next 0 03000000"),
        ("map percpu_array", "map 0"),
        (&set_array, "update 0"),
        (&get_array, &found_array),
        ("map percpu_hash", "map 0"),
        (&set_hash, "update 0"),
        (&get_hash, &found_hash),
        ("next ffffffffffffffff", "next 0 0500000000000000"),
        ("delete 0500000000000000", "delete 0"),
        ("map lru", "map 0"),
        ("update 01000000 2a000000 0", "update 0"),
        ("lookup 01000000 4", "lookup 0 2a000000"),
        ("delete 01000000", "delete 0"),
        // 10.0.0.0/8, in which 10.1.2.3 is and 11.1.2.3 not.
        ("map networks", "map 0"),
        ("update 080000000a000000 2b000000 0", "update 0"),
        ("lookup 200000000a010203 4", "lookup 0 2b000000"),
        ("lookup 200000000b010203 4", "lookup -2 "),
        ("delete 080000000a000000", "delete 0"),
        // No keys: the first that came, the last that came. Nothing takes it away.
        ("map queue", "map 0"),
        ("lookup - 4", "lookup -2 "),
        ("update - 01000000 0", "update 0"),
        ("update - 02000000 0", "update 0"),
        ("lookup - 4", "lookup 0 01000000"),
        ("lookup - 4", "lookup 0 01000000"),
        ("delete -", "delete -22"),
        ("map stack", "map 0"),
        ("update - 0100000000000000 0", "update 0"),
        ("update - 0200000000000000 0", "update 0"),
        ("lookup - 8", "lookup 0 0200000000000000"),
        // Whether it may be in there; the guest's value stands before the call at the same place.
        ("map bloom", "map 0"),
        ("update - 01000000 0", "update 0"),
        // The value that was added is where the value of a lookup is.
        ("lookup - 4", "lookup 0 01000000"),
        ("map stacks", "map 0"),
        ("next -", "next -2 "),
        ("lookup 00000000 1016", "lookup -2 "),
        // What is in these is named by descriptors.
        ("map groups", "map 0"),
        // A preopen, which is no cgroup; and what is no preopen.
        ("update 00000000 03000000 0", "update -22"),
        ("update 00000000 01000000 0", "update -9"),
        ("lookup 00000000 4", "lookup -1 "),
        ("map outer", "map 0"),
        ("update 00000000 03000000 0", "update -1"),
        ("map perf", "map 0"),
        ("lookup 00000000 4", "lookup -1 "),
        ("map ring", "map 0"),
        ("lookup - 4", "lookup -1 "),
        // Variables: the constants cannot be changed.
        ("map .rodata", "map 0"),
        ("lookup 00000000 8", "lookup 0 7761736900000000"),
        ("update 00000000 7761736900000000 0", "update -1"),
        ("map .data", "map 0"),
        ("lookup 00000000 4", "lookup 0 07000000"),
        ("update 00000000 08000000 0", "update 0"),
        ("lookup 00000000 4", "lookup 0 08000000"),
        ("map .bss", "map 0"),
        ("lookup 00000000 64", &variables),
        // With entries in them the program finds what it looks for.
        ("map hash", "map 0"),
        (&format!("update 01000000 {state} 0"), "update 0"),
        ("attach everything", "attach 0"),
        ("sleep 50", ""),
        ("map array", "map 0"),
        ("lookup 00000000 8", "lookup 0 0000000000000000"),
        ("map stacks", "map 0"),
        ("next -", "next 0 *"),
        ("map perf", "map 0"),
        ("poll 1 0", "poll 0 *"),
        ("map ring", "map 0"),
        ("poll 1 100", "poll 0 +"),
        ("close", "close 0"),
    ];
    let steps: Vec<(&str, &str)> = steps.iter().map(|(step, says)| (*step, *says)).collect();
    run(&policy, &[], &steps)?.denials(&[])?;
    Ok(())
}
