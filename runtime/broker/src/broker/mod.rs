//! The objects of one guest, and the answers to its worker's questions.
//!
//! Everything a guest has here hangs on descriptors of this process: an object that is closed, a
//! broker that is dropped and a process that is killed leave nothing in the kernel.

mod attach;
mod load;
mod object;
mod privilege;
mod serve;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use wasi_guard_policy::bpf::Bpf;

use crate::check::{Denied, Usage};
use crate::protocol::{
    BLOOM_FILTER, Bytes, CGROUP_ARRAY, MapHandle, MapShape, ObjectHandle, Reply, Request, WINDOW,
};
use crate::window::Window;

pub use serve::{Served, serve};

use object::Object;

/// Most objects that a guest has at once. What they contain, the policy bounds; one without anything
/// costs memory too.
const MAX_OBJECTS: usize = 256;
/// Most attachments that a guest has at once: each is a descriptor, or one for each processor.
const MAX_LINKS: usize = 256;

/// Longest text of [`Request::LastError`] in bytes: its end is kept.
const MAX_LAST_ERROR: usize = 16 << 10;

/// What parses objects for a broker, and trusts none of them.
pub trait Parser: Send {
    /// The image of an object, encoded.
    ///
    /// # Errors
    /// Why there is none.
    fn parse(&mut self, object: &[u8]) -> std::result::Result<Vec<u8>, String>;
}

/// Something that the audit should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest asked for what is not granted.
    Denied {
        /// The import that it called.
        import: &'static str,
        /// What was denied.
        denied: Denied,
        /// It was let through nevertheless: audit mode.
        passed: bool,
    },
    /// Samples of a buffer were lost.
    Lost {
        /// The map's name.
        map: String,
        /// How many, since this was last said.
        count: u64,
    },
}

/// What a broker has to know of its guest.
pub struct Guest {
    /// What it may load.
    pub policy: Bpf,
    /// What the policy does not grant is recorded and let through.
    pub audit: bool,
    /// Its cgroup.
    pub cgroup: Option<OwnedFd>,
    /// Its preopens, in the order of the guest's numbers; none for what is no directory of the
    /// host's.
    pub preopens: Vec<Option<OwnedFd>>,
}

/// The broker of one guest.
pub struct Broker {
    guest: Guest,
    parser: Box<dyn Parser>,
    events: Box<dyn FnMut(Event) + Send>,
    objects: BTreeMap<ObjectHandle, Object>,
    /// Which object a map belongs to, and its place there.
    maps: BTreeMap<MapHandle, (ObjectHandle, usize)>,
    usage: Usage,
    processors: u64,
    next_object: ObjectHandle,
    next_map: MapHandle,
    last_error: String,
}

/// What went wrong, as a guest and as a reader of the last error hears it.
#[derive(Debug)]
struct Failed {
    errno: i32,
    text: String,
}

impl Failed {
    fn new(errno: i32, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }
}

impl From<crate::kernel::LoadError> for Failed {
    fn from(error: crate::kernel::LoadError) -> Self {
        let text = if error.log.is_empty() {
            error.to_string()
        } else {
            format!("{error}\n{}", error.log)
        };
        Self { errno: error.errno.raw_os_error(), text }
    }
}

type Result<T> = std::result::Result<T, Failed>;
/// An answer without words: an errno.
type Answer<T> = std::result::Result<T, i32>;

impl Broker {
    /// A broker without objects. `events` must not wait for the guest.
    #[must_use]
    pub fn new(
        guest: Guest,
        parser: Box<dyn Parser>,
        events: Box<dyn FnMut(Event) + Send>,
    ) -> Self {
        Self {
            guest,
            parser,
            events,
            objects: BTreeMap::new(),
            maps: BTreeMap::new(),
            usage: Usage::default(),
            // If nobody can say, more than there ever were: maps then cost too much.
            processors: aya::util::nr_cpus().map_or(1 << 20, |count| count as u64),
            next_object: 1,
            next_map: FIRST_MAP,
            last_error: String::new(),
        }
    }

    /// Answers a question, but for [`Request::Poll`], which takes waiting.
    fn answer(&mut self, request: Request, window: &Window) -> Reply {
        match request {
            Request::Load(bytes) => Reply::Object(self.told(|it| it.load(bytes, window))),
            Request::Close(object) => Reply::Done(self.close(object)),
            Request::Attach { object, program, target } => {
                Reply::Done(self.told(|it| it.attach(object, &program, &target)))
            }
            Request::MapByName { object, name } => Reply::Map(self.map_by_name(object, &name)),
            Request::Lookup { map, key, flags } => {
                Reply::Value(self.lookup(map, key, flags, window))
            }
            Request::Update { map, pair, flags } => {
                Reply::Done(self.update(map, pair, flags, window))
            }
            Request::SetCgroup { map, key, preopen } => {
                Reply::Done(self.told(|it| it.set_cgroup(map, key, preopen, window)))
            }
            Request::Delete { map, key } => Reply::Done(self.delete(map, key, window)),
            Request::NextKey { map, key } => Reply::Value(self.next_key(map, key, window)),
            Request::Lost { object, map } => Reply::Count(self.lost(object, map)),
            Request::LastError => {
                let text = self.last_error.clone().into_bytes();
                Reply::Value(window.put(text).map_err(|_| libc::EIO))
            }
            Request::Poll { .. } => Reply::Samples(Err(libc::EINVAL)),
        }
    }

