;; A component with WASI 0.2, written by hand: prints a line through wasi:cli/stdout and ends with
;; success.
(component
  (import "wasi:io/error@0.2.0" (instance $error
    (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (alias outer 1 $error-type (type $outer-error))
    (export "error" (type $err (eq $outer-error)))
    (type $failure (variant (case "last-operation-failed" (own $err)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8))
        (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $outer-stream))
    (export "output-stream" (type $out (eq $outer-stream)))
    (export "get-stdout" (func (result (own $out))))))

  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 100) "hello from a component\n"))
  (core instance $memory (instantiate $memory))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory $memory "memory")))

  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    ;; The result is that of wasi:cli/run: 0 is success.
    (func (export "run") (result i32)
      (call $write (call $get-stdout) (i32.const 100) (i32.const 23) (i32.const 0))
      (i32.load8_u (i32.const 0))))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
