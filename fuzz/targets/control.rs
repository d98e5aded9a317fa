//! What the control socket carries, in both directions, and the worker's config: whatever the
//! other end sends is a message or an error, and costs no more memory than is promised.
//!
//! The input is a list of steps: a byte that says what to do, two for a length, and that many
//! bytes.

#![no_main]

use std::fmt::Debug;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::net::{SendFlags, send};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasi_guard::protocol::{
    Channel, ChannelError, FromWorker, MAX_CONFIG, MAX_MESSAGE, ToWorker, WorkerConfig,
    write_sealed,
};
use wasi_guard_fuzz::within;

/// The packet, and what it is decoded to.
const MESSAGE_BYTES: usize = 2 * MAX_MESSAGE + 4096;
/// The config, lists whose entries take a byte there and a `String` here, and room for these to
/// grow.
const CONFIG_BYTES: usize = MAX_CONFIG + (8 << 20);

fuzz_target!(|data: &[u8]| {
    let (supervisor, worker) = Channel::pair().expect("a pair of sockets");
    let worker = Channel::from_fd(worker);
    let mut rest = data;
    while let Some(([what, low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        match what % 8 {
            0 => step::<ToWorker>(&supervisor, &worker, bytes, 1),
            1 => step::<FromWorker>(&worker, &supervisor, bytes, 1),
            2 => step::<ToWorker>(&supervisor, &worker, bytes, 500),
            3 => step::<FromWorker>(&worker, &supervisor, bytes, 500),
            // Larger than allowed.
            4 => step::<FromWorker>(&worker, &supervisor, &bytes.repeat(1000), 2),
            5 => config(bytes),
            6 => drop(worker.receive::<ToWorker>(Some(Duration::ZERO))),
            _ => {
                drop(worker);
                let error = supervisor.receive::<FromWorker>(Some(Duration::ZERO));
                assert!(matches!(error, Err(ChannelError::Closed)), "{error:?}");
                return;
            }
        }
    }
});

/// Sends a packet `times` times, or as often as the socket has room, and receives all of them.
fn step<T>(from: &Channel, to: &Channel, bytes: &[u8], times: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let sent = (0..times)
        .take_while(|_| send(from, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok())
        .count();
    for _ in 0..sent {
        let received = within(MESSAGE_BYTES, || to.receive::<T>(Some(Duration::ZERO)));
        match received {
            Ok(message) => {
                from.send(&message).expect("what was received can be sent");
                let again = to.receive::<T>(Some(Duration::ZERO)).expect("and received");
                assert_eq!(message, again);
            }
            Err(ChannelError::TooLarge(length)) => {
                assert!(length == bytes.len() && length > MAX_MESSAGE);
            }
            Err(ChannelError::Malformed(_)) => {}
            // An empty packet is what a closed socket looks like.
            Err(ChannelError::Closed) => assert!(bytes.is_empty()),
            Err(error) => panic!("{error:?}"),
        }
    }
    let nothing = to.receive::<T>(Some(Duration::ZERO));
    assert!(matches!(nothing, Err(ChannelError::TimedOut(_))), "{nothing:?}");
}

fn config(bytes: &[u8]) {
    let fd = write_sealed("fuzz", bytes).expect("a memfd");
    if let Ok(config) = within(CONFIG_BYTES, || WorkerConfig::from_memfd(fd)) {
        let fd = config.to_memfd().expect("what was read can be written");
        assert_eq!(WorkerConfig::from_memfd(fd).expect("and read"), config);
    }
}
