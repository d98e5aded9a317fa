;; Hands the worker over to native code; see runtime/src/worker/captive.rs and tests/escape.
(module
  (import "wasi_guard_test" "obey" (func $obey (result i32)))
  (func (export "_start")
    (if (call $obey) (then unreachable))))
