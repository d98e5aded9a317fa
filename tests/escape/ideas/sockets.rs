//! Sockets that no rule grants.
//!
//! Stopped by: seccomp, for families that no rule can grant; BPF for kinds, addresses and ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use libc::{
    AF_ALG, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK, SOCK_DGRAM, SOCK_RAW,
    SOCK_SEQPACKET, SOCK_STREAM,
};
use wasi_guard_captive::{Buffer, Value, call};

use super::struct_of;
use crate::captive::CONTROL;
use crate::idea::Free::{Fails, Works};
use crate::idea::Guarded::{Denied, Refused, Unlisted};
use crate::idea::{Draft, Idea, attempt};
use crate::outside;
use crate::scene::{ABSTRACT, Scene};

/// Stderr: a unix datagram socket that the caller gave.
const GIVEN: i32 = 2;

pub(super) fn ideas(scene: &Scene) -> Vec<Idea<'_>> {
    let mut ideas = Vec::new();
    for (name, family, kind, protocol) in [
        ("unix", AF_UNIX, SOCK_STREAM, 0),
        ("unix_datagram", AF_UNIX, SOCK_DGRAM, 0),
        ("netlink", AF_NETLINK, SOCK_RAW, 0),
        ("packet", AF_PACKET, SOCK_RAW, 0x300),
    ] {
        ideas.push(attempt(format!("make_a_{name}_socket"), Works, Unlisted, move |d| {
            call!(d, SYS_socket, family, kind, protocol)
        }));
    }
    // The machine's kernel may have been built without, or its modules left out.
    for (name, family, kind) in
        [("vsock", AF_VSOCK, SOCK_STREAM), ("crypto", AF_ALG, SOCK_SEQPACKET)]
    {
        let free = if scene.makes(family, kind) { Works } else { Fails(libc::EAFNOSUPPORT) };
        ideas.push(attempt(format!("make_a_{name}_socket"), free, Unlisted, move |d| {
            call!(d, SYS_socket, family, kind, 0)
        }));
    }
    for (name, family, kind, protocol) in [
        ("raw", AF_INET, SOCK_RAW, libc::IPPROTO_ICMP),
        ("raw_v6", AF_INET6, SOCK_RAW, libc::IPPROTO_ICMPV6),
        ("ip_header", AF_INET, SOCK_RAW, libc::IPPROTO_RAW),
        ("udp", AF_INET, SOCK_DGRAM, 0),
        ("mptcp", AF_INET, SOCK_STREAM, 262),
    ] {
        let name = format!("make_a_{name}_socket");
        ideas.push(attempt(name, Works, Denied("socket_create"), move |d| {
            call!(d, SYS_socket, family, kind, protocol)
        }));
    }
    ideas.extend(addresses(scene.other));
    ideas.extend(given());
    ideas.push(peer());
    ideas
}

fn addresses(other: u16) -> Vec<Idea<'static>> {
    let here = Ipv4Addr::LOCALHOST;
    vec![
        attempt("connect_to_another_port", Works, Denied("connect"), move |d| {
            connect(d, AF_INET, v4(here, other))
        }),
        attempt("connect_through_a_mapped_address", Works, Denied("connect"), move |d| {
            connect(d, AF_INET6, v6(here.to_ipv6_mapped(), other))
        }),
        attempt("connect_to_any_address", Works, Denied("connect"), move |d| {
            connect(d, AF_INET, v4(Ipv4Addr::UNSPECIFIED, other))
        }),
        attempt("connect_and_send_at_once", Works, Denied("send"), move |d| {
            let (socket, address) = (tcp(d, AF_INET), d.bytes(v4(here, other)));
            let it = call!(d, SYS_sendto, socket, address, 1, libc::MSG_FASTOPEN, address, 16);
            call!(d, SYS_close, socket);
            it
        }),
        attempt("bind_a_port", Works, Denied("bind"), move |d| {
            let (socket, address) = (tcp(d, AF_INET), d.bytes(v4(here, 0)));
            let it = call!(d, SYS_bind, socket, address, 16);
            call!(d, SYS_close, socket);
            it
        }),
        attempt("listen_without_a_port", Works, Denied("listen"), move |d| {
            let socket = tcp(d, AF_INET);
            let it = call!(d, SYS_listen, socket, 1);
            call!(d, SYS_close, socket);
            it
        }),
    ]
}

