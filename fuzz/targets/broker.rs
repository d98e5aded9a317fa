//! What a worker asks its guest's broker, and images of objects as a parser that an object has taken
//! over makes them: each question has an answer of its kind, nothing reaches the kernel that the
//! policy does not grant, and instructions are changed only where they load maps.
//!
//! The input is a list of steps: a byte that says what to do, two for a length, and that many
//! bytes. Objects are images already, so that what is loaded is what the input says.

#![no_main]

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::net::{SendFlags, send};
use wasi_guard::protocol::{Channel, ChannelError};
use wasi_guard_broker::broker::{Broker, Event, Guest, Parser, Served, serve};
use wasi_guard_broker::check::{Denied, Host, Usage, check, with_maps};
use wasi_guard_broker::image::Image;
use wasi_guard_broker::protocol::{Bytes, Reply, Request, WINDOW};
use wasi_guard_broker::window::Window;
use wasi_guard_fuzz::within;
use wasi_guard_policy::bpf::{Bpf, ProgramKind, Scope};
use wasi_guard_policy::pattern::Pattern;

/// Longer than any answer takes that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(20);

fuzz_target!(|data: &[u8]| {
    let (worker, theirs) = Channel::pair().expect("a pair of sockets");
    let theirs = Channel::from_fd(theirs);
    let window = Window::create(WINDOW).expect("a window");
    let its = window.as_fd().try_clone_to_owned().expect("its other end");
    let its = Window::from_fd(its, WINDOW);
    // Of what is refused the kernel never hears: this policy grants no program and no map.
    let policy = Bpf { max_programs: 0, max_maps: 0, ..Bpf::default() };
    let guest = Guest { policy, audit: false, cgroup: None, preopens: Vec::new() };
    let events = |event| match event {
        Event::Denied { denied, passed, .. } => {
            assert!(!passed && !denied.to_string().is_empty());
        }
        Event::Lost { .. } => panic!("there is nothing to lose"),
    };
    let broker = Broker::new(guest, Box::new(Itself), Box::new(events));
    let broker = thread::spawn(move || serve(broker, &theirs, &its));
    let mut expected = Some(Served::Gone);
    let mut rest = data;
    while let Some(([what, low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        let goes_on = match what % 5 {
            0 => raw(&worker, bytes, &mut expected),
            1 => load(&worker, &window, bytes, false),
            2 => load(&worker, &window, bytes, true),
            _ => {
                image(bytes);
                true
            }
        };
        if !goes_on {
            break;
        }
    }
    drop(worker);
    let served = broker.join().expect("the broker has not panicked");
    match expected {
        Some(expected) => assert_eq!(served, expected),
        None => assert!(matches!(served, Served::Nonsense(_)), "{served:?}"),
    }
});

/// Takes objects for images.
struct Itself;

impl Parser for Itself {
    fn parse(&mut self, object: &[u8]) -> Result<Vec<u8>, String> {
        match Image::decode(object) {
            // The kernel takes types of anybody's, also where nothing uses them.
            Ok(image) => Image { btf: Vec::new(), ..image }.encode().map_err(|it| it.to_string()),
            Err(_) if object.len().is_multiple_of(2) => Ok(object.to_vec()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Sends a packet, and answers whether there is another to be sent.
fn raw(worker: &Channel, bytes: &[u8], expected: &mut Option<Served>) -> bool {
    let request = postcard::take_from_bytes::<Request>(bytes);
    let request = request.ok().filter(|(_, rest)| rest.is_empty()).map(|(request, _)| request);
    send(worker, bytes, SendFlags::NOSIGNAL).expect("the broker listens");
    match request {
        Some(request) => {
            answered(worker, &request);
            true
        }
        None => {
            let error = worker.receive::<Reply>(Some(PATIENCE));
            assert!(matches!(error, Err(ChannelError::Closed)), "{error:?}");
            // An empty packet is what a closed socket looks like.
            *expected = bytes.is_empty().then_some(Served::Gone);
            false
        }
    }
}

/// The answer to a question that was sent.
fn answered(worker: &Channel, request: &Request) -> Reply {
    let reply = worker.receive(Some(PATIENCE)).expect("an answer");
    let of_its_kind = matches!(
        (request, &reply),
        (Request::Load(_), Reply::Object(_))
            | (
                Request::Close(_)
                    | Request::Attach { .. }
                    | Request::Update { .. }
                    | Request::SetCgroup { .. }
                    | Request::Delete { .. },
                Reply::Done(_)
            )
            | (Request::MapByName { .. }, Reply::Map(Err(_)))
            | (Request::Lookup { .. } | Request::NextKey { .. }, Reply::Value(Err(_)))
            | (Request::LastError, Reply::Value(Ok(_)))
            | (Request::Poll { .. }, Reply::Samples(Err(_)))
            | (Request::Lost { .. }, Reply::Count(Err(_)))
    );
    assert!(of_its_kind, "{request:?}: {reply:?}");
    reply
}

/// Loads an object. Answers that there is more to be asked.
fn load(worker: &Channel, window: &Window, bytes: &[u8], by_window: bool) -> bool {
    let object = if by_window {
        Bytes::Window(window.write(bytes).expect("it has room"))
    } else {
        window.put(bytes.to_vec()).expect("it has room")
    };
    let request = Request::Load(object);
    worker.send(&request).expect("the broker listens");
    let loaded = answered(worker, &request);
    worker.send(&Request::LastError).expect("the broker listens");
    let Reply::Value(Ok(why)) = answered(worker, &Request::LastError) else {
        panic!("there is always an answer");
    };
    let why = window.take(why).expect("it is where it is said to be");
    match loaded {
        Reply::Object(Ok(object)) => {
            assert!(object > 0 && why.is_empty());
            let image = Image::decode(bytes).expect("what was loaded is an image");
            assert!(image.programs.is_empty() && image.maps.is_empty());
        }
        _ => assert!(std::str::from_utf8(&why).is_ok_and(|why| !why.is_empty())),
    }
    true
}

/// Holds an image against policies.
fn image(bytes: &[u8]) {
    // An entry of a list has a byte there, and what a program takes here.
    let Ok(image) = within(bytes.len() * 256 + (8 << 20), || Image::decode(bytes)) else { return };
    let again = Image::decode(&image.encode().expect("what was read can be written"));
    assert_eq!(again.expect("and read"), image);

    let judge = |policy: &Bpf, audit| {
        let mut told = Vec::new();
        let host = Host { processors: 4, audit };
        let usage = Usage { programs: 1, maps: 1, map_bytes: 1 };
        let judged = check(&image, policy, usage, host, &mut |it| told.push(it.clone()));
        (judged, told)
    };
    let (granted, told) = judge(&everything(), false);
    let (passed, told_then) = judge(&everything(), true);
    match &granted {
        Ok((programs, usage)) => {
            assert!(told.is_empty() && told_then.is_empty());
            assert_eq!(passed, granted);
            assert_eq!(programs.len(), image.programs.len());
            assert_eq!(usage.programs as usize, image.programs.len() + 1);
            assert_eq!(usage.maps as usize, image.maps.len() + 1);
        }
        Err(Denied::Policy { .. }) => assert!(!told.is_empty() && !told_then.is_empty()),
        // What no policy can grant does not pass.
        Err(_) => assert_eq!(passed, granted),
    }
    let (nothing, told) = judge(&Bpf::default(), false);
    assert!(nothing.is_err() || image.programs.is_empty());
    assert_eq!(matches!(nothing, Err(Denied::Policy { .. })), !told.is_empty());
    // What passes the audit would be told.
    let (audited, told) = judge(&Bpf::default(), true);
    assert!(audited.is_err() || nothing.is_ok() || !told.is_empty());
    instructions(&image, granted.is_ok());
}

/// A policy that grants all that one can.
fn everything() -> Bpf {
    let everything = || vec![Pattern::everything()];
    let helpers: BTreeSet<u32> = (0..1000).collect();
    Bpf {
        scope: Scope::Host,
        programs: ProgramKind::EVERY.into(),
        tracepoints: everything(),
        raw_tracepoints: everything(),
        functions: everything(),
        perf_events: everything(),
        cgroups: everything(),
        interfaces: everything(),
        lsm_hooks: everything(),
        helpers,
        max_programs: 1000,
        max_maps: 1000,
        map_bytes: 1 << 40,
        ..Bpf::default()
    }
}

/// Descriptors go where maps are loaded, and nowhere else.
fn instructions(image: &Image, granted: bool) {
    const LOAD_IMM64: u8 = 0x18;
    let maps = i32::try_from(image.maps.len()).expect("there are fewer");
    let descriptors: Vec<i32> = (0..maps).map(|map| 1000 + map).collect();
    for program in &image.programs {
        let before = &program.instructions;
        let after = with_maps(before, &descriptors);
        assert_eq!(before.len(), after.len());
        let mut whole = true;
        for (before, after) in before.iter().zip(&after) {
            let [code, registers, ..] = before.to_le_bytes();
            let loads = whole && code == LOAD_IMM64;
            // The second half of a load is no instruction.
            whole = !loads;
            if !loads || !matches!(registers >> 4, 1 | 2) {
                assert_eq!(before, after);
                continue;
            }
            let (map, descriptor) = ((before >> 32) as u32, (after >> 32) as u32);
            assert_eq!(*before as u32, *after as u32);
            let known = map < maps.cast_unsigned();
            assert!(known || !granted, "a map that is not there was granted");
            assert_eq!(descriptor, if known { 1000 + map } else { u32::MAX });
        }
    }
}
