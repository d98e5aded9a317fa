//! Sockets: who may be reached, and where one may listen.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Result, bail, ensure};
use wasi_guard_abi::operation::{Operation, Reason};
use wasi_guard_tests::operation::{Answer, Do, Use, sockaddr, v4, v6};

use super::cases;
use crate::{
    expect::Why,
    lab::Lab,
    stage::{Stage, listener},
};

cases![
    connect_to_a_granted_address_is_allowed,
    connect_to_another_port_or_address_is_denied,
    a_port_range_has_its_borders,
    connect_over_ipv6_is_judged_like_ipv4,
    a_mapped_address_is_the_ipv4_address,
    connecting_to_any_address_means_this_host,
    connecting_to_any_address_from_a_mapped_one_means_ipv4,
    udp_connect_and_send_are_judged,
    udp_send_to_an_address_without_family_is_denied,
    a_connected_udp_socket_may_still_not_send_elsewhere,
    fast_open_is_judged_like_connect,
    bind_to_a_granted_address_is_allowed,
    bind_to_another_address_or_port_is_denied,
    listen_without_bind_needs_a_rule_for_any_address,
    disconnecting_is_allowed,
    sockets_without_any_rule_cannot_be_made,
    sockets_beyond_tcp_and_udp_cannot_be_made,
];

const TCP: i32 = libc::SOCK_STREAM;
const UDP: i32 = libc::SOCK_DGRAM;
const V4: i32 = libc::AF_INET;
const V6: i32 = libc::AF_INET6;
/// `IPPROTO_MPTCP`.
const MPTCP: i32 = 262;

const POLICY: &str = r#"
[network]
connect = ["tcp://127.0.0.1:5432", "tcp://127.0.0.3:6000-6002", "tcp://[::1]:5433", "udp://127.0.0.1:53"]
bind = ["tcp://127.0.0.1:8080", "tcp://[::ffff:127.0.0.9]:*", "udp://0.0.0.0:*"]
"#;

fn stage(lab: &Lab) -> Result<Stage> {
    lab.stage(POLICY, &[])
}

fn socket(family: i32, kind: i32, then: Use) -> Do {
    Do::Socket(family, kind, 0, then)
}

fn connect(family: i32, kind: i32, to: SocketAddr) -> Do {
    socket(family, kind, Use::Connect(sockaddr(to)))
}

fn connect_to_a_granted_address_is_allowed(lab: &Lab) -> Result<()> {
    let _server = listener(v4(127, 0, 0, 1, 5432))?;
    stage(lab)?.allowed(&connect(V4, TCP, v4(127, 0, 0, 1, 5432))).map(drop)
}

fn connect_to_another_port_or_address_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for address in [v4(127, 0, 0, 1, 5431), v4(127, 0, 0, 2, 5432), v4(127, 1, 0, 1, 5432)] {
        let _server = listener(address)?;
        stage.denied(&connect(V4, TCP, address), Why::NotGranted)?;
    }
    Ok(())
}

fn a_port_range_has_its_borders(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    for port in [6000, 6001, 6002] {
        let _server = listener(v4(127, 0, 0, 3, port))?;
        stage.allowed(&connect(V4, TCP, v4(127, 0, 0, 3, port)))?;
    }
    for port in [5999, 6003] {
        let _server = listener(v4(127, 0, 0, 3, port))?;
        stage.denied(&connect(V4, TCP, v4(127, 0, 0, 3, port)), Why::NotGranted)?;
    }
    Ok(())
}

fn connect_over_ipv6_is_judged_like_ipv4(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let _servers = [listener(v6("::1", 5433))?, listener(v6("::1", 5432))?];
    stage.allowed(&connect(V6, TCP, v6("::1", 5433)))?;
    stage.denied(&connect(V6, TCP, v6("::1", 5432)), Why::NotGranted)
}

fn a_mapped_address_is_the_ipv4_address(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let _servers = [listener(v4(127, 0, 0, 1, 5432))?, listener(v4(127, 0, 0, 2, 5432))?];
    stage.allowed(&connect(V6, TCP, v6("::ffff:127.0.0.1", 5432)))?;
    stage.denied(&connect(V6, TCP, v6("::ffff:127.0.0.2", 5432)), Why::NotGranted)
}

fn connecting_to_any_address_means_this_host(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let _servers = [
        listener(v4(127, 0, 0, 1, 5432))?,
        listener(v4(127, 0, 0, 1, 5431))?,
        listener(v6("::1", 5433))?,
        listener(v6("::1", 5434))?,
    ];
    stage.allowed(&connect(V4, TCP, v4(0, 0, 0, 0, 5432)))?;
    stage.denied(&connect(V4, TCP, v4(0, 0, 0, 0, 5431)), Why::NotGranted)?;
    stage.allowed(&connect(V6, TCP, v6("::", 5433)))?;
    stage.denied(&connect(V6, TCP, v6("::", 5434)), Why::NotGranted)?;
    stage.allowed(&connect(V6, TCP, v6("::ffff:0.0.0.0", 5432)))?;
    stage.denied(&connect(V6, TCP, v6("::ffff:0.0.0.0", 5431)), Why::NotGranted)
}