/// With a socket of another family that the caller has given.
fn given() -> Vec<Idea<'static>> {
    vec![
        attempt("connect_a_given_socket_to_a_path", Works, Denied("connect"), |d| {
            let (address, length) = unix(d, Scene::text("outside/socket").as_bytes());
            call!(d, SYS_connect, GIVEN, address, length)
        }),
        attempt("connect_a_given_socket_to_an_abstract_name", Works, Denied("connect"), |d| {
            let (address, length) = unix(d, &[&[0], ABSTRACT].concat());
            call!(d, SYS_connect, GIVEN, address, length)
        }),
        attempt("send_to_a_path_by_a_given_socket", Works, Denied("send"), |d| {
            let (address, length) = unix(d, Scene::text("outside/socket").as_bytes());
            call!(d, SYS_sendto, GIVEN, address, 1, libc::MSG_DONTWAIT, address, length)
        }),
        attempt("send_to_an_abstract_name_by_a_given_socket", Works, Denied("send"), |d| {
            let (address, length) = unix(d, &[&[0], ABSTRACT].concat());
            call!(d, SYS_sendto, GIVEN, address, 1, libc::MSG_DONTWAIT, address, length)
        }),
        attempt("send_a_message_to_a_path_by_a_given_socket", Works, Denied("send"), |d| {
            let (address, length) = unix(d, Scene::text("outside/socket").as_bytes());
            let part = struct_of(d, 16, &[(0, address.into()), (8, 1.into())]);
            let fields = [(0, address.into()), (8, length.into()), (16, part), (24, 1.into())];
            let message = struct_of(d, 56, &fields);
            call!(d, SYS_sendmsg, GIVEN, message, libc::MSG_DONTWAIT)
        }),
        attempt("name_a_given_socket", Works, Denied("bind"), |d| {
            let (address, length) = unix(d, &[&[0], ABSTRACT, b"-new"].concat());
            call!(d, SYS_bind, GIVEN, address, length)
        }),
        attempt("make_a_pair_of_sockets", Works, Unlisted, |d| {
            let pair = d.zeros(8);
            call!(d, SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pair)
        }),
        attempt("accept_by_the_older_call", Fails(libc::EOPNOTSUPP), Unlisted, |d| {
            call!(d, SYS_accept, GIVEN, 0, 0)
        }),
        attempt("send_many", Works, Unlisted, |d| {
            let messages = d.zeros(64);
            call!(d, SYS_sendmmsg, GIVEN, messages, 0, 0)
        }),
    ]
}

/// From Linux 6.5 on a unix socket tells who made it, by a descriptor of that process: to BPF that
/// is a file below no preopen.
fn peer() -> Idea<'static> {
    const SO_PEERPIDFD: i32 = 77;
    let writer = |d: &mut Draft| {
        let (descriptor, length) = (d.zeros(4), d.bytes(4_u32.to_ne_bytes()));
        let socket = if d.free { GIVEN.into() } else { CONTROL };
        call!(d, SYS_getsockopt, socket, libc::SOL_SOCKET, SO_PEERPIDFD, descriptor, length)
    };
    let tried = outside::run(&Draft::write(true, &writer).0).ok().and_then(|(answer, _)| answer);
    let known = tried.is_some_and(|answer| answer.results == [0]);
    let (free, guarded) = if known {
        (Works, Denied("open"))
    } else {
        (Fails(libc::ENOPROTOOPT), Refused(libc::ENOPROTOOPT))
    };
    attempt("take_a_descriptor_of_the_supervisor_from_its_socket", free, guarded, writer)
}

fn connect(d: &mut Draft, family: i32, address: Vec<u8>) -> Value {
    let (socket, length) = (tcp(d, family), address.len());
    let address = d.bytes(address);
    let it = call!(d, SYS_connect, socket, address, length);
    call!(d, SYS_close, socket);
    it
}

fn tcp(d: &mut Draft, family: i32) -> Value {
    call!(d, SYS_socket, family, SOCK_STREAM, 0)
}

fn v4(address: Ipv4Addr, port: u16) -> Vec<u8> {
    let family = (AF_INET as u16).to_ne_bytes();
    [&family[..], &port.to_be_bytes(), &address.octets(), &[0; 8]].concat()
}

fn v6(address: Ipv6Addr, port: u16) -> Vec<u8> {
    let family = (AF_INET6 as u16).to_ne_bytes();
    [&family[..], &port.to_be_bytes(), &[0; 4], &address.octets(), &[0; 4]].concat()
}

fn unix(d: &mut Draft, name: &[u8]) -> (Buffer, usize) {
    let address = [&(AF_UNIX as u16).to_ne_bytes(), name].concat();
    let length = address.len();
    (d.bytes(address), length)
}