    /// Does what can fail with words, and keeps them.
    fn told<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T>) -> Answer<T> {
        act(self).map_err(|Failed { errno, mut text }| {
            if text.len() > MAX_LAST_ERROR {
                let mut from = text.len() - MAX_LAST_ERROR;
                while !text.is_char_boundary(from) {
                    from += 1;
                }
                text.drain(..from);
            }
            self.last_error = text;
            errno
        })
    }

    fn close(&mut self, handle: ObjectHandle) -> Answer<()> {
        let mut object = self.objects.remove(&handle).ok_or(libc::EBADF)?;
        self.maps.retain(|_, (owner, _)| *owner != handle);
        for (map, count) in object.unsaid_losses() {
            (self.events)(Event::Lost { map, count });
        }
        let Usage { programs, maps, map_bytes } = object.usage;
        self.usage.programs -= programs;
        self.usage.maps -= maps;
        self.usage.map_bytes -= map_bytes;
        Ok(())
    }

    fn map_by_name(&self, object: ObjectHandle, name: &str) -> Answer<MapShape> {
        let object = self.objects.get(&object).ok_or(libc::EBADF)?;
        let map = object.maps.iter().find(|map| map.name == name).ok_or(libc::ENOENT)?;
        Ok(map.shape())
    }

    fn map(&self, handle: MapHandle) -> Answer<&object::Map> {
        let (object, at) = self.maps.get(&handle).ok_or(libc::EBADF)?;
        self.objects.get(object).and_then(|it| it.maps.get(*at)).ok_or(libc::EBADF)
    }

    fn lookup(&self, map: MapHandle, key: Bytes, flags: u64, window: &Window) -> Answer<Bytes> {
        let map = &self.map(map)?.map;
        let key = taken(key, window)?;
        let (key, mut value) = if map.kind() == BLOOM_FILTER {
            (Vec::new(), key)
        } else {
            (key, vec![0; transfer(map)?])
        };
        map.lookup(&key, &mut value, flags).map_err(errno)?;
        window.put(value).map_err(|_| libc::E2BIG)
    }

    fn update(&self, map: MapHandle, pair: Bytes, flags: u64, window: &Window) -> Answer<()> {
        let map = &self.map(map)?.map;
        let pair = taken(pair, window)?;
        let (key, value) = pair.split_at_checked(map.key_size()).ok_or(libc::EINVAL)?;
        map.update(key, value, flags).map_err(errno)
    }

    fn delete(&self, map: MapHandle, key: Bytes, window: &Window) -> Answer<()> {
        let map = &self.map(map)?.map;
        let key = taken(key, window)?;
        if map.kind() == CGROUP_ARRAY {
            return map.remove_cgroup(&key).map_err(errno);
        }
        map.delete(&key).map_err(errno)
    }

    fn next_key(&self, map: MapHandle, key: Option<Bytes>, window: &Window) -> Answer<Bytes> {
        let map = &self.map(map)?.map;
        let key = key.map(|key| taken(key, window)).transpose()?;
        let mut next = vec![0; map.key_size()];
        map.next_key(key.as_deref(), &mut next).map_err(errno)?;
        window.put(next).map_err(|_| libc::E2BIG)
    }

    fn lost(&mut self, object: ObjectHandle, map: MapHandle) -> Answer<u64> {
        let (owner, at) = *self.maps.get(&map).ok_or(libc::EBADF)?;
        if owner != object {
            return Err(libc::EBADF);
        }
        let map = self.objects.get(&owner).and_then(|it| it.maps.get(at)).ok_or(libc::EBADF)?;
        Ok(map.lost())
    }
}

/// Number of a guest's first map. Not that of a standard stream, which a guest could take it for.
const FIRST_MAP: MapHandle = 3;

fn taken(bytes: Bytes, window: &Window) -> Answer<Vec<u8>> {
    window.take(bytes).map_err(|_| libc::EINVAL)
}

/// Bytes of a value, if the window has room for it.
fn transfer(map: &crate::kernel::Map) -> Answer<usize> {
    Some(map.transfer_size()).filter(|size| *size <= WINDOW).ok_or(libc::E2BIG)
}

fn errno(errno: Errno) -> i32 {
    errno.raw_os_error()
}
