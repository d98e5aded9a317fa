//! Network rules: which address and port a rule covers.

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use core::ffi::c_void;
use wasi_guard_abi::table::{Header, MAX_NET_RULES, PROTO_TCP, PROTO_UDP};

use crate::{
    kernel::{OFF_SOCK_V6_BOUND, OFF_SOCKET_SK, Object},
    scope::Policy,
    walk::zero,
};

pub(crate) const AF_UNSPEC: u16 = 0;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;
const SOCK_STREAM: i32 = 1;
const SOCK_DGRAM: i32 = 2;
/// Bytes of `sockaddr_in` that matter: family, port, address.
const INET_BYTES: u32 = 8;
/// Bytes of `sockaddr_in6` up to the scope id.
const INET6_BYTES: u32 = 24;

/// The protocol number that rules use for a kind of socket; `None` for all that no rule names.
#[inline(always)]
pub(crate) fn protocol_of(family: i32, kind: i32, protocol: i32) -> Option<u8> {
    if family != i32::from(AF_INET) && family != i32::from(AF_INET6) {
        return None;
    }
    match (kind, protocol) {
        (SOCK_STREAM, 0 | 6) => Some(PROTO_TCP),
        (SOCK_DGRAM, 0 | 17) => Some(PROTO_UDP),
        _ => None,
    }
}

/// An address as rules see it.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    /// 4 or 6: v4-mapped addresses are 4.
    family: u8,
    pub(crate) port: u16,
    /// Network byte order, as two words of memory.
    address: [u64; 2],
    pub(crate) given_family: u16,
    /// The address before mapped ones became IPv4.
    pub(crate) given: [u64; 2],
}

/// `::ffff:0:0/96`, the second word's low half, in memory order.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Endpoint {
    /// Reads a `sockaddr` that the kernel has copied in. `None` if it is too short for its
    /// family or of a family without rules.
    #[inline(always)]
    pub(crate) fn read(address: *const u8, length: u32) -> Option<Self> {
        let mut raw = [0u64; 3];
        let wanted = if length >= INET6_BYTES {
            INET6_BYTES
        } else if length >= INET_BYTES {
            INET_BYTES
        } else {
            2
        };
        if length < 2 {
            return None;
        }
        // SAFETY: at most 24 bytes into 24; the helper checks the source.
        let failed =
            unsafe { bpf_probe_read_kernel((&raw mut raw).cast(), wanted, address.cast()) };
        if failed != 0 {
            return None;
        }
        let family = raw[0] as u16;
        let port = ((raw[0] >> 16) as u16).swap_bytes();
        match family {
            AF_UNSPEC => Some(Self {
                family: 0,
                port: 0,
                address: [0, 0],
                given_family: AF_UNSPEC,
                given: [0, 0],
            }),
            AF_INET if length >= INET_BYTES => {
                let address = [raw[0] >> 32, 0];
                Some(Self { family: 4, port, address, given_family: family, given: address })
            }
            AF_INET6 if length >= INET6_BYTES => {
                let given = [raw[1], raw[2]];
                let mapped = given[0] == 0 && given[1] as u32 == MAPPED;
                let (family4, address) = if mapped { (4, [given[1] >> 32, 0]) } else { (6, given) };
                Some(Self { family: family4, port, address, given_family: family, given })
            }
            _ => None,
        }
    }

    /// What a socket is bound to by listen(2) alone: any address, a port of the kernel's choice.
    pub(crate) const fn any(family: u16) -> Self {
        let short = if family == AF_INET { 4 } else { 6 };
        Self { family: short, port: 0, address: [0, 0], given_family: family, given: [0, 0] }
    }

    /// Whom one reaches by connecting there: the unspecified address is the loopback one, and the
    /// IPv4 one for an IPv6 socket that is bound to a mapped address (tcp_v6_connect).
    #[inline(always)]
    pub(crate) fn reaching(mut self, socket: Object) -> Self {
        if self.address[0] == 0 && self.address[1] == 0 {
            if self.family == 6 && bound_to_mapped(socket) {
                self.family = 4;
            }
            if self.family == 4 {
                self.address[0] = u64::from(u32::from_ne_bytes([127, 0, 0, 1]));
            } else {
                self.address[1] = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 1]);
            }
        }
        self
    }
}

