//! `socket_*`: the network.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::{
    operation::{Operation, Reason},
    table::{NET_BIND, NET_CONNECT},
};

use crate::{
    ALLOW,
    decide::{Objection, refuse},
    emit::{Denial, Names, Socket},
    kernel::{
        OFF_MSG_NAME, OFF_MSG_NAMELEN, OFF_SOCK_FAMILY, OFF_SOCK_NUM, OFF_SOCK_PROTOCOL,
        OFF_SOCK_TYPE, OFF_SOCKET_SK, Object,
    },
    network::{self, AF_INET, AF_INET6, AF_UNSPEC, Endpoint},
    scope::{Guarded, current},
};

fn deny(guarded: &Guarded, operation: Operation, reason: Reason, socket: Socket) -> i32 {
    let mut denial = Denial::of_names(operation, 0, Objection::plain(reason));
    denial.socket = socket;
    refuse(guarded, &denial, Names::NONE)
}

/// socket(2), socketpair(2): only what some rule may use.
#[lsm(hook = "socket_create")]
fn socket_create(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let (family, kind, protocol) = (ctx.arg::<i32>(0), ctx.arg::<i32>(1), ctx.arg::<i32>(2));
    let socket = Socket {
        family: family as u16,
        kind: kind as u16,
        protocol: protocol as u16,
        ..Socket::NONE
    };
    let reason = match &guarded.policy {
        None => Reason::NoPolicy,
        Some(policy) => match network::protocol_of(family, kind, protocol) {
            // MPTCP, SMC, raw, packet, netlink, unix, vsock, ...
            None => Reason::Never,
            Some(wanted) if network::uses(policy.header, wanted) => return ALLOW,
            Some(_) => Reason::NotGranted,
        },
    };
    deny(&guarded, Operation::SocketCreate, reason, socket)
}

/// What is known of a socket itself.
#[inline(always)]
fn socket_of(socket: Object) -> Socket {
    let sk = socket.pointer(&OFF_SOCKET_SK);
    if sk.is_null() {
        return Socket::NONE;
    }
    Socket {
        family: sk.read::<u16>(&OFF_SOCK_FAMILY),
        kind: sk.read::<u16>(&OFF_SOCK_TYPE),
        protocol: sk.read::<u16>(&OFF_SOCK_PROTOCOL),
        ..Socket::NONE
    }
}

/// One rule check for an address given by the task.
#[inline(always)]
fn check(
    guarded: &Guarded,
    operation: Operation,
    action: u8,
    socket: Object,
    address: *const u8,
    length: u32,
) -> i32 {
    let mut about = socket_of(socket);
    let Some(policy) = &guarded.policy else {
        return deny(guarded, operation, Reason::NoPolicy, about);
    };
    if about.family != AF_INET && about.family != AF_INET6 {
        return deny(guarded, operation, Reason::Never, about);
    }
    let Some(endpoint) = Endpoint::read(address, length) else {
        return deny(guarded, operation, Reason::Error, about);
    };
    // Connecting to AF_UNSPEC takes a connection down; it reaches nobody.
    if operation as u16 == Operation::Connect as u16 && endpoint.given_family == AF_UNSPEC {
        return ALLOW;
    }
    about.family = endpoint.given_family;
    about.port = endpoint.port;
    about.address = endpoint.given;
    let result = if action == NET_CONNECT {
        network::granted(policy, action, about.protocol, endpoint.reaching(socket))
    } else {
        network::granted(policy, action, about.protocol, endpoint)
    };
    if result { ALLOW } else { deny(guarded, operation, Reason::NotGranted, about) }
}

/// connect(2).
#[lsm(hook = "socket_connect")]
fn socket_connect(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let length = ctx.arg::<i32>(2) as u32;
    check(&guarded, Operation::Connect, NET_CONNECT, Object(ctx.arg(0)), ctx.arg(1), length)
}

/// bind(2).
#[lsm(hook = "socket_bind")]
fn socket_bind(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let length = ctx.arg::<i32>(2) as u32;
    check(&guarded, Operation::Bind, NET_BIND, Object(ctx.arg(0)), ctx.arg(1), length)
}

/// listen(2). A bound socket was judged when it was bound; one that is not gets any address
/// and a free port here.
#[lsm(hook = "socket_listen")]
fn socket_listen(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let socket = Object(ctx.arg(0));
    let about = socket_of(socket);
    let Some(policy) = &guarded.policy else {
        return deny(&guarded, Operation::Listen, Reason::NoPolicy, about);
    };
    if about.family != AF_INET && about.family != AF_INET6 {
        return deny(&guarded, Operation::Listen, Reason::Never, about);
    }
    let sk = socket.pointer(&OFF_SOCKET_SK);
    if sk.is_null() {
        return deny(&guarded, Operation::Listen, Reason::Error, about);
    }
    if sk.read::<u16>(&OFF_SOCK_NUM) != 0
        || network::granted(policy, NET_BIND, about.protocol, Endpoint::any(about.family))
    {
        return ALLOW;
    }
    deny(&guarded, Operation::Listen, Reason::NotGranted, about)
}

/// sendto(2), sendmsg(2) with an address: a datagram to it, or `MSG_FASTOPEN`, which connects.
#[lsm(hook = "socket_sendmsg")]
fn socket_sendmsg(ctx: LsmContext) -> i32 {
    let Some(guarded) = current() else { return ALLOW };
    let message = Object(ctx.arg(1));
    let address = message.read::<*const u8>(&OFF_MSG_NAME);
    if address.is_null() {
        // To the peer that connect(2) was judged for, or over a descriptor that was handed in.
        return ALLOW;
    }
    let length = message.read::<u32>(&OFF_MSG_NAMELEN);
    check(&guarded, Operation::Send, NET_CONNECT, Object(ctx.arg(0)), address, length)
}
