//! The imports in the forms of other SDKs than C's, at work.

use anyhow::{Context as _, Result};

use super::{EVERYTHING, call, policy};
use crate::Case;
use crate::lab::{Folder, Lab};
use crate::program::guarded;

pub(in super::super) const CASES: &[Case] = &[
    Case { name: "bpf_map_operate_with_wide_pointers", run: wide },
    Case { name: "bpf_poll_with_an_export_as_the_callback", run: exported },
];

/// An object in a guest's memory at 65536, and how many bytes it has.
fn object(name: &str) -> Result<(String, usize)> {
    let path = format!("/objects/{name}.bpf.o");
    let bytes = std::fs::read(&path).with_context(|| format!("read {path}"))?;
    let text: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    Ok((format!("(data (i32.const 65536) \"{text}\")"), bytes.len()))
}

/// Writes a guest that exits with the number of the step that failed.
fn guest(folder: &Folder, name: &str, imports: &str, rest: &str) -> Result<String> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "fd_write"
              (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasm_bpf" "wasm_load_bpf_object" (func $load (param i32 i32) (result i64)))
            (import "wasm_bpf" "wasm_close_bpf_object" (func $close (param i64) (result i32)))
            (import "wasm_bpf" "wasm_attach_bpf_program"
              (func $attach (param i64 i32 i32) (result i32)))
            (import "wasm_bpf" "wasm_bpf_map_fd_by_name" (func $map (param i64 i32) (result i32)))
            {imports}
            (memory (export "memory") 3)
            ;; Ends with the step's number if it went wrong.
            (func $check (param $step i32) (param $right i32)
              (if (i32.eqz (local.get $right)) (then (call $exit (local.get $step)))))
            {rest})"#
    );
    folder.file(name, text)
}

/// Rust and Go have pointers of 64 bits; of Go's, the descriptor has them too in some versions.
fn wide(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let (data, size) = object("maps")?;
    for (form, fd) in [("i32", "(local.get $fd)"), ("i64", "(i64.extend_i32_s (local.get $fd))")] {
        let import = format!(
            r#"(import "wasm_bpf" "wasm_bpf_map_operate"
                (func $operate (param {form} i32 i64 i64 i64 i64) (result i32)))"#
        );
        let rest = format!(
            r#"{data}
            (data (i32.const 256) "array\00")
            (func (export "_start") (local $object i64) (local $fd i32)
              (local.set $object (call $load (i32.const 65536) (i32.const {size})))
              (call $check (i32.const 1) (i64.gt_s (local.get $object) (i64.const 0)))
              (local.set $fd (call $map (local.get $object) (i32.const 256)))
              (call $check (i32.const 2) (i32.gt_s (local.get $fd) (i32.const 0)))
              (i32.store (i32.const 512) (i32.const 3))
              (i64.store (i32.const 520) (i64.const 0x1122334455667788))
              (call $check (i32.const 3) (i32.eqz (call $operate {fd}
                (i32.const 2) (i64.const 512) (i64.const 520) (i64.const 0) (i64.const 0))))
              (call $check (i32.const 4) (i32.eqz (call $operate {fd}
                (i32.const 1) (i64.const 512) (i64.const 528) (i64.const 0) (i64.const 0))))
              (call $check (i32.const 5)
                (i64.eq (i64.load (i32.const 528)) (i64.const 0x1122334455667788)))
              ;; The key after 2 is 3, and none comes after 3.
              (i32.store (i32.const 512) (i32.const 2))
              (call $check (i32.const 6) (i32.eqz (call $operate {fd}
                (i32.const 4) (i64.const 512) (i64.const 0) (i64.const 540) (i64.const 0))))
              (call $check (i32.const 7) (i32.eq (i32.load (i32.const 540)) (i32.const 3)))
              (call $check (i32.const 8) (i32.eq (i32.const -2) (call $operate {fd}
                (i32.const 4) (i64.const 540) (i64.const 0) (i64.const 544) (i64.const 0))))
              ;; No pointer of this memory.
              (call $check (i32.const 9) (i32.eq (i32.const -14) (call $operate {fd}
                (i32.const 1) (i64.const 0x100000200) (i64.const 528) (i64.const 0) (i64.const 0))))
              (call $check (i32.const 10) (i32.eqz (call $close (local.get $object))))
              (call $check (i32.const 11) (i32.eq (i32.const -9) (call $operate {fd}
                (i32.const 1) (i64.const 512) (i64.const 528) (i64.const 0) (i64.const 0)))))"#
        );
        let guest = guest(&folder, &format!("wide-{form}.wat"), &import, &rest)?;
        guarded(&["run", "--policy", &policy, &guest]).finish()?.exits(0)?.denials(&[])?;
    }
    Ok(())
}

