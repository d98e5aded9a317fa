//! Whatever a worker asks, it is answered, and with an answer to that question.

use proptest::collection::vec;
use proptest::prelude::*;
use wasi_guard_broker::broker::Served;
use wasi_guard_broker::protocol::{Bytes, Reply, Request, Target, WINDOW};

use crate::compile;
use crate::worker::{Worker, policy};

/// Bytes, where they are, and how many there are said to be.
fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..40).prop_map(Bytes::Inline),
        1 => vec(any::<u8>(), 30_000..34_000).prop_map(Bytes::Inline),
        2 => (0..64_u32).prop_map(Bytes::Window),
        1 => (WINDOW as u32 - 2..).prop_map(Bytes::Window),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("handle_exec".to_owned()),
        Just("events".to_owned()),
        Just("started".to_owned()),
        any::<String>(),
        vec(any::<char>(), 4090..4200).prop_map(String::from_iter),
    ]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Auto),
        name().prop_map(Target::Named),
        (0..3_u32).prop_map(Target::Preopen),
        Just(Target::Preopen(u32::MAX)),
    ]
}

/// Those that there are or were, and those that there never were.
fn object() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..6_u64, 1 => any::<u64>()]
}

fn map() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..16_i32, 1 => any::<i32>()]
}

fn flags() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..6_u64, 1 => any::<u64>()]
}

fn request(good: Vec<u8>) -> impl Strategy<Value = Request> {
    let wait = 0..3_i32;
    prop_oneof![
        Just(Request::Load(Bytes::Inline(good))),
        bytes().prop_map(Request::Load),
        object().prop_map(Request::Close),
        (object(), name(), target()).prop_map(|(object, program, target)| Request::Attach {
            object,
            program,
            target
        }),
        (object(), name()).prop_map(|(object, name)| Request::MapByName { object, name }),
        (map(), bytes(), flags()).prop_map(|(map, key, flags)| Request::Lookup { map, key, flags }),
        (map(), bytes(), flags()).prop_map(|(map, pair, flags)| Request::Update {
            map,
            pair,
            flags
        }),
        (map(), bytes(), 0..3_u32).prop_map(|(map, key, preopen)| Request::SetCgroup {
            map,
            key,
            preopen
        }),
        (map(), bytes()).prop_map(|(map, key)| Request::Delete { map, key }),
        (map(), proptest::option::of(bytes())).prop_map(|(map, key)| Request::NextKey { map, key }),
        (object(), map(), any::<u32>(), wait).prop_map(|(object, map, max_size, wait)| {
            Request::Poll { object, map, max_size, wait }
        }),
        (object(), map()).prop_map(|(object, map)| Request::Lost { object, map }),
        Just(Request::LastError),
    ]
}

fn fits(request: &Request, reply: &Reply) -> bool {
    let errno = match reply {
        Reply::Done(Err(errno))
        | Reply::Object(Err(errno))
        | Reply::Map(Err(errno))
        | Reply::Value(Err(errno))
        | Reply::Samples(Err(errno))
        | Reply::Count(Err(errno)) => Some(*errno),
        _ => None,
    };
    errno.is_none_or(|errno| (1..4096).contains(&errno))
        && matches!(
            (request, reply),
            (Request::Load(_), Reply::Object(_))
                | (
                    Request::Close(_)
                        | Request::Attach { .. }
                        | Request::Update { .. }
                        | Request::SetCgroup { .. }
                        | Request::Delete { .. },
                    Reply::Done(_)
                )
                | (Request::MapByName { .. }, Reply::Map(_))
                | (
                    Request::Lookup { .. } | Request::NextKey { .. } | Request::LastError,
                    Reply::Value(_)
                )
                | (Request::Poll { .. }, Reply::Samples(_))
                | (Request::Lost { .. }, Reply::Count(_))
        )
}

#[test]
fn every_question_is_answered() {
    let good = compile::named("exec");
    assert!(good.len() < 30_000);
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() };
    proptest!(config, |(requests in vec(request(good.clone()), 1..60))| {
        let worker = Worker::new(policy());
        worker.loaded(&good);
        for request in &requests {
            let reply = worker.ask(request);
            prop_assert!(fits(request, &reply), "{request:?}: {reply:?}");
        }
        prop_assert_eq!(worker.end().0, Served::Gone);
    });
}
