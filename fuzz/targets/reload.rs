//! What anybody who reaches a guest's reload socket may send, and what a supervisor that is not
//! one may answer.
//!
//! The first byte says how many descriptors come with the request and whether the text is sealed;
//! the rest is the packet.

#![no_main]

use std::fs::File;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};
use wasi_guard::protocol::{
    Answer, Channel, MAX_MESSAGE, MAX_REQUEST, Request, RequestError, SealedError, cut,
    read_sealed, write_sealed,
};
use wasi_guard_fuzz::within;

/// The packet, what it is decoded to, and what serde takes at once for a list that says it is
/// long.
const BYTES: usize = 2 * MAX_REQUEST + (1 << 20) + 4096;
/// Most bytes of a text in this target.
const TEXT: usize = 1000;

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let (asker, supervisor) = Channel::pair().expect("a pair of sockets");
    let supervisor = Channel::from_fd(supervisor);
    request(&asker, &supervisor, *how, bytes);
    answer(&asker, &supervisor, bytes);
    let text = String::from_utf8_lossy(bytes);
    for limit in [0, 3, 4, bytes.len() / 2, bytes.len()] {
        assert!(cut(&text, limit).len() <= limit.max(4));
    }
});

fn request(asker: &Channel, supervisor: &Channel, how: u8, bytes: &[u8]) {
    let descriptors = usize::from(how & 3);
    let sealed = how & 4 == 0;
    let text: OwnedFd = match sealed {
        true => write_sealed("fuzz", bytes).expect("a memfd"),
        false => File::open("/dev/zero").expect("an endless file").into(),
    };
    let packet = if how & 8 == 0 { bytes.to_vec() } else { bytes.repeat(100) };
    let fds = [text.as_fd(); 3];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if descriptors > 0 {
        control.push(SendAncillaryMessage::ScmRights(&fds[..descriptors]));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if sendmsg(asker, &[IoSlice::new(&packet)], &mut control, flags).is_err() {
        return;
    }
    match within(BYTES, || Request::receive(supervisor)) {
        Ok(Some((request, received))) => {
            assert_eq!(descriptors, 1);
            match within(2 * TEXT, || read_sealed(received, TEXT)) {
                Ok(read) => assert!(sealed && read == bytes),
                Err(SealedError::NotSealed) => assert!(!sealed),
                Err(SealedError::TooLarge(_)) => assert!(bytes.len() > TEXT),
                Err(error) => panic!("{error:?}"),
            }
            request.send(asker, &text).expect("what was received can be sent");
            let again = Request::receive(supervisor).expect("and received").expect("at once");
            assert_eq!(again.0, request);
        }
        Ok(None) => panic!("the packet is there"),
        Err(RequestError::TooLarge(length)) => assert!(length == packet.len()),
        Err(RequestError::Closed) => assert!(packet.is_empty()),
        Err(RequestError::Io(error)) => panic!("{error:?}"),
        Err(RequestError::Malformed(_) | RequestError::Version(_) | RequestError::NoText) => {}
    }
}

fn answer(asker: &Channel, supervisor: &Channel, bytes: &[u8]) {
    if send(supervisor, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_err() {
        return;
    }
    let limit = Some(Duration::ZERO);
    if let Ok(answer) = within(2 * MAX_MESSAGE + 4096, || asker.receive::<Answer>(limit)) {
        supervisor.send(&answer).expect("what was received can be sent");
        assert_eq!(asker.receive::<Answer>(limit).expect("and received"), answer);
    }
}
