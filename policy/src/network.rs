//! Network rules: `tcp://HOST:PORT` and `udp://HOST:PORT`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wasi_guard_abi::table::{NET_BIND, NET_CONNECT, PROTO_TCP, PROTO_UDP};

use crate::model::RuleNumber;

/// What a network rule grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Connecting, and sending to an address.
    Connect,
    /// Binding, and listening.
    Bind,
}

impl Action {
    /// The number in tables ([`NET_CONNECT`], [`NET_BIND`]).
    pub fn number(self) -> u8 {
        match self {
            Self::Connect => NET_CONNECT,
            Self::Bind => NET_BIND,
        }
    }
}

/// A transport protocol that rules can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Every one.
    pub const EVERY: [Self; 2] = [Self::Tcp, Self::Udp];

    /// The word in front of `://`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The number in tables ([`PROTO_TCP`], [`PROTO_UDP`]), which is the kernel's `IPPROTO_*`.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => PROTO_TCP,
            Self::Udp => PROTO_UDP,
        }
    }
}

/// The hosts that a network rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// `*`: every address of both families.
    Any,
    /// IPv4 addresses that agree in the leading `prefix` bits (0 to 32). The others are zero.
    V4 {
        /// The network.
        address: Ipv4Addr,
        /// Its length.
        prefix: u8,
    },
    /// IPv6 addresses that agree in the leading `prefix` bits (0 to 128). The others are zero.
    V6 {
        /// The network.
        address: Ipv6Addr,
        /// Its length.
        prefix: u8,
    },
    /// A host name, in lower case; it stands for the addresses that the start of the guest
    /// finds for it.
    Name(String),
}

impl Host {
    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// A checked network rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRule {
    /// Its number.
    pub number: RuleNumber,
    /// What it grants.
    pub action: Action,
    /// Protocol.
    pub protocol: Protocol,
    /// Hosts.
    pub host: Host,
    /// Lowest port.
    pub port_low: u16,
    /// Highest port; not below the lowest.
    pub port_high: u16,
}

/// What the text of a network rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Protocol.
    pub protocol: Protocol,
    /// Hosts.
    pub host: Host,
    /// Lowest port.
    pub port_low: u16,
    /// Highest port.
    pub port_high: u16,
}

/// Why a text names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EndpointError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, EndpointError> {
    Err(EndpointError { message: message.into(), hint: hint.into() })
}

const FORM: &str = "write `tcp://HOST:PORT` or `udp://HOST:PORT`, as in `tcp://10.0.0.0/8:5432`";

impl Endpoint {
    /// Parses `PROTOCOL://HOST:PORT`.
    ///
    /// # Errors
    /// Every text that is not in the language of `docs/policy-reference.md`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return wrong("no `://` in a network rule", FORM);
        };
        let Some(protocol) = Protocol::EVERY.into_iter().find(|known| known.name() == scheme)
        else {
            return wrong(
                format!("unknown protocol `{scheme}`"),
                "the protocols are `tcp` and `udp`",
            );
        };
        let (host, port) = split_port(rest)?;
        let (port_low, port_high) = ports(port)?;
        Ok(Self { protocol, host: parse_host(host)?, port_low, port_high })
    }

    /// Why a rule with this endpoint could never match, if that is so: message and hint.
    pub fn never_matches(&self, action: Action) -> Option<(&'static str, &'static str)> {
        if action != Action::Connect {
            return None;
        }
        if self.port_high == 0 {
            return Some(("nothing can be reached at port 0", "name the port, or `*` for all"));
        }
        match self.host {
            Host::V4 { address: Ipv4Addr::UNSPECIFIED, prefix: 32 } => Some((
                "connecting to 0.0.0.0 means 127.0.0.1, so this rule can never match",
                "write 127.0.0.1 for this host, or `*` for every one",
            )),
            Host::V6 { address: Ipv6Addr::UNSPECIFIED, prefix: 128 } => Some((
                "connecting to :: means ::1, so this rule can never match",
                "write [::1] for this host, or `*` for every one",
            )),
            _ => None,
        }
    }
}

