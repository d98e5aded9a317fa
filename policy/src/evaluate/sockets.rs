//! Network rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasi_guard_abi::operation::Reason;

use super::{Peer, Verdict};
use crate::model::{Addresses, Policy};
use crate::network::{Action, Host, Protocol};

/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u16; 2] = [2, 10];
/// `SOCK_STREAM`.
const STREAM: u16 = 1;
/// `SOCK_DGRAM`.
const DATAGRAM: u16 = 2;

/// A socket may exist if some rule is about its protocol. Every other kind of socket is beyond
/// what a policy can grant.
pub(super) fn create(policy: &Policy, family: u16, socket_type: u16, protocol: u16) -> Verdict {
    let known = Protocol::EVERY.into_iter().find(|known| {
        let own_type = match known {
            Protocol::Tcp => STREAM,
            Protocol::Udp => DATAGRAM,
        };
        socket_type == own_type && (protocol == 0 || protocol == u16::from(known.number()))
    });
    let Some(known) = known.filter(|_| FAMILIES.contains(&family)) else {
        return Verdict::denied(Reason::Never);
    };
    match policy.network.iter().find(|rule| rule.protocol == known) {
        Some(rule) => Verdict::granted(0, 0, rule.number),
        None => Verdict::denied(Reason::NotGranted),
    }
}

/// Whether some rule grants the use of an address.
pub(super) fn reach(
    policy: &Policy,
    addresses: &Addresses,
    action: Action,
    peer: &Peer,
) -> Verdict {
    let address = meant(action, peer.address);
    let granting = policy.network.iter().find(|rule| {
        rule.action == action
            && rule.protocol == peer.protocol
            && rule.port_low <= peer.port
            && peer.port <= rule.port_high
            && host_has(&rule.host, addresses, address)
    });
    match granting {
        Some(rule) => Verdict::granted(0, 0, rule.number),
        None => Verdict::denied(Reason::NotGranted),
    }
}

/// The address that the kernel will use: a v4-mapped one is IPv4, and connecting to "any
/// address" reaches this host.
fn meant(action: Action, address: IpAddr) -> IpAddr {
    let address = match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => address,
        },
        IpAddr::V4(_) => address,
    };
    match (action, address) {
        (Action::Connect, IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.into(),
        (Action::Connect, IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Ipv6Addr::LOCALHOST.into(),
        _ => address,
    }
}

fn host_has(host: &Host, addresses: &Addresses, address: IpAddr) -> bool {
    match (host, address) {
        (Host::Any, _) => true,
        (Host::V4 { address: network, prefix }, IpAddr::V4(address)) => {
            same_bits(&network.octets(), &address.octets(), *prefix)
        }
        (Host::V6 { address: network, prefix }, IpAddr::V6(address)) => {
            same_bits(&network.octets(), &address.octets(), *prefix)
        }
        (Host::Name(name), _) => addresses
            .get(name)
            .is_some_and(|found| found.iter().any(|found| found.to_canonical() == address)),
        _ => false,
    }
}

/// Whether the leading `count` bits agree.
fn same_bits(a: &[u8], b: &[u8], count: u8) -> bool {
    (0..usize::from(count)).all(|bit| {
        let pick = |bytes: &[u8]| bytes.get(bit / 8).map(|byte| byte >> (7 - bit % 8) & 1);
        pick(a) == pick(b)
    })
}
