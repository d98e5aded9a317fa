//! Network interfaces.

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::util::KernelVersion;
use aya_obj::generated::{XDP_FLAGS_SKB_MODE, bpf_attach_type as places};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, netdevice, socket_with,
    sockopt::set_socket_recv_buffer_size,
};

use super::{Link, LoadError, failed};
use crate::kernel::sys::{self, Target};

/// The number of a network interface.
///
/// # Errors
/// `ENODEV` if there is none with this name.
pub fn if_index(name: &str) -> Result<u32, LoadError> {
    let step = || format!("find the network interface {name:?}");
    // A longer name would be cut, and might then be another's.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(failed(step)(Errno::NODEV));
    }
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| netdevice::name_to_index(socket, name))
        .map_err(failed(step))
}

/// Attaches a program to the receiving side of an interface: in its driver; where that has no XDP, or
/// none for packets as long as the interface's (`ndo_bpf` of the drivers), behind the driver.
///
/// # Errors
/// `EBUSY` if a program is attached; `EINVAL` if the interface is gone (`bpf_xdp_link_attach`,
/// net/core/dev.c).
pub fn xdp(program: BorrowedFd<'_>, interface: u32) -> Result<Link, LoadError> {
    let step = || "attach to the network interface as XDP";
    let attach = |flags| {
        sys::link_create(program, Target::Interface(interface), places::BPF_XDP as u32, flags)
    };
    match attach(0) {
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::RANGE) => attach(XDP_FLAGS_SKB_MODE),
        answer => answer,
    }
    .map(Link::of)
    .map_err(failed(step))
}

/// Attaches a program to what an interface receives (`ingress`) or sends, as tc does. Kernels before
/// 6.6 know only filters that outlive who made them, which are not for us.
///
/// # Errors
/// `EOPNOTSUPP` before Linux 6.6; `ENODEV` if the interface is gone; `ERANGE` if 64 programs are
/// attached (`bpf_mprog_attach`, kernel/bpf/mprog.c).
pub fn tc(program: BorrowedFd<'_>, interface: u32, ingress: bool) -> Result<Link, LoadError> {
    let place = if ingress { places::BPF_TCX_INGRESS } else { places::BPF_TCX_EGRESS };
    sys::link_create(program, Target::Interface(interface), place as u32, 0).map(Link::of).map_err(
        |errno| {
            let old = KernelVersion::current().is_ok_and(|it| it < KernelVersion::new(6, 6, 0));
            if errno == Errno::INVAL && old {
                let step = "attach to the network interface as tc, which needs Linux 6.6";
                return LoadError::new(step, Errno::OPNOTSUPP);
            }
            LoadError::new("attach to the network interface as tc", errno)
        },
    )
}

/// Lets a program see what an interface sends and receives, as the filter of a socket that nobody
/// reads. What the program lets pass is dropped when the socket is full, which is soon; the program
/// is asked before that (`packet_rcv`, net/packet/af_packet.c).
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`; `ENODEV` if the interface is gone.
pub fn socket_filter(program: BorrowedFd<'_>, interface: u32) -> Result<Link, LoadError> {
    let step = || "attach to a packet socket";
    // Without a protocol it receives nothing before it is bound, and then the filter is there.
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(failed(step))?;
    // The kernel takes its least for it.
    set_socket_recv_buffer_size(&socket, 0).map_err(failed(step))?;
    sys::filter_socket(socket.as_fd(), program).map_err(failed(step))?;
    sys::bind_to_interface(socket.as_fd(), interface).map_err(failed(step))?;
    Ok(Link::of(socket))
}
