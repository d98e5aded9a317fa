//! How processes of wasi-guard speak to each other: one typed message a packet, bounded in size.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg,
    socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message in bytes, encoded.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// One end of a control socket (`AF_UNIX`, `SOCK_SEQPACKET`, close-on-exec).
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other process closed its end or died.
    #[error("the other process closed the control socket")]
    Closed,
    /// Nothing came in time.
    #[error("no message within {0:?}")]
    TimedOut(Duration),
    /// A packet is larger than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes is larger than the allowed {MAX_MESSAGE}")]
    TooLarge(usize),
    /// A packet is not a message of this build.
    #[error("a message cannot be read: {0}")]
    Malformed(#[source] postcard::Error),
    /// The call failed.
    #[error("the control socket failed")]
    Io(#[from] io::Error),
}

impl From<Errno> for ChannelError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl Channel {
    /// Makes a connected pair: keep one end, give the other to another process.
    ///
    /// # Errors
    /// If the kernel has no socket to give.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// Takes over one end.
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`ChannelError::Closed`] if nobody listens, [`ChannelError::TooLarge`].
    pub fn send<T: Serialize>(&self, message: &T) -> Result<(), ChannelError> {
        let bytes = encode(message)?;
        sent(|| send(&self.0, &bytes, SendFlags::NOSIGNAL))
    }

    /// Sends one message and a copy of a descriptor.
    ///
    /// # Errors
    /// As [`Channel::send`].
    pub fn send_with<T: Serialize>(
        &self,
        message: &T,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), ChannelError> {
        let bytes = encode(message)?;
        let descriptors = [descriptor];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sent(|| sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL))
    }

    /// Waits for one message, at most `timeout` (`None`: for ever). Descriptors that a packet may
    /// carry are dropped by the kernel, because no room is offered for them.
    ///
    /// # Errors
    /// See [`ChannelError`]; after any but [`ChannelError::TimedOut`] the other end is not to be
    /// trusted with another try.
    pub fn receive<T: DeserializeOwned>(
        &self,
        timeout: Option<Duration>,
    ) -> Result<T, ChannelError> {
        // With TRUNC the kernel tells the packet's own length, also if it is longer than the
        // buffer.
        let flags = RecvFlags::TRUNC;
        let take = |buffer: &mut Vec<u8>| Ok(recv(&self.0, spare_capacity(buffer), flags)?.1);
        decode(&self.packet(timeout, take)?)
    }

    /// Waits for one message and the descriptor that comes with it, if one does; of several the
    /// kernel drops all but one.
    ///
    /// # Errors
    /// As [`Channel::receive`].
    pub fn receive_with<T: DeserializeOwned>(
        &self,
        timeout: Option<Duration>,
    ) -> Result<(T, Option<OwnedFd>), ChannelError> {
        let mut descriptor = None;
        let bytes = self.packet(timeout, |buffer| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::TRUNC | RecvFlags::CMSG_CLOEXEC;
            buffer.resize(MAX_MESSAGE, 0);
            let mut room = [IoSliceMut::new(buffer)];
            let message = recvmsg(&self.0, &mut room, &mut ancillary, flags)?;
            for part in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                    descriptor = descriptors.last();
                }
            }
            Ok(message.bytes)
        })?;
        Ok((decode(&bytes)?, descriptor))
    }

    /// One packet, as `take` puts it into an empty buffer with room for the largest; `take` answers
    /// the packet's length.
    fn packet(
        &self,
        timeout: Option<Duration>,
        mut take: impl FnMut(&mut Vec<u8>) -> rustix::io::Result<usize>,
    ) -> Result<Vec<u8>, ChannelError> {
        if let Some(limit) = timeout {
            self.wait(limit)?;
        }
        // Most packets are short, and to fill the rest with zeros would take longer than all else.
        let mut buffer = Vec::with_capacity(MAX_MESSAGE);
        let mut reset = false;
        let length = loop {
            match take(&mut buffer) {
                Ok(length) => break length,
                Err(Errno::INTR) => {}
                // The other end closed with something of ours unread (`unix_release_sock`). The
                // kernel tells this once, before what the other end had sent: its last words.
                Err(Errno::CONNRESET) if !reset => reset = true,
                Err(Errno::CONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(errno.into()),
            }
        };
        if length == 0 {
            return Err(ChannelError::Closed);
        }
        if length > MAX_MESSAGE {
            return Err(ChannelError::TooLarge(length));
        }
        buffer.truncate(length);
        Ok(buffer)
    }

    fn wait(&self, limit: Duration) -> Result<(), ChannelError> {
        let timeout = Timespec::try_from(limit)
            .map_err(|_| ChannelError::Io(io::ErrorKind::InvalidInput.into()))?;
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Err(ChannelError::TimedOut(limit)),
                Ok(_) => return Ok(()),
                // A signal starts the wait anew: the limit guards against a stuck process, it is
                // not a clock.
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ChannelError> {
    let bytes = postcard::to_stdvec(message).map_err(ChannelError::Malformed)?;
    if bytes.len() > MAX_MESSAGE { Err(ChannelError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ChannelError> {
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(ChannelError::Malformed)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(ChannelError::Malformed(postcard::Error::DeserializeBadEncoding))
    }
}

fn sent(mut send: impl FnMut() -> rustix::io::Result<usize>) -> Result<(), ChannelError> {
    loop {
        match send() {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(ChannelError::Closed),
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
