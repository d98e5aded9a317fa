//! What `wasi-guard policy reload` asks the supervisor of a running guest, and its answer.
//!
//! One packet there, with a descriptor: a sealed memfd with the policy's text, which may be far
//! larger than a packet. One packet back.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::Channel;

/// Largest request in bytes, encoded: room for a name and a directory of 4,096 bytes each, of
/// which a name that is no UTF-8 has become three times as long.
pub const MAX_REQUEST: usize = 32 * 1024;
/// Layout of the messages. The one who asks and the supervisor may be of different releases.
const VERSION: u32 = 1;

/// Put this policy in the place of the one in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    version: u32,
    /// What messages and records call the policy: its path as it was given.
    pub name: String,
    /// The bytes of the absolute path at which the policy's relative paths start.
    pub directory: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The new policy is in force.
    InForce(InForce),
    /// The one before stays in force. The text is ready to be shown.
    Refused(String),
}

/// A policy that has come into force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// blake3 of its text, in hexadecimal.
    pub digest: String,
    /// How many rules it has.
    pub rules: u64,
    /// Warnings about it, ready to be shown; empty if there are none.
    pub warnings: String,
}

/// Why a request is none.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The other process closed its end.
    #[error("it was closed before a request came")]
    Closed,
    /// The packet is larger than [`MAX_REQUEST`].
    #[error("a request of {0} bytes is larger than the allowed {MAX_REQUEST}")]
    TooLarge(usize),
    /// The packet is no request.
    #[error("the request cannot be read: {0}")]
    Malformed(#[source] postcard::Error),
    /// The asker is of another release.
    #[error("the request has version {0}, this supervisor knows {VERSION}")]
    Version(u32),
    /// No descriptor came with it, or several did.
    #[error("the request has no policy text with it")]
    NoText,
    /// The call failed.
    #[error("the socket failed")]
    Io(#[from] io::Error),
}

impl Request {
    /// A request for the policy that messages call `name`.
    #[must_use]
    pub const fn new(name: String, directory: Vec<u8>) -> Self {
        Self { version: VERSION, name, directory }
    }

    /// Sends the request; `text` is a sealed memfd.
    ///
    /// # Errors
    /// If it is larger than [`MAX_REQUEST`] or nobody takes it.
    pub fn send(&self, channel: &Channel, text: &OwnedFd) -> Result<(), RequestError> {
        let bytes = postcard::to_stdvec(self).map_err(RequestError::Malformed)?;
        if bytes.len() > MAX_REQUEST {
            return Err(RequestError::TooLarge(bytes.len()));
        }
        let descriptors = [text.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(channel.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
            .map_err(io::Error::from)?;
        Ok(())
    }

    /// Takes a request without waiting: `None` if none is there yet.
    ///
    /// # Errors
    /// [`RequestError`]; after any the other end is not to be trusted with another try.
    pub fn receive(channel: &Channel) -> Result<Option<(Self, OwnedFd)>, RequestError> {
        let mut buffer = vec![0; MAX_REQUEST];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        // With TRUNC the kernel tells the packet's own length, also if it is longer than the
        // buffer.
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC | RecvFlags::CMSG_CLOEXEC;
        let mut vectors = [IoSliceMut::new(&mut buffer)];
        let received = match recvmsg(channel.as_fd(), &mut vectors, &mut control, flags) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(Errno::CONNRESET) => return Err(RequestError::Closed),
            other => other.map_err(io::Error::from)?,
        };
        // Owned at once, so that whatever came is closed however this ends.
        let mut texts = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                texts.extend(descriptors);
            }
        }
        if received.bytes == 0 {
            return Err(RequestError::Closed);
        }
        let bytes = buffer.get(..received.bytes).ok_or(RequestError::TooLarge(received.bytes))?;
        let (request, rest) =
            postcard::take_from_bytes::<Self>(bytes).map_err(RequestError::Malformed)?;
        if request.version != VERSION {
            return Err(RequestError::Version(request.version));
        }
        if !rest.is_empty() {
            return Err(RequestError::Malformed(postcard::Error::DeserializeBadEncoding));
        }
        // More descriptors than there is room for are dropped by the kernel, which says so.
        let text = texts.pop().filter(|_| texts.is_empty());
        match text {
            Some(text) if !received.flags.contains(ReturnFlags::CTRUNC) => {
                Ok(Some((request, text)))
            }
            _ => Err(RequestError::NoText),
        }
    }
}

/// `text`, cut to at most `limit` bytes, with a sign that it was.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    const SIGN: &str = "\u{2026}\n";
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(SIGN.len()));
    format!("{}{SIGN}", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rustix::net::send;

    use super::super::sealed;
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel::from_fd(theirs))
    }

    fn request() -> Request {
        Request::new("app.toml".into(), b"/etc/\xff".to_vec())
    }

    #[test]
    fn a_request_arrives_with_its_text() {
        let (asker, supervisor) = pair();
        assert!(Request::receive(&supervisor).unwrap().is_none(), "nothing is there yet");
        request().send(&asker, &sealed::write("test", b"version = 1").unwrap()).unwrap();
        let (found, text) = Request::receive(&supervisor).unwrap().unwrap();
        assert_eq!(found, request());
        assert_eq!(sealed::read(text, 100).unwrap(), b"version = 1");
        drop(asker);
        assert!(matches!(Request::receive(&supervisor), Err(RequestError::Closed)));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let (asker, supervisor) = pair();
        let good = postcard::to_stdvec(&request()).unwrap();
        send(asker.as_fd(), &good, SendFlags::empty()).unwrap();
        assert!(matches!(Request::receive(&supervisor), Err(RequestError::NoText)));
        send(asker.as_fd(), &vec![1; MAX_REQUEST + 1], SendFlags::empty()).unwrap();
        let error = Request::receive(&supervisor).unwrap_err();
        assert!(matches!(error, RequestError::TooLarge(n) if n == MAX_REQUEST + 1), "{error:?}");
        let mut other = request();
        other.version = 2;
        send(asker.as_fd(), &postcard::to_stdvec(&other).unwrap(), SendFlags::empty()).unwrap();
        assert!(matches!(Request::receive(&supervisor), Err(RequestError::Version(2))));
        for length in 1..good.len() {
            send(asker.as_fd(), &good[..length], SendFlags::empty()).unwrap();
            assert!(matches!(Request::receive(&supervisor), Err(RequestError::Malformed(_))));
        }
        // A name of 2^60 bytes, of which none come.
        let huge = [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        send(asker.as_fd(), &huge, SendFlags::empty()).unwrap();
        assert!(matches!(Request::receive(&supervisor), Err(RequestError::Malformed(_))));
    }

    #[test]
    fn more_than_one_descriptor_is_refused() {
        let (asker, supervisor) = pair();
        let text = sealed::write("test", b"").unwrap();
        let descriptors = [text.as_fd(), text.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let bytes = postcard::to_stdvec(&request()).unwrap();
        sendmsg(asker.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
        assert!(matches!(Request::receive(&supervisor), Err(RequestError::NoText)));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("aüüüü", 8), "aü\u{2026}\n");
        assert_eq!(cut("abcdef", 0), "\u{2026}\n");
    }
}
