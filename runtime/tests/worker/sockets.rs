//! WASI 0.2 sockets from inside the worker: seccomp and WASI let them through, the kernel decides.
//! The guest suite does the same under policies.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use wasi_guard::protocol::FromWorker;

use super::harness::Run;

/// The part of WASI 0.2 that the guest uses.
const WIT: &str = r"
package test:guest;

world guest {
  import wasi:sockets/instance-network@0.2.0;
  import wasi:sockets/tcp-create-socket@0.2.0;
  import wasi:sockets/tcp@0.2.0;
  import wasi:io/streams@0.2.0;
  import wasi:io/poll@0.2.0;
}

package wasi:io@0.2.0 {
  interface poll {
    resource pollable { block: func(); }
  }
  interface error {
    resource error;
  }
  interface streams {
    use error.{error};
    variant stream-error { last-operation-failed(error), closed }
    resource input-stream {
      blocking-read: func(len: u64) -> result<list<u8>, stream-error>;
    }
    resource output-stream {
      blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
    }
  }
}

package wasi:sockets@0.2.0 {
  interface network {
    resource network;
    enum error-code {
      unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
      concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
      address-not-bindable, address-in-use, remote-unreachable, connection-refused,
      connection-reset, connection-aborted, datagram-too-large, name-unresolvable,
      temporary-resolver-failure, permanent-resolver-failure,
    }
    enum ip-address-family { ipv4, ipv6 }
    type ipv4-address = tuple<u8, u8, u8, u8>;
    type ipv6-address = tuple<u16, u16, u16, u16, u16, u16, u16, u16>;
    record ipv4-socket-address { port: u16, address: ipv4-address }
    record ipv6-socket-address {
      port: u16, flow-info: u32, address: ipv6-address, scope-id: u32,
    }
    variant ip-socket-address { ipv4(ipv4-socket-address), ipv6(ipv6-socket-address) }
  }
  interface instance-network {
    use network.{network};
    instance-network: func() -> network;
  }
  interface tcp-create-socket {
    use network.{error-code, ip-address-family};
    use tcp.{tcp-socket};
    create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
  }
  interface tcp {
    use wasi:io/poll@0.2.0.{pollable};
    use wasi:io/streams@0.2.0.{input-stream, output-stream};
    use network.{network, error-code, ip-socket-address};
    resource tcp-socket {
      start-connect: func(network: borrow<network>, remote-address: ip-socket-address)
        -> result<_, error-code>;
      finish-connect: func() -> result<tuple<input-stream, output-stream>, error-code>;
      subscribe: func() -> pollable;
    }
  }
}
";

/// Connects to 127.0.0.1:`port`, sends `ping`, prints what comes back. Ends with 1 and prints the
/// error code's number as a letter if connecting fails.
fn client(port: u16) -> Vec<u8> {
    let module = format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi:sockets/instance-network@0.2.0" "instance-network"
    (func $network (result i32)))
  (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
    (func $create (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.start-connect"
    (func $start (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.finish-connect"
    (func $finish (param i32 i32)))
  (import "wasi:sockets/tcp@0.2.0" "[method]tcp-socket.subscribe"
    (func $subscribe (param i32) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read"
    (func $read (param i32 i64 i32)))
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 8) "ping")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func $print (param $at i32) (param $length i32)
    (i32.store (i32.const 32) (local.get $at))
    (i32.store (i32.const 36) (local.get $length))
    (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40))))
  ;; prints the error code that lies at $at and ends
  (func $fail (param $at i32)
    (i32.store8 (i32.const 48) (i32.add (i32.const 97) (i32.load8_u (local.get $at))))
    (call $print (i32.const 48) (i32.const 1))
    (call $proc_exit (i32.const 1)))
  (func (export "_start") (local $socket i32) (local $in i32) (local $out i32)
    (call $create (i32.const 0) (i32.const 64))
    (if (i32.load8_u (i32.const 64)) (then (call $fail (i32.const 68))))
    (local.set $socket (i32.load (i32.const 68)))
    (call $start (local.get $socket) (call $network) (i32.const 0) (i32.const {port})
      (i32.const 127) (i32.const 0) (i32.const 0) (i32.const 1)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 80))
    (if (i32.load8_u (i32.const 80)) (then (call $fail (i32.const 81))))
    (call $block (call $subscribe (local.get $socket)))
    (call $finish (local.get $socket) (i32.const 96))
    (if (i32.load8_u (i32.const 96)) (then (call $fail (i32.const 100))))
    (local.set $in (i32.load (i32.const 100)))
    (local.set $out (i32.load (i32.const 104)))
    (call $write (local.get $out) (i32.const 8) (i32.const 4) (i32.const 112))
    (if (i32.load8_u (i32.const 112)) (then (unreachable)))
    (call $read (local.get $in) (i64.const 100) (i32.const 128))
    (if (i32.load8_u (i32.const 128)) (then (unreachable)))
    (call $print (i32.load (i32.const 132)) (i32.load (i32.const 136)))))"#
    );
    component(&module)
}

