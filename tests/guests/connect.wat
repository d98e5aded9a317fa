;; A component that connects over TCP with WASI 0.2, written by hand: to 127.0.0.1:7878, then to
;; 127.0.0.1:7879. Prints a letter for each: `+` if it could send a byte, else the error code of
;; wasi:sockets, `a` being unknown, `b` access-denied, and so on.
(component
  (import "wasi:io/error@0.2.0" (instance $error
    (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $out (sub resource)))
    (export "input-stream" (type (sub resource)))
    (alias outer 1 $error-type (type $outer-error))
    (export "error" (type $err (eq $outer-error)))
    (type $failure (variant (case "last-operation-failed" (own $err)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8))
        (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (alias export $streams "input-stream" (type $input-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $outer-stream))
    (export "output-stream" (type $out (eq $outer-stream)))
    (export "get-stdout" (func (result (own $out))))))
  (import "wasi:sockets/network@0.2.0" (instance $network
    (export "network" (type (sub resource)))
    (type $codes (enum "unknown" "access-denied" "not-supported" "invalid-argument"
      "out-of-memory" "timeout" "concurrency-conflict" "not-in-progress" "would-block"
      "invalid-state" "new-socket-limit" "address-not-bindable" "address-in-use"
      "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted"
      "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type (eq $codes)))
    (type $families (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $families)))
    (type $address4 (tuple u8 u8 u8 u8))
    (export "ipv4-address" (type $ipv4-address (eq $address4)))
    (type $address6 (tuple u16 u16 u16 u16 u16 u16 u16 u16))
    (export "ipv6-address" (type $ipv6-address (eq $address6)))
    (type $socket4 (record (field "port" u16) (field "address" $ipv4-address)))
    (export "ipv4-socket-address" (type $ipv4-socket-address (eq $socket4)))
    (type $socket6 (record (field "port" u16) (field "flow-info" u32)
      (field "address" $ipv6-address) (field "scope-id" u32)))
    (export "ipv6-socket-address" (type $ipv6-socket-address (eq $socket6)))
    (type $socket (variant (case "ipv4" $ipv4-socket-address) (case "ipv6" $ipv6-socket-address)))
    (export "ip-socket-address" (type (eq $socket)))))
  (alias export $network "network" (type $network-type))
  (alias export $network "error-code" (type $error-code))
  (alias export $network "ip-address-family" (type $ip-address-family))
  (alias export $network "ip-socket-address" (type $ip-socket-address))
  (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
    (alias outer 1 $network-type (type $outer-network))
    (export "network" (type $network (eq $outer-network)))
    (export "instance-network" (func (result (own $network))))))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp
    (alias outer 1 $network-type (type $outer-network))
    (export "network" (type $network (eq $outer-network)))
    (alias outer 1 $error-code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $ip-socket-address (type $outer-address))
    (export "ip-socket-address" (type $address (eq $outer-address)))
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (alias outer 1 $input-stream (type $outer-in))
    (export "input-stream" (type $in (eq $outer-in)))
    (alias outer 1 $output-stream (type $outer-out))
    (export "output-stream" (type $out (eq $outer-out)))
    (export "tcp-socket" (type $socket (sub resource)))
    (export "[method]tcp-socket.start-connect"
      (func (param "self" (borrow $socket)) (param "network" (borrow $network))
        (param "remote-address" $address) (result (result (error $code)))))
    (export "[method]tcp-socket.finish-connect"
      (func (param "self" (borrow $socket))
        (result (result (tuple (own $in) (own $out)) (error $code)))))
    (export "[method]tcp-socket.subscribe"
      (func (param "self" (borrow $socket)) (result (own $pollable))))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
    (alias outer 1 $error-code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $ip-address-family (type $outer-family))
    (export "ip-address-family" (type $family (eq $outer-family)))
    (alias outer 1 $tcp-socket (type $outer-socket))
    (export "tcp-socket" (type $socket (eq $outer-socket)))
    (export "create-tcp-socket"
      (func (param "address-family" $family) (result (result (own $socket) (error $code)))))))

  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory "memory")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $network (canon lower (func $instance-network "instance-network")))
  (core func $create (canon lower
    (func $create "create-tcp-socket") (memory $memory "memory")))
  (core func $start (canon lower
    (func $tcp "[method]tcp-socket.start-connect") (memory $memory "memory")))
  (core func $finish (canon lower
    (func $tcp "[method]tcp-socket.finish-connect") (memory $memory "memory")))
  (core func $subscribe (canon lower (func $tcp "[method]tcp-socket.subscribe")))

  (core module $main
    (import "host" "memory" (memory 1))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "block" (func $block (param i32)))
    (import "host" "network" (func $network (result i32)))
    (import "host" "create" (func $create (param i32 i32)))
    (import "host" "start"
      (func $start (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "finish" (func $finish (param i32 i32)))
    (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
    ;; The letter for the error code that lies at $at.
    (func $letter (param $at i32) (result i32)
      (i32.add (i32.const 97) (i32.load8_u (local.get $at))))
    (func $try (param $port i32) (result i32) (local $socket i32)
      (call $create (i32.const 0) (i32.const 64))
      (if (i32.load8_u (i32.const 64)) (then (return (call $letter (i32.const 68)))))
      (local.set $socket (i32.load (i32.const 68)))
      (call $start (local.get $socket) (call $network) (i32.const 0) (local.get $port)
        (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 80))
      (if (i32.load8_u (i32.const 80)) (then (return (call $letter (i32.const 81)))))
      (call $block (call $subscribe (local.get $socket)))
      (call $finish (local.get $socket) (i32.const 96))
      (if (i32.load8_u (i32.const 96)) (then (return (call $letter (i32.const 100)))))
      (call $write (i32.load (i32.const 104)) (i32.const 16) (i32.const 1) (i32.const 112))
      (if (i32.load8_u (i32.const 112)) (then (unreachable)))
      (i32.const 43))
    ;; The result is that of wasi:cli/run: 0 is success.
    (func (export "run") (result i32)
      (i32.store8 (i32.const 32) (call $try (i32.const 7878)))
      (i32.store8 (i32.const 33) (call $try (i32.const 7879)))
      (call $write (call $get-stdout) (i32.const 32) (i32.const 2) (i32.const 0))
      (i32.load8_u (i32.const 0))))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write))
    (export "block" (func $block))
    (export "network" (func $network))
    (export "create" (func $create))
    (export "start" (func $start))
    (export "finish" (func $finish))
    (export "subscribe" (func $subscribe))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