/// An IPv6 socket that is bound to a mapped address and connects to `::` reaches 127.0.0.1
/// (tcp_v6_connect), so a rule for ::1 must not let it pass.
fn connecting_to_any_address_from_a_mapped_one_means_ipv4(lab: &Lab) -> Result<()> {
    let stage = stage(lab)?;
    let server = listener(v4(127, 0, 0, 1, 5433))?;
    server.set_nonblocking(true)?;
    let from = sockaddr(v6("::ffff:127.0.0.9", 0));
    let then = Box::new(Use::Connect(sockaddr(v6("::", 5433))));
    let attempt = socket(V6, TCP, Use::BindThen(from, then));
    let answer = stage.outside.ask(&attempt)?;
    ensure!(answer == Answer::Done(Vec::new()), "outside: {answer:?}");
    ensure!(server.accept().is_ok(), "it does not reach 127.0.0.1 outside either");
    let answer = stage.inside.ask(&attempt)?;
    ensure!(server.accept().is_err(), "it reached 127.0.0.1:5433, which no rule grants");
    ensure!(answer == Answer::Failed(2, libc::EACCES), "inside: {answer:?}");
    Ok(())
}

fn udp_connect_and_send_are_judged(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let _servers = [UdpSocket::bind(v4(127, 0, 0, 1, 53))?, UdpSocket::bind(v4(127, 0, 0, 1, 54))?];
    let (good, bad) = (v4(127, 0, 0, 1, 53), v4(127, 0, 0, 1, 54));
    stage.allowed(&connect(V4, UDP, good))?;
    stage.denied(&connect(V4, UDP, bad), Why::NotGranted)?;
    stage.allowed(&socket(V4, UDP, Use::Send(0, sockaddr(good))))?;
    stage.denied(&socket(V4, UDP, Use::Send(0, sockaddr(bad))), Why::NotGranted)?;
    stage.allowed(&socket(V6, UDP, Use::Send(0, sockaddr(v6("::ffff:127.0.0.1", 53)))))?;
    let mapped = sockaddr(v6("::ffff:127.0.0.1", 54));
    stage.denied(&socket(V6, UDP, Use::Send(0, mapped)), Why::NotGranted)
}

fn udp_send_to_an_address_without_family_is_denied(lab: &Lab) -> Result<()> {
    let stage = stage(lab)?;
    let _server = UdpSocket::bind(v4(127, 0, 0, 1, 54))?;
    // udp_sendmsg takes AF_UNSPEC for AF_INET.
    let mut address = sockaddr(v4(127, 0, 0, 1, 54));
    address[..2].copy_from_slice(&(libc::AF_UNSPEC as u16).to_ne_bytes());
    let send = socket(V4, UDP, Use::Send(0, address));
    ensure!(stage.outside.ask(&send)? == Answer::Done(Vec::new()), "outside");
    let answer = stage.inside.ask(&send)?;
    ensure!(answer == Answer::Failed(1, libc::EACCES), "inside: {answer:?}");
    ensure!(stage.outside.ask(&send)? == Answer::Done(Vec::new()), "outside again");
    Ok(())
}

fn a_connected_udp_socket_may_still_not_send_elsewhere(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let _servers = [UdpSocket::bind(v4(127, 0, 0, 1, 53))?, UdpSocket::bind(v4(127, 0, 0, 1, 54))?];
    let connected =
        |then| socket(V4, UDP, Use::ConnectThen(sockaddr(v4(127, 0, 0, 1, 53)), Box::new(then)));
    stage.allowed(&connected(Use::Send(0, Vec::new())))?;
    let elsewhere = Use::Send(0, sockaddr(v4(127, 0, 0, 1, 54)));
    stage.denied(&connected(elsewhere), Why::NotGranted)
}

fn fast_open_is_judged_like_connect(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let _servers = [listener(v4(127, 0, 0, 1, 5432))?, listener(v4(127, 0, 0, 1, 5431))?];
    let send = |port| {
        let address = sockaddr(v4(127, 0, 0, 1, port));
        socket(V4, TCP, Use::Send(libc::MSG_FASTOPEN, address))
    };
    stage.allowed(&send(5432))?;
    stage.denied(&send(5431), Why::NotGranted)
}

