//! The worker's end of what it and its guest's broker say to each other.

use wasi_guard_broker::image::MAX_OBJECT;
use wasi_guard_broker::protocol::{
    Bytes, MAX_INLINE, MAX_TEXT, MapShape, Reply, Request, Samples, WINDOW,
};
use wasi_guard_broker::window::Window;

use super::arguments::{self, Errno};
use crate::protocol::Channel;

// A name that the guest may give can be asked about, and an object fits.
const _: () = assert!(arguments::MAX_TEXT == MAX_TEXT && arguments::MAX_OBJECT == MAX_OBJECT);
const _: () = assert!(MAX_OBJECT <= WINDOW);

/// Largest number of errno that the kernel gives (`MAX_ERRNO`, include/linux/err.h).
const MAX_ERRNO: i32 = 4095;

/// Asks the broker, one question at a time. Every errno is the broker's own; `EIO` if it is gone,
/// or answered something else than it was asked.
pub(super) struct Connection {
    channel: Channel,
    window: Window,
    /// It is not asked any more: an answer could be that to an earlier question.
    lost: bool,
}

impl Connection {
    pub(super) const fn new(channel: Channel, window: Window) -> Self {
        Self { channel, window, lost: false }
    }

    /// Bytes as part of a question. The window has one place: a question has room for one of them.
    ///
    /// # Errors
    /// `E2BIG` if they are longer than the window.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<Bytes, Errno> {
        if bytes.len() <= MAX_INLINE {
            return Ok(Bytes::Inline(bytes.to_vec()));
        }
        if bytes.len() > WINDOW {
            return Err(libc::E2BIG);
        }
        self.window.write(bytes).map(Bytes::Window).map_err(|_| libc::EIO)
    }

    /// Two of them, one after the other.
    ///
    /// # Errors
    /// As [`Connection::put`].
    pub(super) fn put_pair(&self, one: &[u8], other: &[u8]) -> Result<Bytes, Errno> {
        // Before they are copied: a guest's memory may be larger than what is left of this one's.
        if one.len().saturating_add(other.len()) > WINDOW {
            return Err(libc::E2BIG);
        }
        self.put(&[one, other].concat())
    }

    pub(super) fn done(&mut self, request: &Request) -> Result<(), Errno> {
        match self.ask(request)? {
            Reply::Done(result) => result.map_err(errno),
            _ => Err(self.lose()),
        }
    }

    pub(super) fn object(&mut self, request: &Request) -> Result<u64, Errno> {
        match self.ask(request)? {
            Reply::Object(result) => result.map_err(errno),
            _ => Err(self.lose()),
        }
    }

    pub(super) fn map(&mut self, request: &Request) -> Result<MapShape, Errno> {
        match self.ask(request)? {
            Reply::Map(result) => result.map_err(errno),
            _ => Err(self.lose()),
        }
    }

    pub(super) fn value(&mut self, request: &Request) -> Result<Vec<u8>, Errno> {
        match self.ask(request)? {
            Reply::Value(result) => self.take(result.map_err(errno)?),
            _ => Err(self.lose()),
        }
    }

    /// Samples, with `bytes` taken out of the window.
    pub(super) fn samples(&mut self, request: &Request) -> Result<(Vec<u8>, u32, bool), Errno> {
        match self.ask(request)? {
            Reply::Samples(result) => {
                let Samples { count, bytes, more } = result.map_err(errno)?;
                Ok((self.take(bytes)?, count, more))
            }
            _ => Err(self.lose()),
        }
    }

    pub(super) fn count(&mut self, request: &Request) -> Result<u64, Errno> {
        match self.ask(request)? {
            Reply::Count(result) => result.map_err(errno),
            _ => Err(self.lose()),
        }
    }

    fn take(&mut self, bytes: Bytes) -> Result<Vec<u8>, Errno> {
        self.window.take(bytes).map_err(|_| self.lose())
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, Errno> {
        if self.lost {
            return Err(libc::EIO);
        }
        // Without a limit of time: receiving then is one call, and a broker that hangs is ended by
        // whoever ends the guest.
        let reply = self.channel.send(request).and_then(|()| self.channel.receive(None));
        reply.map_err(|_| self.lose())
    }

    /// What comes from there is not to be trusted with another try.
    const fn lose(&mut self) -> Errno {
        self.lost = true;
        libc::EIO
    }
}

/// What is no number of errno would, negated, be something else to the guest.
fn errno(number: i32) -> Errno {
    if (1..=MAX_ERRNO).contains(&number) { number } else { libc::EIO }
}
