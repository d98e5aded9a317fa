//! The control socket, with its own messages.

use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::{Channel, ChannelError, FromWorker, MAX_MESSAGE, ToWorker};

fn pair() -> (Channel, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Channel::from_fd(theirs))
}

#[test]
fn a_message_arrives_as_it_was_sent() {
    let (supervisor, worker) = pair();
    supervisor.send(&ToWorker::Armed).unwrap();
    assert_eq!(worker.receive::<ToWorker>(None).unwrap(), ToWorker::Armed);
    let message = FromWorker::Canary { errno: Some(13) };
    worker.send(&message).unwrap();
    assert_eq!(supervisor.receive::<FromWorker>(None).unwrap(), message);
}

#[test]
fn a_descriptor_arrives_with_its_message_and_only_where_it_is_asked_for() {
    let (supervisor, worker) = pair();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    worker.send_with(&FromWorker::Canary { errno: None }, reader.as_fd()).unwrap();
    worker.send_with(&FromWorker::Canary { errno: None }, reader.as_fd()).unwrap();
    worker.send(&FromWorker::Canary { errno: None }).unwrap();
    drop(reader);
    supervisor.receive::<FromWorker>(None).unwrap();
    let (_, descriptor) = supervisor.receive_with::<FromWorker>(None).unwrap();
    rustix::io::write(&writer, b"x").unwrap();
    assert_eq!(rustix::io::read(descriptor.unwrap(), &mut [0; 2]), Ok(1));
    // The copy of the first message is gone with it.
    assert_eq!(rustix::io::write(&writer, b"x"), Err(Errno::PIPE));
    assert!(supervisor.receive_with::<FromWorker>(None).unwrap().1.is_none());
}

#[test]
fn garbage_truncation_and_trailing_bytes_are_errors() {
    let (supervisor, worker) = pair();
    for bytes in [&[0xff; 40][..], &[4, 200, 1][..], &[0, 0][..]] {
        send(supervisor.as_fd(), bytes, SendFlags::empty()).unwrap();
        let error = worker.receive::<ToWorker>(None).unwrap_err();
        assert!(matches!(error, ChannelError::Malformed(_)), "{bytes:?}: {error:?}");
    }
    send(supervisor.as_fd(), &vec![0; MAX_MESSAGE + 1], SendFlags::empty()).unwrap();
    let error = worker.receive::<ToWorker>(None).unwrap_err();
    assert!(matches!(error, ChannelError::TooLarge(length) if length == MAX_MESSAGE + 1));
}

#[test]
fn a_length_inside_a_message_allocates_nothing() {
    let (supervisor, worker) = pair();
    // `Incompatible` with a string of 2^60 bytes, of which none come.
    let bytes = [4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    send(supervisor.as_fd(), &bytes, SendFlags::empty()).unwrap();
    let error = worker.receive::<FromWorker>(None).unwrap_err();
    assert!(matches!(error, ChannelError::Malformed(_)));
}

#[test]
fn last_words_arrive_although_the_sender_did_not_listen() {
    let (supervisor, worker) = pair();
    worker.send(&FromWorker::Canary { errno: None }).unwrap();
    supervisor.send(&ToWorker::Start).unwrap();
    drop(worker);
    let message = supervisor.receive::<FromWorker>(None).unwrap();
    assert_eq!(message, FromWorker::Canary { errno: None });
    let error = supervisor.receive::<FromWorker>(None).unwrap_err();
    assert!(matches!(error, ChannelError::Closed), "{error:?}");
}

#[test]
fn a_closed_end_and_a_silent_end_are_told_apart() {
    let (supervisor, worker) = pair();
    let limit = Duration::from_millis(10);
    let error = worker.receive::<ToWorker>(Some(limit)).unwrap_err();
    assert!(matches!(error, ChannelError::TimedOut(_)));
    drop(supervisor);
    let error = worker.receive::<ToWorker>(Some(limit)).unwrap_err();
    assert!(matches!(error, ChannelError::Closed));
    let error = worker.send(&ToWorker::Start).unwrap_err();
    assert!(matches!(error, ChannelError::Closed));
}