fn bind_to_a_granted_address_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let bind = |address| Use::BindThen(sockaddr(address), Box::new(Use::Listen));
    stage.allowed(&socket(V4, TCP, bind(v4(127, 0, 0, 1, 8080))))?;
    stage.allowed(&socket(V4, TCP, bind(v4(127, 0, 0, 9, 1234))))?;
    stage.allowed(&socket(V6, TCP, bind(v6("::ffff:127.0.0.1", 8080))))?;
    stage.allowed(&socket(V4, UDP, Use::Bind(sockaddr(v4(0, 0, 0, 0, 0))))).map(drop)
}

fn bind_to_another_address_or_port_is_denied(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    // Binding to any address is not binding to the loopback one.
    for address in [v4(127, 0, 0, 1, 8081), v4(127, 0, 0, 2, 8080), v4(0, 0, 0, 0, 8080)] {
        let bind = socket(V4, TCP, Use::Bind(sockaddr(address)));
        stage.denied(&bind, Why::NotGranted)?;
    }
    for address in [v6("::1", 8080), v6("::", 8080), v6("::ffff:0.0.0.0", 8080)] {
        let bind = socket(V6, TCP, Use::Bind(sockaddr(address)));
        stage.denied(&bind, Why::NotGranted)?;
    }
    let bind = socket(V4, UDP, Use::Bind(sockaddr(v4(127, 0, 0, 1, 9000))));
    stage.denied(&bind, Why::NotGranted)
}

fn listen_without_bind_needs_a_rule_for_any_address(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    stage.denied(&socket(V4, TCP, Use::Listen), Why::NotGranted)?;
    stage.denied(&socket(V6, TCP, Use::Listen), Why::NotGranted)?;
    stage.replace_policy("[network]\nbind = [\"tcp://*:*\"]\n")?;
    stage.allowed(&socket(V4, TCP, Use::Listen)).map(drop)
}

fn disconnecting_is_allowed(lab: &Lab) -> Result<()> {
    let mut stage = stage(lab)?;
    let nobody = vec![0; 16];
    let again = Use::ConnectThen(sockaddr(v4(127, 0, 0, 1, 53)), Box::new(Use::Connect(nobody)));
    let answer = stage.inside.ask(&socket(V4, UDP, again))?;
    ensure!(answer == Answer::Done(Vec::new()), "{answer:?}");
    ensure!(stage.records()?.is_empty(), "a record for what is allowed");
    Ok(())
}

fn sockets_without_any_rule_cannot_be_made(lab: &Lab) -> Result<()> {
    let policy = "[network]\nconnect = [\"tcp://127.0.0.1:5432\"]\n";
    let mut stage = lab.stage(policy, &[])?;
    stage.allowed(&socket(V4, TCP, Use::Close))?;
    stage.denied(&socket(V4, UDP, Use::Close), Why::NotGranted)?;
    let mut none = lab.stage("", &[])?;
    none.denied(&socket(V4, TCP, Use::Close), Why::NotGranted)?;
    none.denied(&socket(V6, UDP, Use::Close), Why::NotGranted)
}

fn sockets_beyond_tcp_and_udp_cannot_be_made(lab: &Lab) -> Result<()> {
    let policy = "[network]\nconnect = [\"tcp://*:*\", \"udp://*:*\"]\n\
                  bind = [\"tcp://*:*\", \"udp://*:*\"]\n";
    let mut stage = lab.stage(policy, &[])?;
    let kinds = [
        (libc::AF_UNIX, TCP, 0),
        (libc::AF_UNIX, UDP, 0),
        (libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        (V4, libc::SOCK_RAW, libc::IPPROTO_TCP),
        (V6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
        (V4, TCP, MPTCP),
        (V6, TCP, MPTCP),
        (V4, UDP, libc::IPPROTO_UDPLITE),
    ];
    for (family, kind, protocol) in kinds {
        let make = Do::Socket(family, kind, protocol, Use::Close);
        stage.denied(&make, Why::Never)?;
    }
    stage.denied(&Do::SocketPair(libc::AF_UNIX, TCP, 0), Why::Never)?;
    // The record says which kind of socket it was.
    let make = Do::Socket(V4, TCP, MPTCP, Use::Close);
    ensure!(stage.inside.ask(&make)? == Answer::Failed(0, libc::EACCES), "MPTCP");
    let records = stage.records()?;
    let [record] = &records[..] else { bail!("one record, not {records:?}") };
    let socket = record.socket.map(|socket| (socket.family, socket.kind, socket.protocol));
    ensure!(
        socket == Some((V4 as u16, TCP as u16, MPTCP as u16))
            && record.operation == Operation::SocketCreate
            && record.reason == Reason::Never,
        "{record:?}"
    );
    Ok(())
}