/// `HOST:PORT` to its two halves; the host keeps its brackets.
fn split_port(text: &str) -> Result<(&str, &str), EndpointError> {
    let colon = match text.strip_prefix('[') {
        None => text.find(':'),
        Some(_) => match text.find(']') {
            None => return wrong("`[` without `]` around an IPv6 address", "close the bracket"),
            Some(close) => text[close..].find(':').map(|at| close + at),
        },
    };
    let Some(colon) = colon else {
        return wrong("no port in a network rule", "write `HOST:PORT`, or `HOST:*` for every port");
    };
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    if port.contains(':') && !host.starts_with('[') {
        return wrong(
            "an IPv6 address needs brackets",
            "write `[ADDRESS]:PORT`, as in `tcp://[::1]:80`",
        );
    }
    Ok((host, port))
}

fn ports(text: &str) -> Result<(u16, u16), EndpointError> {
    if text == "*" {
        return Ok((0, u16::MAX));
    }
    let number = |text: &str| match text.parse::<u16>() {
        Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => wrong(
            format!("`{text}` is no port"),
            "a port is a number up to 65535, a range such as `8000-8080`, or `*`",
        ),
    };
    let Some((low, high)) = text.split_once('-') else {
        let port = number(text)?;
        return Ok((port, port));
    };
    let (low, high) = (number(low)?, number(high)?);
    if low > high {
        return wrong("port range that ends before it starts", "write the lower port first");
    }
    Ok((low, high))
}

fn parse_host(text: &str) -> Result<Host, EndpointError> {
    if text == "*" {
        return Ok(Host::Any);
    }
    if text.is_empty() {
        return wrong("no host in a network rule", "write `*` for every host");
    }
    if let Some(rest) = text.strip_prefix('[') {
        // `[v6]`, `[v6]/len` and `[v6/len]` are all in use.
        let (inside, after) = rest.split_once(']').unwrap_or((rest, ""));
        let (address, length) = match (inside.split_once('/'), after.strip_prefix('/')) {
            (None, None) if after.is_empty() => (inside, None),
            (None, Some(length)) => (inside, Some(length)),
            (Some((address, length)), None) if after.is_empty() => (address, Some(length)),
            _ => return wrong(format!("`{text}` is no IPv6 network"), "write `[ADDRESS]/LENGTH`"),
        };
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            return wrong(format!("`{address}` is no IPv6 address"), "as in `[2001:db8::1]`");
        };
        let prefix = prefix_length(length, 128)?;
        return v6_network(address, prefix);
    }
    let (name, length) = match text.split_once('/') {
        None => (text, None),
        Some((name, length)) => (name, Some(length)),
    };
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        let prefix = prefix_length(length, 32)?;
        let kept = u32::from(address) & mask32(prefix);
        if kept != u32::from(address) {
            return wrong(
                format!("{address}/{prefix} has bits behind its prefix"),
                format!(
                    "write `{}/{prefix}` for the network or `{address}` for the host",
                    Ipv4Addr::from(kept)
                ),
            );
        }
        return Ok(Host::V4 { address, prefix });
    }
    if length.is_some() {
        return wrong(
            format!("`{name}` is no IPv4 address, and only an address has a prefix length"),
            "write a network such as `10.0.0.0/8`",
        );
    }
    host_name(name)
}

fn v6_network(address: Ipv6Addr, prefix: u8) -> Result<Host, EndpointError> {
    let kept = u128::from(address) & mask128(prefix);
    if kept != u128::from(address) {
        return wrong(
            format!("[{address}]/{prefix} has bits behind its prefix"),
            format!(
                "write `[{}]/{prefix}` for the network or `[{address}]` for the host",
                Ipv6Addr::from(kept)
            ),
        );
    }
    // A v4-mapped address is the IPv4 address that it maps, in rules as in attempts.
    if prefix >= 96
        && let Some(mapped) = address.to_ipv4_mapped()
    {
        return Ok(Host::V4 { address: mapped, prefix: prefix - 96 });
    }
    Ok(Host::V6 { address, prefix })
}

fn prefix_length(text: Option<&str>, bits: u8) -> Result<u8, EndpointError> {
    let Some(text) = text else { return Ok(bits) };
    match text.parse::<u8>() {
        Ok(length) if length <= bits && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(length)
        }
        _ => wrong(
            format!("`{text}` is no prefix length"),
            format!("a prefix length here is a number from 0 to {bits}"),
        ),
    }
}

