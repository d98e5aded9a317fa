//! The broker at work: one question, one answer, until the worker is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use wasi_guard_channel::{Channel, ChannelError};

use super::{Broker, Event};
use crate::kernel::Buffer;
use crate::protocol::{MapHandle, ObjectHandle, Reply, Request, Samples, WINDOW};
use crate::window::Window;

/// Longest part of a sample that is handed on, in bytes: what the window has room for.
const MAX_SAMPLE: u32 = (WINDOW - 4) as u32;
/// Bytes of samples in one answer, unless the first is longer: enough for the price of an answer
/// not to count, and few enough for the processor's cache.
const BATCH: usize = 256 << 10;

/// Why a broker has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Served {
    /// The worker is gone.
    Gone,
    /// It said what is no question.
    Nonsense(String),
}

/// Answers a worker until it is gone. All its objects go with the broker.
pub fn serve(mut broker: Broker, channel: &Channel, window: &Window) -> Served {
    let ended = loop {
        let request = match channel.receive(None) {
            Ok(request) => request,
            Err(ChannelError::Closed) => break Served::Gone,
            Err(error) => break Served::Nonsense(error.to_string()),
        };
        let reply = match request {
            Request::Poll { object, map, max_size, wait } => {
                let wait = u64::try_from(wait).ok().map(Duration::from_millis);
                match broker.poll(object, map, max_size, wait, channel, window) {
                    Ok(samples) => Reply::Samples(Ok(samples)),
                    Err(Waited::Errno(errno)) => Reply::Samples(Err(errno)),
                    Err(Waited::Gone) => break Served::Gone,
                }
            }
            request => broker.answer(request, window),
        };
        match channel.send(&reply) {
            Ok(()) => {}
            Err(ChannelError::Closed) => break Served::Gone,
            Err(error) => break Served::Nonsense(error.to_string()),
        }
    };
    broker.end();
    ended
}

/// What came of waiting instead of samples.
enum Waited {
    Errno(i32),
    Gone,
}

impl From<i32> for Waited {
    fn from(errno: i32) -> Self {
        Self::Errno(errno)
    }
}

impl Broker {
    /// Says what is still to be said.
    fn end(mut self) {
        for object in self.objects.values_mut() {
            for (map, count) in object.unsaid_losses() {
                (self.events)(Event::Lost { map, count });
            }
        }
    }

    fn poll(
        &mut self,
        object: ObjectHandle,
        handle: MapHandle,
        max_size: u32,
        wait: Option<Duration>,
        channel: &Channel,
        window: &Window,
    ) -> Result<Samples, Waited> {
        let deadline = wait.map(|wait| Instant::now() + wait);
        let (owner, at) = *self.maps.get(&handle).ok_or(libc::EBADF)?;
        if owner != object {
            return Err(libc::EBADF.into());
        }
        let map = self.objects.get_mut(&owner).and_then(|it| it.maps.get_mut(at));
        let map = map.ok_or(libc::EBADF)?;
        let buffer = match &mut map.buffer {
            Some(buffer) => buffer,
            none => {
                let opened = Buffer::open(&map.map);
                none.insert(opened.map_err(|error| super::errno(error.errno))?)
            }
        };
        let max_size = max_size.min(MAX_SAMPLE);
        let limit = BATCH.max(max_size as usize + 4);
        let mut bytes = Vec::new();
        loop {
            let found = buffer.collect(max_size, limit, &mut bytes);
            if found.count > 0 || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                let (count, more) = (found.count, found.more);
                if let Some((map, count)) = map.unsaid_losses() {
                    (self.events)(Event::Lost { map, count });
                }
                let bytes = window.put(bytes).map_err(|_| libc::EIO)?;
                return Ok(Samples { count, bytes, more });
            }
            if !wait_for(&buffer.fds(), channel, deadline).map_err(|_| libc::EIO)? {
                return Err(Waited::Gone);
            }
        }
    }
}

/// Waits for one of the buffers' descriptors, or the time; `false`: the worker is gone.
fn wait_for(
    buffers: &[BorrowedFd<'_>],
    channel: &Channel,
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let left = left.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    // Its end is told whether it is asked for or not; a worker that talks on while it waits is
    // heard after its answer.
    let mut fds = vec![PollFd::new(channel, PollFlags::empty())];
    fds.extend(buffers.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
    match poll(&mut fds, left.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(!fds.first().is_some_and(|fd| fd.revents().intersects(gone)))
}
