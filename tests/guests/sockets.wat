;; A component that listens and sends datagrams with WASI 0.2, over IPv6 and IPv4, written by hand.
;; Its peer has sockets for datagrams at [::1]:7882 and 127.0.0.1:7884. Prints a letter for each
;; attempt: `+` if all of it worked, else the error code of wasi:sockets, `a` being unknown, `b`
;; access-denied, and so on; `-` for what was not tried because an earlier one did not work.
;;
;; 1. listens over TCP at [::1]:7880
;; 2. sends [::1]:7882 the port at which it listens, from [::1]:7881
;; 3. accepts a client, reads `ping` from it, writes `pong`
;; 4. receives `pong` where it sent the port
;; 5. sends [::1]:7887 a datagram
;; 6. connects 127.0.0.1:7883 to 127.0.0.1:7884 for datagrams, sends one, receives `pong`
;; 7. listens over TCP at [::1]:7886
;; 8. binds 127.0.0.1:7888 for datagrams
;; 9. connects 127.0.0.1:7885 to 127.0.0.1:7889 for datagrams
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
    (export "input-stream" (type $in (sub resource)))
    (alias outer 1 $error-type (type $outer-error))
    (export "error" (type $err (eq $outer-error)))
    (type $failure (variant (case "last-operation-failed" (own $err)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $out)) (param "contents" (list u8))
        (result (result (error $stream-error)))))
    (export "[method]input-stream.blocking-read"
      (func (param "self" (borrow $in)) (param "len" u64)
        (result (result (list u8) (error $stream-error)))))))
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
    (export "[method]tcp-socket.set-hop-limit"
      (func (param "self" (borrow $socket)) (param "value" u8) (result (result (error $code)))))
    (export "[method]tcp-socket.start-bind"
      (func (param "self" (borrow $socket)) (param "network" (borrow $network))
        (param "local-address" $address) (result (result (error $code)))))
    (export "[method]tcp-socket.finish-bind"
      (func (param "self" (borrow $socket)) (result (result (error $code)))))
    (export "[method]tcp-socket.start-listen"
      (func (param "self" (borrow $socket)) (result (result (error $code)))))
    (export "[method]tcp-socket.finish-listen"
      (func (param "self" (borrow $socket)) (result (result (error $code)))))
    (export "[method]tcp-socket.accept"
      (func (param "self" (borrow $socket))
        (result (result (tuple (own $socket) (own $in) (own $out)) (error $code)))))
    (export "[method]tcp-socket.local-address"
      (func (param "self" (borrow $socket)) (result (result $address (error $code)))))
    (export "[method]tcp-socket.remote-address"
      (func (param "self" (borrow $socket)) (result (result $address (error $code)))))
    (export "[method]tcp-socket.subscribe"
      (func (param "self" (borrow $socket)) (result (own $pollable))))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
    (alias outer 1 $error-code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $ip-address-family (type $outer-family))
    (export "ip-address-family" (type $family (eq $outer-family)))
    (alias outer 1 $tcp-socket (type $outer-socket))
    (export "tcp-socket" (type $socket (eq $outer-socket)))
    (export "create-tcp-socket"
      (func (param "address-family" $family) (result (result (own $socket) (error $code)))))))
  (import "wasi:sockets/udp@0.2.0" (instance $udp
    (alias outer 1 $network-type (type $outer-network))
    (export "network" (type $network (eq $outer-network)))
    (alias outer 1 $error-code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $ip-socket-address (type $outer-address))
    (export "ip-socket-address" (type $address (eq $outer-address)))
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (type $incoming (record (field "data" (list u8)) (field "remote-address" $address)))
    (export "incoming-datagram" (type $incoming-datagram (eq $incoming)))
    (type $outgoing (record (field "data" (list u8)) (field "remote-address" (option $address))))
    (export "outgoing-datagram" (type $outgoing-datagram (eq $outgoing)))
    (export "udp-socket" (type $socket (sub resource)))
    (export "incoming-datagram-stream" (type $in (sub resource)))
    (export "outgoing-datagram-stream" (type $out (sub resource)))
    (export "[method]udp-socket.start-bind"
      (func (param "self" (borrow $socket)) (param "network" (borrow $network))
        (param "local-address" $address) (result (result (error $code)))))
    (export "[method]udp-socket.finish-bind"
      (func (param "self" (borrow $socket)) (result (result (error $code)))))
    (export "[method]udp-socket.stream"
      (func (param "self" (borrow $socket)) (param "remote-address" (option $address))
        (result (result (tuple (own $in) (own $out)) (error $code)))))
    (export "[method]incoming-datagram-stream.receive"
      (func (param "self" (borrow $in)) (param "max-results" u64)
        (result (result (list $incoming-datagram) (error $code)))))
    (export "[method]incoming-datagram-stream.subscribe"
      (func (param "self" (borrow $in)) (result (own $pollable))))
    (export "[method]outgoing-datagram-stream.check-send"
      (func (param "self" (borrow $out)) (result (result u64 (error $code)))))
    (export "[method]outgoing-datagram-stream.send"
      (func (param "self" (borrow $out)) (param "datagrams" (list $outgoing-datagram))
        (result (result u64 (error $code)))))))
  (alias export $udp "udp-socket" (type $udp-socket))
  (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
    (alias outer 1 $error-code (type $outer-code))
    (export "error-code" (type $code (eq $outer-code)))
    (alias outer 1 $ip-address-family (type $outer-family))
    (export "ip-address-family" (type $family (eq $outer-family)))
    (alias outer 1 $udp-socket (type $outer-socket))
    (export "udp-socket" (type $socket (eq $outer-socket)))
    (export "create-udp-socket"
      (func (param "address-family" $family) (result (result (own $socket) (error $code)))))))

  (core module $memory
    (memory (export "memory") 4)
    (global $free (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower
    (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory "memory")))
  (core func $read (canon lower
    (func $streams "[method]input-stream.blocking-read") (memory $memory "memory")
    (realloc (func $memory "realloc"))))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $network (canon lower (func $instance-network "instance-network")))
  (core func $tcp (canon lower (func $create-tcp "create-tcp-socket") (memory $memory "memory")))
  (core func $tcp-hops (canon lower
    (func $tcp "[method]tcp-socket.set-hop-limit") (memory $memory "memory")))
  (core func $tcp-start-bind (canon lower
    (func $tcp "[method]tcp-socket.start-bind") (memory $memory "memory")))
  (core func $tcp-finish-bind (canon lower
    (func $tcp "[method]tcp-socket.finish-bind") (memory $memory "memory")))
  (core func $start-listen (canon lower
    (func $tcp "[method]tcp-socket.start-listen") (memory $memory "memory")))
  (core func $finish-listen (canon lower
    (func $tcp "[method]tcp-socket.finish-listen") (memory $memory "memory")))
  (core func $accept (canon lower
    (func $tcp "[method]tcp-socket.accept") (memory $memory "memory")))
  (core func $local (canon lower
    (func $tcp "[method]tcp-socket.local-address") (memory $memory "memory")))
  (core func $remote (canon lower
    (func $tcp "[method]tcp-socket.remote-address") (memory $memory "memory")))
  (core func $tcp-subscribe (canon lower (func $tcp "[method]tcp-socket.subscribe")))
  (core func $udp (canon lower (func $create-udp "create-udp-socket") (memory $memory "memory")))
  (core func $udp-start-bind (canon lower
    (func $udp "[method]udp-socket.start-bind") (memory $memory "memory")))
  (core func $udp-finish-bind (canon lower
    (func $udp "[method]udp-socket.finish-bind") (memory $memory "memory")))
  (core func $stream (canon lower
    (func $udp "[method]udp-socket.stream") (memory $memory "memory")))
  (core func $receive (canon lower
    (func $udp "[method]incoming-datagram-stream.receive") (memory $memory "memory")
    (realloc (func $memory "realloc"))))
  (core func $udp-subscribe (canon lower (func $udp "[method]incoming-datagram-stream.subscribe")))
  (core func $check-send (canon lower
    (func $udp "[method]outgoing-datagram-stream.check-send") (memory $memory "memory")))
  (core func $send (canon lower
    (func $udp "[method]outgoing-datagram-stream.send") (memory $memory "memory")))

  (core module $main
    (import "host" "memory" (memory 4))
    (import "host" "get-stdout" (func $get-stdout (result i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (import "host" "block" (func $block (param i32)))
    (import "host" "network" (func $network (result i32)))
    (import "host" "tcp" (func $tcp (param i32 i32)))
    (import "host" "tcp-hops" (func $tcp-hops (param i32 i32 i32)))
    (import "host" "tcp-start-bind" (func $tcp-start-bind
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "tcp-finish-bind" (func $tcp-finish-bind (param i32 i32)))
    (import "host" "start-listen" (func $start-listen (param i32 i32)))
    (import "host" "finish-listen" (func $finish-listen (param i32 i32)))
    (import "host" "accept" (func $accept (param i32 i32)))
    (import "host" "local" (func $local (param i32 i32)))
    (import "host" "remote" (func $remote (param i32 i32)))
    (import "host" "tcp-subscribe" (func $tcp-subscribe (param i32) (result i32)))
    (import "host" "udp" (func $udp (param i32 i32)))
    (import "host" "udp-start-bind" (func $udp-start-bind
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "udp-finish-bind" (func $udp-finish-bind (param i32 i32)))
    (import "host" "stream" (func $stream
      (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "receive" (func $receive (param i32 i64 i32)))
    (import "host" "udp-subscribe" (func $udp-subscribe (param i32) (result i32)))
    (import "host" "check-send" (func $check-send (param i32 i32)))
    (import "host" "send" (func $send (param i32 i32 i32 i32)))
    ;; At 32 what is printed, at 64 what a call answered, at 128 the port at which it listens, at
    ;; 160 a datagram to send.
    (data (i32.const 32) "---------")
    (data (i32.const 208) "pong")
    (global $listening (mut i32) (i32.const 0))
    (global $socket (mut i32) (i32.const 0))
    (global $in (mut i32) (i32.const 0))
    (global $out (mut i32) (i32.const 0))
    (func $failed (result i32) (i32.load8_u (i32.const 64)))
    ;; The letter for what is at 64, with an error code at $at.
    (func $letter (param $at i32) (result i32)
      (if (result i32) (call $failed)
        (then (i32.add (i32.const 97) (i32.load8_u (local.get $at))))
        (else (i32.const 43))))
    ;; Notes the letter of an attempt; whether it worked.
    (func $note (param $number i32) (param $letter i32) (result i32)
      (i32.store8 (i32.add (i32.const 31) (local.get $number)) (local.get $letter))
      (i32.eq (local.get $letter) (i32.const 43)))

    ;; Listens over TCP at [::1].
    (func $listen (param $port i32) (result i32)
      (call $tcp (i32.const 1) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 68)))))
      (global.set $listening (i32.load (i32.const 68)))
      (call $tcp-hops (global.get $listening) (i32.const 9) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 65)))))
      (call $tcp-start-bind (global.get $listening) (call $network) (i32.const 1)
        (local.get $port) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 65)))))
      (call $tcp-finish-bind (global.get $listening) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 65)))))
      (call $start-listen (global.get $listening) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 65)))))
      (call $finish-listen (global.get $listening) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 65)))))
      (call $local (global.get $listening) (i32.const 64))
      (i32.store16 (i32.const 128) (i32.load16_u (i32.const 72)))
      (call $letter (i32.const 68)))

    ;; Accepts a client and talks with it.
    (func $serve (result i32) (local $in i32) (local $out i32)
      (call $block (call $tcp-subscribe (global.get $listening)))
      (call $accept (global.get $listening) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 68)))))
      (local.set $in (i32.load (i32.const 72)))
      (local.set $out (i32.load (i32.const 76)))
      (call $remote (i32.load (i32.const 68)) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 68)))))
      (call $read (local.get $in) (i64.const 4) (i32.const 64))
      (if (call $failed) (then (unreachable)))
      ;; "ping"
      (if (i32.ne (i32.load (i32.load (i32.const 68))) (i32.const 0x676e6970))
        (then (unreachable)))
      (call $write (local.get $out) (i32.const 208) (i32.const 4) (i32.const 64))
      (if (call $failed) (then (unreachable)))
      (i32.const 43))

    ;; Binds a socket for datagrams to the loopback address of a family (0: IPv4).
    (func $bind (param $family i32) (param $port i32) (result i32)
      (call $udp (local.get $family) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 68)))))
      (global.set $socket (i32.load (i32.const 68)))
      (if (local.get $family)
        (then (call $udp-start-bind (global.get $socket) (call $network) (i32.const 1)
          (local.get $port) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 64)))
        (else (call $udp-start-bind (global.get $socket) (call $network) (i32.const 0)
          (local.get $port) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
          (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
          (i32.const 64))))
      (if (call $failed) (then (return (call $letter (i32.const 65)))))
      (call $udp-finish-bind (global.get $socket) (i32.const 64))
      (call $letter (i32.const 65)))

    ;; Opens its streams, and if $port is not 0 connects it to 127.0.0.1 first.
    (func $open (param $port i32) (result i32)
      (call $stream (global.get $socket) (i32.ne (local.get $port) (i32.const 0)) (i32.const 0)
        (local.get $port) (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 64))
      (global.set $in (i32.load (i32.const 68)))
      (global.set $out (i32.load (i32.const 72)))
      (call $letter (i32.const 68)))

    ;; Sends the two bytes at 128: to [::1], or if $port is 0 to whom it is connected.
    (func $send-to (param $port i32) (result i32)
      (i32.store (i32.const 160) (i32.const 128))
      (i32.store (i32.const 164) (i32.const 2))
      (i32.store8 (i32.const 168) (i32.ne (local.get $port) (i32.const 0)))
      (i32.store8 (i32.const 172) (i32.const 1))
      (i32.store16 (i32.const 176) (local.get $port))
      (i32.store16 (i32.const 198) (i32.const 1))
      (call $check-send (global.get $out) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 72)))))
      (call $send (global.get $out) (i32.const 160) (i32.const 1) (i32.const 64))
      (call $letter (i32.const 72)))

    ;; Waits for a datagram; it must be "pong".
    (func $hear (result i32)
      (call $block (call $udp-subscribe (global.get $in)))
      (call $receive (global.get $in) (i64.const 1) (i32.const 64))
      (if (call $failed) (then (return (call $letter (i32.const 68)))))
      (if (i32.ne (i32.load (i32.const 72)) (i32.const 1)) (then (unreachable)))
      (if (i32.ne (i32.load (i32.load (i32.load (i32.const 68)))) (i32.load (i32.const 208)))
        (then (unreachable)))
      (i32.const 43))

    ;; Attempts that build on each other.
    (func $talk
      (br_if 0 (i32.eqz (call $note (i32.const 1) (call $listen (i32.const 7880)))))
      (br_if 0 (i32.eqz (call $note (i32.const 2) (call $bind (i32.const 1) (i32.const 7881)))))
      (br_if 0 (i32.eqz (call $note (i32.const 2) (call $open (i32.const 0)))))
      (br_if 0 (i32.eqz (call $note (i32.const 2) (call $send-to (i32.const 7882)))))
      (br_if 0 (i32.eqz (call $note (i32.const 3) (call $serve))))
      (br_if 0 (i32.eqz (call $note (i32.const 4) (call $hear))))
      (drop (call $note (i32.const 5) (call $send-to (i32.const 7887))))
      (br_if 0 (i32.eqz (call $note (i32.const 6) (call $bind (i32.const 0) (i32.const 7883)))))
      (br_if 0 (i32.eqz (call $note (i32.const 6) (call $open (i32.const 7884)))))
      (br_if 0 (i32.eqz (call $note (i32.const 6) (call $send-to (i32.const 0)))))
      (drop (call $note (i32.const 6) (call $hear))))
    ;; The result is that of wasi:cli/run: 0 is success.
    (func (export "run") (result i32)
      (call $talk)
      (drop (call $note (i32.const 7) (call $listen (i32.const 7886))))
      (drop (call $note (i32.const 8) (call $bind (i32.const 0) (i32.const 7888))))
      (if (call $note (i32.const 9) (call $bind (i32.const 0) (i32.const 7885)))
        (then (drop (call $note (i32.const 9) (call $open (i32.const 7889))))))
      (call $write (call $get-stdout) (i32.const 32) (i32.const 9) (i32.const 64))
      (i32.load8_u (i32.const 64))))
  (core instance $main (instantiate $main (with "host" (instance
    (export "memory" (memory $memory "memory"))
    (export "get-stdout" (func $get-stdout))
    (export "write" (func $write))
    (export "read" (func $read))
    (export "block" (func $block))
    (export "network" (func $network))
    (export "tcp" (func $tcp))
    (export "tcp-hops" (func $tcp-hops))
    (export "tcp-start-bind" (func $tcp-start-bind))
    (export "tcp-finish-bind" (func $tcp-finish-bind))
    (export "start-listen" (func $start-listen))
    (export "finish-listen" (func $finish-listen))
    (export "accept" (func $accept))
    (export "local" (func $local))
    (export "remote" (func $remote))
    (export "tcp-subscribe" (func $tcp-subscribe))
    (export "udp" (func $udp))
    (export "udp-start-bind" (func $udp-start-bind))
    (export "udp-finish-bind" (func $udp-finish-bind))
    (export "stream" (func $stream))
    (export "receive" (func $receive))
    (export "udp-subscribe" (func $udp-subscribe))
    (export "check-send" (func $check-send))
    (export "send" (func $send))))))
  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
