//! Packet sockets: what rustix has no addresses and options for.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::io::Errno;

use super::answer;

/// Lets a packet socket see what an interface sends and receives.
pub(in crate::kernel) fn bind_to_interface(
    socket: BorrowedFd<'_>,
    interface: u32,
) -> Result<(), Errno> {
    let every_protocol = (libc::ETH_P_ALL as u16).to_be();
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: every_protocol,
        sll_ifindex: i32::try_from(interface).map_err(|_| Errno::NODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is valid for the size given.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    answer(result.into()).map(drop)
}

/// Makes a program a socket's filter (`SO_ATTACH_BPF`) for as long as the socket lives.
pub(in crate::kernel) fn filter_socket(
    socket: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let program: libc::c_int = program.as_raw_fd();
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is an int, and valid for the size given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_BPF,
            (&raw const program).cast(),
            size,
        )
    };
    answer(result.into()).map(drop)
}