/// Is the socket bound to a v4-mapped address? In doubt it is: the rules for IPv4 then decide.
#[inline(always)]
fn bound_to_mapped(socket: Object) -> bool {
    let sk = socket.pointer(&OFF_SOCKET_SK);
    if sk.is_null() {
        return true;
    }
    let mut bound = [0u64; 2];
    // SAFETY: sixteen bytes into sixteen; the helper checks the source.
    let failed = unsafe {
        let address = sk.inside(&OFF_SOCK_V6_BOUND).0;
        bpf_probe_read_kernel((&raw mut bound).cast(), 16, address.cast())
    };
    failed != 0 || (bound[0] == 0 && bound[1] as u32 == MAPPED)
}

/// Does any rule use the protocol?
#[inline(always)]
pub(crate) fn uses(header: &Header, protocol: u8) -> bool {
    for n in 0..MAX_NET_RULES {
        if n as u32 >= header.net_rules {
            break;
        }
        if header.net[n].protocol == protocol {
            return true;
        }
    }
    false
}

#[repr(C)]
struct Search {
    header: &'static Header,
    action: u32,
    protocol: u32,
    family: u32,
    port: u32,
    /// Network byte order turned into numbers, high word first.
    address: [u64; 2],
    found: u32,
}

/// The high `bits` of 64 as a mask.
#[inline(always)]
fn mask(bits: u32) -> u64 {
    if bits == 0 {
        0
    } else if bits >= 64 {
        u64::MAX
    } else {
        u64::MAX << (64 - bits)
    }
}

#[inline(never)]
extern "C" fn try_rule(n: u32, search: *mut Search) -> i64 {
    // SAFETY: bpf_loop passes the pointer that it was given, to a live stack slot.
    let search = unsafe { &mut *search };
    if search.found != 0 {
        return 1;
    }
    let rule = &search.header.net[n as usize & (MAX_NET_RULES - 1)];
    if u32::from(rule.action) != search.action
        || u32::from(rule.protocol) != search.protocol
        || search.port < u32::from(rule.port_low)
        || search.port > u32::from(rule.port_high)
    {
        return 0;
    }
    let family = u32::from(rule.family);
    if family != 0 {
        if family != search.family {
            return 0;
        }
        // SAFETY: sixteen bytes at an offset of 16 in an 8-byte aligned chunk are two words.
        let words = unsafe { &*(&raw const rule.address).cast::<[u64; 2]>() };
        let prefix = u32::from(rule.prefix);
        let high = mask(if prefix > 64 { 64 } else { prefix });
        let low = mask(if prefix > 64 { prefix - 64 } else { 0 });
        if (u64::from_be(words[0]) ^ search.address[0]) & high != 0
            || (u64::from_be(words[1]) ^ search.address[1]) & low != 0
        {
            return 0;
        }
    }
    search.found = 1;
    1
}

/// Does a rule grant `action` at the endpoint?
#[inline(always)]
pub(crate) fn granted(policy: &Policy, action: u8, protocol: u16, endpoint: Endpoint) -> bool {
    const { assert!(MAX_NET_RULES.is_power_of_two()) };
    if endpoint.family == 0 {
        return false;
    }
    let mut search = Search {
        header: policy.header,
        action: u32::from(action),
        protocol: u32::from(protocol),
        family: u32::from(endpoint.family),
        port: u32::from(endpoint.port),
        address: [u64::from_be(endpoint.address[0]), u64::from_be(endpoint.address[1])],
        // Unknown to the verifier, see walk.rs.
        found: zero(policy.header),
    };
    let rules = policy.header.net_rules;
    let rules = if rules > MAX_NET_RULES as u32 { MAX_NET_RULES as u32 } else { rules };
    // SAFETY: the callback has the signature that bpf_loop wants; the context outlives the call.
    unsafe { bpf_loop(rules, try_rule as *mut c_void, (&raw mut search).cast(), 0) };
    search.found != 0
}