/// Makes 60 TCP sockets and ends with the error code of the last one, or with 0.
fn many_sockets() -> Vec<u8> {
    component(
        r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket"
    (func $create (param i32 i32)))
  (memory (export "memory") 4)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "_start") (local $count i32)
    (loop $next
      (call $create (i32.const 0) (i32.const 64))
      (br_if $next (i32.lt_u
        (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 60))))
    (if (i32.load8_u (i32.const 64)) (then (call $proc_exit (i32.const 1))))))"#,
    )
}

fn component(module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("guest.wit", WIT).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    use wasi_preview1_component_adapter_provider as adapter;
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .adapter(
            adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        )
        .unwrap()
        .encode()
        .unwrap()
}

#[test]
fn a_component_talks_to_a_server() {
    for time in [None, Some(60_000)] {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let answering = thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut bytes = [0; 4];
            client.read_exact(&mut bytes).unwrap();
            client.write_all(b"pong").unwrap();
            bytes
        });
        let outcome = Run { time, ..Run::new(client(port)) }.go();
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "pong"), "{outcome:?}");
        assert_eq!(&answering.join().unwrap(), b"ping");
    }
}

#[test]
fn a_socket_takes_a_descriptor() {
    for (open_files, code, told) in [(60, 0, 0), (20, 1, 1)] {
        let outcome = Run { open_files: Some(open_files), ..Run::new(many_sockets()) }.go();
        assert_eq!(outcome.code(), code, "{outcome:?}");
        let of_it = |message: &&FromWorker| **message == FromWorker::NoDescriptor;
        assert_eq!(outcome.messages.iter().filter(of_it).count(), told, "{outcome:?}");
    }
}

#[test]
fn what_the_kernel_answers_reaches_the_guest() {
    // Nobody listens there: the port was free a moment ago and is taken by nobody's `bind` to 0
    // while the listener below still holds it without listening.
    let held = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let any = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    rustix::net::bind(&held, &any).unwrap();
    let address = rustix::net::getsockname(&held).unwrap();
    let port = std::net::SocketAddrV4::try_from(address).unwrap().port();
    let outcome = Run::new(client(port)).go();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (1, "o"), "connection-refused is 14th");
    let options = vec!["-Stcp=n"];
    let outcome = Run { options, ..Run::new(client(port)) }.go();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (1, "b"), "access-denied is 1st");
}

/// The guest that listens and sends datagrams, with free ports in place of those that the guest
/// suite's policy has, and these of its peer.
fn listener(peer6: u16, peer4: u16) -> String {
    let mut text = include_str!("../../../tests/guests/sockets.wat").to_owned();
    for port in ["7880", "7881", "7883", "7885", "7886", "7888"] {
        text = text.replace(port, "0");
    }
    for (port, peer) in [("7882", peer6), ("7884", peer4), ("7887", peer6), ("7889", peer4)] {
        text = text.replace(port, &peer.to_string());
    }
    text
}

#[test]
fn a_component_listens_and_sends_datagrams_over_both_families() {
    let peer6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let peer4 = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for peer in [&peer6, &peer4] {
        // A guest that fails says nothing, and its letters are the better message.
        peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    }
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port();
    let guest = listener(port(&peer6), port(&peer4));
    let answering = thread::spawn(move || {
        let mut bytes = [0; 4];
        let (length, guest6) = peer6.recv_from(&mut bytes)?;
        assert_eq!(length, 2, "a port");
        let port = u16::from_le_bytes([bytes[0], bytes[1]]);
        let mut client = TcpStream::connect((Ipv6Addr::LOCALHOST, port))?;
        client.write_all(b"ping")?;
        client.read_exact(&mut bytes)?;
        assert_eq!(&bytes, b"pong");
        peer6.send_to(b"pong", guest6)?;
        let (_, guest4) = peer4.recv_from(&mut bytes)?;
        peer4.send_to(b"pong", guest4)
    });
    let outcome = Run::new(guest).go();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "+++++++++"), "{outcome:?}");
    answering.join().unwrap().unwrap();
}