/// tinygo's guests have a function that is called by its name.
fn exported(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let policy = policy(&folder, "policy.toml", EVERYTHING)?;
    let (data, size) = object("burst")?;
    let import = r#"(import "callback-wrapper" "wasm_bpf_buffer_poll"
        (func $poll (param i64 i32 i32 i32 i32 i32) (result i32)))"#;
    let rest = format!(
        r#"{data}
        (data (i32.const 256) "ring\00")
        (data (i32.const 272) "to_ring\00")
        (data (i32.const 288) "ready\0a")
        (data (i32.const 300) "\20\01\00\00\06\00\00\00")
        (global $samples (mut i32) (i32.const 0))
        ;; The context is 42, and the sample lies at 1024: the digits of a million, then one more.
        (func (export "go-callback") (param $context i32) (param $at i32) (param $size i32)
          (result i32)
          (call $check (i32.const 20) (i32.eq (local.get $context) (i32.const 42)))
          (call $check (i32.const 21) (i32.eq (local.get $at) (i32.const 1024)))
          (call $check (i32.const 22) (i32.eq (local.get $size) (i32.const 12)))
          (call $check (i32.const 23)
            (i32.eq (i32.load8_u (i32.const 1029)) (i32.const 49)))
          (call $check (i32.const 24)
            (i32.eq (i32.load8_u (i32.const 1035))
              (i32.add (i32.const 48) (global.get $samples))))
          (global.set $samples (i32.add (global.get $samples) (i32.const 1)))
          ;; Stops after the second.
          (i32.mul (i32.const 7) (i32.eq (global.get $samples) (i32.const 2))))
        (func (export "_start") (local $object i64) (local $fd i32)
          (local.set $object (call $load (i32.const 65536) (i32.const {size})))
          (call $check (i32.const 1) (i64.gt_s (local.get $object) (i64.const 0)))
          (call $check (i32.const 2)
            (i32.eqz (call $attach (local.get $object) (i32.const 272) (i32.const 0))))
          (local.set $fd (call $map (local.get $object) (i32.const 256)))
          (call $check (i32.const 3) (i32.gt_s (local.get $fd) (i32.const 0)))
          (call $check (i32.const 4) (i32.eqz (call $poll (local.get $object) (local.get $fd)
            (i32.const 42) (i32.const 1024) (i32.const 64) (i32.const 0))))
          (call $check (i32.const 5) (i32.eqz
            (call $write (i32.const 1) (i32.const 300) (i32.const 1) (i32.const 320))))
          ;; Until two came, in as many polls as it takes.
          (loop $again
            (if (i32.ne (i32.const 7) (call $poll (local.get $object) (local.get $fd)
                (i32.const 42) (i32.const 1024) (i32.const 64) (i32.const 60000)))
              (then (br_if $again (i32.lt_u (global.get $samples) (i32.const 2))))))
          (call $check (i32.const 6) (i32.eq (global.get $samples) (i32.const 2)))
          (call $check (i32.const 7) (i32.eqz (call $poll (local.get $object) (local.get $fd)
            (i32.const 42) (i32.const 1024) (i32.const 64) (i32.const 60000))))
          (call $check (i32.const 8) (i32.eq (global.get $samples) (i32.const 3))))"#
    );
    let guest = guest(&folder, "exported.wat", import, &rest)?;
    let live = guarded(&["run", "--policy", &policy, &guest]).start()?;
    live.wait_for("ready")?;
    call(1_000_000..1_000_003);
    live.finish()?.exits(0)?.denials(&[])?;
    Ok(())
}
