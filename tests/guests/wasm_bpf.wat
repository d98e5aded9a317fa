;; An eBPF tool as the C SDK of wasm-bpf makes it: asks for an object to be loaded and goes on with
;; what it got. Its exit code says which answer was not what docs/wasm-bpf.md says.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasm_bpf" "wasm_load_bpf_object" (func $load (param i32 i32) (result i64)))
  (import "wasm_bpf" "wasm_close_bpf_object" (func $close (param i64) (result i32)))
  (import "wasm_bpf" "wasm_attach_bpf_program"
    (func $attach (param i64 i32 i32) (result i32)))
  (import "wasm_bpf" "wasm_attach_bpf_program_fd"
    (func $attach_fd (param i64 i32 i32) (result i32)))
  (import "wasm_bpf" "wasm_bpf_map_fd_by_name" (func $map (param i64 i32) (result i32)))
  (import "wasm_bpf" "wasm_bpf_map_operate"
    (func $operate (param i32 i32 i32 i32 i32 i64) (result i32)))
  (import "wasm_bpf" "wasm_bpf_buffer_poll"
    (func $poll (param i64 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (table (export "__indirect_function_table") 1 funcref)
  (func $check (param $place i32) (param $right i32)
    (if (i32.eqz (local.get $right)) (then (call $exit (local.get $place)))))
  (func $refused (param $place i32) (param $answer i32)
    (call $check (local.get $place) (i32.eq (local.get $answer) (i32.const -1))))
  (func (export "_start")
    ;; In the memory, beyond it, and of the largest size.
    (call $check (i32.const 1) (i64.eqz (call $load (i32.const 16) (i32.const 1000))))
    (call $check (i32.const 2) (i64.eqz (call $load (i32.const -1) (i32.const 1000))))
    (call $check (i32.const 3) (i64.eqz (call $load (i32.const 0) (i32.const -1))))
    (call $refused (i32.const 4) (call $attach (i64.const 0) (i32.const 0) (i32.const 0)))
    (call $refused (i32.const 5) (call $attach (i64.const 1) (i32.const -1) (i32.const -1)))
    (call $refused (i32.const 6) (call $attach_fd (i64.const 0) (i32.const 0) (i32.const 3)))
    (call $refused (i32.const 7) (call $map (i64.const 0) (i32.const 0)))
    ;; Descriptors that the process has.
    (call $refused (i32.const 8)
      (call $operate (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 16)
        (i64.const 0)))
    (call $refused (i32.const 9)
      (call $operate (i32.const 3) (i32.const 2) (i32.const -1) (i32.const -1) (i32.const -1)
        (i64.const -1)))
    (call $refused (i32.const 10)
      (call $poll (i64.const 0) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 65536) (i32.const -1)))
    (call $refused (i32.const 11) (call $close (i64.const 0)))
    (call $refused (i32.const 12) (call $close (i64.const -1)))))