fn host_name(text: &str) -> Result<Host, EndpointError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.contains('*') {
        return wrong(
            "`*` inside a host name",
            "names are resolved once when the guest starts; list each name, or use a network",
        );
    }
    if name.len() > 253 || !name.split('.').all(label) {
        return wrong(
            format!("`{text}` is neither an address nor a host name"),
            "a host is an IPv4 address or network, `[IPv6]`, a DNS name, or `*`",
        );
    }
    // An address that is out of range, such as 10.0.0.256, would otherwise pass as a name.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return wrong(
            format!("`{text}` is no IPv4 address"),
            "write four numbers up to 255, as in `10.0.0.1`",
        );
    }
    Ok(Host::Name(name.to_ascii_lowercase()))
}

pub(crate) fn mask32(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

pub(crate) fn mask128(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

/// The address that an attempt is judged by: a v4-mapped one is the IPv4 address.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Endpoint, String> {
        Endpoint::parse(text).map_err(|error| error.message)
    }

    #[test]
    fn every_form_of_host_and_port() {
        let v4 = |address: [u8; 4], prefix| Host::V4 { address: address.into(), prefix };
        let v6 = |address: &str, prefix| Host::V6 { address: address.parse().unwrap(), prefix };
        for (text, host, low, high) in [
            ("tcp://127.0.0.1:8080", v4([127, 0, 0, 1], 32), 8080, 8080),
            ("tcp://10.0.0.0/8:1-9", v4([10, 0, 0, 0], 8), 1, 9),
            ("tcp://0.0.0.0/0:*", v4([0, 0, 0, 0], 0), 0, 65535),
            ("tcp://[::1]:80", v6("::1", 128), 80, 80),
            ("tcp://[2001:db8::]/32:80", v6("2001:db8::", 32), 80, 80),
            ("tcp://[2001:db8::/32]:80", v6("2001:db8::", 32), 80, 80),
            ("tcp://[::]/0:80", v6("::", 0), 80, 80),
            ("tcp://[::ffff:10.0.0.1]:80", v4([10, 0, 0, 1], 32), 80, 80),
            ("tcp://[::ffff:10.0.0.0]/104:80", v4([10, 0, 0, 0], 8), 80, 80),
            ("tcp://API.example.com.:443", Host::Name("api.example.com".into()), 443, 443),
            ("tcp://*:*", Host::Any, 0, 65535),
        ] {
            let protocol = Protocol::Tcp;
            let wanted = Endpoint { protocol, host, port_low: low, port_high: high };
            assert_eq!(parse(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn bad_endpoints_say_what_is_wrong() {
        for (text, wanted) in [
            ("127.0.0.1:80", "no `://` in a network rule"),
            ("http://a:80", "unknown protocol `http`"),
            ("tcp://a", "no port in a network rule"),
            ("tcp://:80", "no host in a network rule"),
            ("tcp://a:+80", "`+80` is no port"),
            ("tcp://a:65536", "`65536` is no port"),
            ("tcp://a:9-1", "port range that ends before it starts"),
            ("tcp://::1:80", "an IPv6 address needs brackets"),
            ("tcp://[::1:80", "`[` without `]` around an IPv6 address"),
            ("tcp://[::1]x:80", "`[::1]x` is no IPv6 network"),
            ("tcp://[::g]:80", "`::g` is no IPv6 address"),
            ("tcp://10.0.0.1/8:80", "10.0.0.1/8 has bits behind its prefix"),
            ("tcp://10.0.0.0/33:80", "`33` is no prefix length"),
            ("tcp://[::1]/64:80", "[::1]/64 has bits behind its prefix"),
            ("tcp://10.0.0.256:80", "`10.0.0.256` is no IPv4 address"),
            (
                "tcp://a.com/8:80",
                "`a.com` is no IPv4 address, and only an address has a prefix length",
            ),
            ("tcp://*.a.com:80", "`*` inside a host name"),
            ("tcp://a b:80", "`a b` is neither an address nor a host name"),
        ] {
            assert_eq!(parse(text), Err(wanted.to_owned()), "{text}");
        }
    }

    #[test]
    fn masks_have_as_many_bits_as_the_prefix() {
        assert_eq!((mask32(0), mask32(8), mask32(32)), (0, 0xff00_0000, u32::MAX));
        assert_eq!((mask128(0), mask128(128)), (0, u128::MAX));
        assert_eq!(mask128(64), u128::from(u64::MAX) << 64);
    }
}
