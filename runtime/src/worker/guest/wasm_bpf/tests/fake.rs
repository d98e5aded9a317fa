//! A broker that is a thread: some objects, some maps, and samples that the test puts there.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd as _;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use wasi_guard_broker::protocol::{Bytes, MapShape, Reply, Request, Samples, Target, WINDOW};
use wasi_guard_broker::window::Window;

use crate::protocol::Channel;

/// Its maps, the same in each object: name, kind, bytes of a key and of a value.
pub(super) const MAPS: &[(&str, u32, u32, u32)] = &[
    ("hash", 1, 4, 8),
    ("percpu", 6, 4, 64),
    ("ring", 27, 0, 0),
    ("large", 2, 4, 1 << 20),
    ("bloom", 30, 0, 4),
    ("groups", 8, 4, 4),
];

/// What it has.
#[derive(Debug, Default)]
pub(super) struct Fake {
    /// Objects, each with its size.
    pub(super) objects: BTreeMap<u64, usize>,
    /// How many there were.
    pub(super) loaded: u64,
    /// Entries of all maps.
    pub(super) entries: BTreeMap<(i32, Vec<u8>), Vec<u8>>,
    /// Samples of all buffers.
    pub(super) samples: VecDeque<Vec<u8>>,
    /// Most samples in one answer, if not 0.
    pub(super) batch: usize,
    /// Questions that it got, as short texts.
    pub(super) asked: Vec<String>,
    /// What it answers next, whatever it is asked.
    pub(super) next: Option<Reply>,
    /// It goes at the next question.
    pub(super) gone: bool,
}

/// The broker's end.
pub(super) struct End {
    channel: Channel,
    window: Window,
}

impl End {
    /// Answers until the worker is gone.
    pub(super) fn serve(self, fake: &Mutex<Fake>) {
        while let Ok(request) = self.channel.receive::<Request>(None) {
            let mut state = fake.lock().unwrap_or_else(PoisonError::into_inner);
            if state.gone {
                return;
            }
            let reply = match state.next.take() {
                Some(reply) => reply,
                None => state.answer(&self.window, request),
            };
            drop(state);
            if self.channel.send(&reply).is_err() {
                return;
            }
        }
    }
}

impl Fake {
    /// Both ends of one.
    pub(super) fn connect() -> (Channel, Window, End) {
        let (channel, theirs) = Channel::pair().unwrap();
        let window = Window::create(WINDOW).unwrap();
        let theirs = End {
            channel: Channel::from_fd(theirs),
            window: Window::from_fd(window.as_fd().try_clone_to_owned().unwrap(), WINDOW),
        };
        (channel, window, theirs)
    }

    fn answer(&mut self, window: &Window, request: Request) -> Reply {
        let take = |bytes: Bytes| window.take(bytes).unwrap();
        match request {
            Request::Load(bytes) => {
                let bytes = take(bytes);
                self.asked.push(format!("load {}", bytes.len()));
                if bytes.starts_with(b"bad") {
                    return Reply::Object(Err(libc::EINVAL));
                }
                self.loaded += 1;
                self.objects.insert(self.loaded, bytes.len());
                Reply::Object(Ok(self.loaded))
            }
            Request::Close(object) => {
                self.asked.push(format!("close {object}"));
                Reply::Done(self.objects.remove(&object).map(drop).ok_or(libc::EBADF))
            }
            Request::Attach { object, program, target } => {
                let target = match target {
                    Target::Auto => "auto".to_owned(),
                    Target::Named(name) => format!("named {name}"),
                    Target::Preopen(number) => format!("preopen {number}"),
                };
                self.asked.push(format!("attach {program} {target}"));
                let known = self.objects.contains_key(&object);
                Reply::Done(if !known {
                    Err(libc::EBADF)
                } else if program == "missing" {
                    Err(libc::ENOENT)
                } else {
                    Ok(())
                })
            }
            Request::MapByName { object, name } => {
                self.asked.push(format!("map {name}"));
                Reply::Map(self.shape(object, &name))
            }
            Request::Lookup { map, key, flags } => {
                let key = take(key);
                self.asked.push(format!("lookup {map} {key:?} {flags}"));
                let value = self.entries.get(&(map, key)).cloned().ok_or(libc::ENOENT);
                Reply::Value(value.map(|it| window.put(it).unwrap()))
            }
            Request::Update { map, pair, flags } => {
                let mut key = take(pair);
                let value = key.split_off(4);
                self.asked.push(format!("update {map} {key:?} {} {flags}", value.len()));
                self.entries.insert((map, key), value);
                Reply::Done(Ok(()))
            }
            Request::SetCgroup { map, key, preopen } => {
                self.asked.push(format!("cgroup {map} {:?} {preopen}", take(key)));
                Reply::Done(Ok(()))
            }
            Request::Delete { map, key } => {
                let key = take(key);
                self.asked.push(format!("delete {map} {key:?}"));
                Reply::Done(self.entries.remove(&(map, key)).map(drop).ok_or(libc::ENOENT))
            }
            Request::NextKey { map, key } => {
                let key = key.map(take);
                self.asked.push(format!("next {map} {key:?}"));
                Reply::Value(self.next_key(map, key).map(Bytes::Inline))
            }
            Request::Poll { object, map: _, max_size, wait } => {
                self.asked.push(format!("poll {max_size} {wait}"));
                if !self.objects.contains_key(&object) {
                    return Reply::Samples(Err(libc::EBADF));
                }
                // A test that waits for longer waits for nothing.
                if self.samples.is_empty() && (1..=200).contains(&wait) {
                    thread::sleep(Duration::from_millis(wait.unsigned_abs().into()));
                }
                Reply::Samples(Ok(self.poll(window, max_size as usize)))
            }
            Request::Lost { object, map } => {
                self.asked.push(format!("lost {map}"));
                Reply::Count(self.objects.get(&object).map(|_| 7).ok_or(libc::EBADF))
            }
            Request::LastError => {
                self.asked.push("last_error".to_owned());
                Reply::Value(Ok(Bytes::Inline(b"R1 \0 invalid mem \xff access".to_vec())))
            }
        }
    }

    fn shape(&self, object: u64, name: &str) -> Result<MapShape, i32> {
        self.objects.get(&object).ok_or(libc::EBADF)?;
        let place = MAPS.iter().position(|it| it.0 == name).ok_or(libc::ENOENT)?;
        let (_, kind, key_size, value_size) = MAPS[place];
        // Each object has maps of its own.
        let handle = (object * 10) as i32 + place as i32;
        Ok(MapShape { handle, kind, key_size, value_size })
    }

    fn next_key(&self, map: i32, key: Option<Vec<u8>>) -> Result<Vec<u8>, i32> {
        let keys: Vec<&Vec<u8>> =
            self.entries.keys().filter(|it| it.0 == map).map(|it| &it.1).collect();
        let place = key.and_then(|key| keys.iter().position(|it| **it == key));
        let next = place.map_or(0, |place| place + 1);
        keys.get(next).map(|it| (*it).clone()).ok_or(libc::ENOENT)
    }

    fn poll(&mut self, window: &Window, max_size: usize) -> Samples {
        let most = if self.batch == 0 { self.samples.len() } else { self.batch };
        let mut bytes = Vec::new();
        let mut count = 0;
        for mut sample in self.samples.drain(..most.min(self.samples.len())) {
            sample.truncate(max_size);
            bytes.extend((sample.len() as u32).to_le_bytes());
            bytes.extend(sample);
            count += 1;
        }
        Samples { count, bytes: window.put(bytes).unwrap(), more: !self.samples.is_empty() }
    }
}
