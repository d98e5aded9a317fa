//! Guests that are eBPF tools.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use serde_json::json;

use crate::Case;
use crate::lab::Lab;
use crate::program::guarded;

pub(super) const CASES: &[Case] = &[
    Case { name: "wasm_bpf", run: refused },
    Case { name: "wasm_bpf_in_the_shapes_of_other_sdks", run: shapes },
];

/// Links, is refused, and hears of it as it does of an object that cannot be loaded; in audit mode
/// too, for nothing can load it. The kernel has no more programs than before.
fn refused(lab: &Lab) -> Result<()> {
    let policy = lab.folder()?.file("policy.toml", "version = 1\n")?;
    // The programs that guard guests are loaded now, if not before.
    guarded(&["run", "--policy", &policy, "/guests/hello.wasm"]).finish()?.exits(0)?;
    let before = programs()?;
    for (mode, verdict) in [("enforce", "denied"), ("audit", "denied")] {
        let words = ["run", "--policy", &policy, "--mode", mode, "/guests/wasm_bpf.wat"];
        let outcome = guarded(&words).finish()?;
        outcome.exits(0)?;
        let sizes = [1000u32, 1000, u32::MAX];
        let expected = sizes.map(|bytes| {
            json!({
                "operation": "wasm_bpf", "import": "wasm_load_bpf_object", "bytes": bytes,
                "verdict": verdict, "reason": "never_granted", "rule": null,
                "errno": "EPERM", "errno_number": 1,
            })
        });
        let of_bpf: Vec<_> = outcome
            .of_kind("denial")
            .into_iter()
            .filter(|record| record["operation"] == "wasm_bpf")
            .collect();
        crate::expect::records(&of_bpf, &expected)?;
    }
    let after = programs()?;
    ensure!(!before.is_empty() && before == after, "programs {before:?}, and now {after:?}");
    Ok(())
}

/// The numbers of the BPF programs that the kernel has.
fn programs() -> Result<BTreeSet<u32>> {
    loaded_programs()
        .map(|program| program.map(|it| it.id()))
        .collect::<Result<_, _>>()
        .context("list the programs")
}

/// Rust and Go declare pointers of 64 bits, tinygo has a module of its own; what nobody declares is
/// refused before anything runs.
fn shapes(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let guest = |file: &str, module: &str, name: &str, parameters: &str| {
        let text = format!(
            r#"(module (import "{module}" "{name}" (func (param {parameters}) (result i32)))
                (memory (export "memory") 1) (func (export "_start")))"#
        );
        folder.file(file, text)
    };
    let operate = "wasm_bpf_map_operate";
    let wide = guest("wide.wat", "wasm_bpf", operate, "i32 i32 i64 i64 i64 i64")?;
    let wrapped = guest(
        "wrapped.wat",
        "callback-wrapper",
        "wasm_bpf_buffer_poll",
        "i64 i32 i32 i32 i32 i32",
    )?;
    for fits in [wide, wrapped] {
        guarded(&["run", &fits]).finish()?.exits(0)?;
    }
    let bent = guest("bent.wat", "wasm_bpf", operate, "i32 i32 i64 i32 i64 i64")?;
    guarded(&["run", &bent]).finish()?.exits(125)?.says("wasm_bpf_map_operate")?;
    Ok(())
}
