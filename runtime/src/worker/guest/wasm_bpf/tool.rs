//! What a guest with a broker has, and the calls that do not call the guest back.
//!
//! Nothing here can end the guest: an error is a number for it.

use std::collections::HashMap;

use wasi_guard_broker::protocol::{BLOOM_FILTER, CGROUP_ARRAY, MapShape, Request, Target};
use wasi_guard_broker::window::Window;

use super::arguments::{self, Errno, Operation, Sizes, Word};
use super::connection::Connection;
use super::queue::Queue;
use crate::protocol::Channel;

/// How deep polls may stand in callbacks of polls. Each has a stack of its own, of which a guest
/// could otherwise have as many as it likes.
const MAX_NESTED: u32 = 16;

/// A buffer: its object and its map.
pub(super) type Buffer = (u64, i32);

/// A guest that is an eBPF tool, and its broker.
pub(in super::super) struct Tool {
    connection: Connection,
    /// The maps that the guest was given, with their objects.
    maps: HashMap<i32, (u64, MapShape)>,
    /// Buffers that were polled.
    queues: HashMap<Buffer, Queue>,
    /// Why the last load or attachment failed, where the broker was not asked.
    why: Option<&'static str>,
    /// Polls that wait for a callback's return.
    nested: u32,
    /// The guest has a time limit, so that nothing may wait for long.
    pub(super) timed: bool,
}

impl Tool {
    pub(super) fn new(channel: Channel, window: Window, timed: bool) -> Self {
        Self {
            connection: Connection::new(channel, window),
            maps: HashMap::new(),
            queues: HashMap::new(),
            why: None,
            nested: 0,
            timed,
        }
    }

    /// `wasm_load_bpf_object`: the new object's handle.
    pub(super) fn load(&mut self, memory: &[u8], pointer: Word, size: Word) -> Result<i64, Errno> {
        let place = arguments::object(memory.len(), pointer, size).inspect_err(|errno| {
            self.why = Some(match *errno {
                libc::EFBIG => "the object is larger than 8 MiB",
                _ => "the object is not in the guest's memory",
            });
        })?;
        self.why = None;
        let bytes = self.connection.put(&memory[place])?;
        let object = self.connection.object(&Request::Load(bytes))?;
        // 0 is no object, and a negative number would look like none.
        i64::try_from(object).ok().filter(|it| *it > 0).ok_or(libc::EIO)
    }

    /// `wasm_close_bpf_object`.
    pub(super) fn close(&mut self, object: Word) -> Result<i32, Errno> {
        let object = handle(object)?;
        self.connection.done(&Request::Close(object))?;
        self.maps.retain(|_, (of, _)| *of != object);
        self.queues.retain(|(of, _), _| *of != object);
        Ok(0)
    }

    /// `wasm_attach_bpf_program`.
    pub(super) fn attach(
        &mut self,
        memory: &[u8],
        [object, name, target]: [Word; 3],
    ) -> Result<i32, Errno> {
        self.why = Some("the target is not a text in the guest's memory");
        let target = match arguments::target(memory, target)? {
            Some(target) => Target::Named(target.to_owned()),
            None => Target::Auto,
        };
        self.attach_to(memory, object, name, target)
    }

    /// `wasm_attach_bpf_program_fd`.
    pub(super) fn attach_fd(
        &mut self,
        memory: &[u8],
        [object, name, descriptor]: [Word; 3],
    ) -> Result<i32, Errno> {
        self.why = Some("the descriptor is none of a preopen");
        let target = match arguments::preopen(descriptor.narrow()?)? {
            Some(number) => Target::Preopen(number),
            None => Target::Auto,
        };
        self.attach_to(memory, object, name, target)
    }

    fn attach_to(
        &mut self,
        memory: &[u8],
        object: Word,
        name: Word,
        target: Target,
    ) -> Result<i32, Errno> {
        self.why = Some("the program's name is not a text in the guest's memory");
        let program = arguments::text(memory, name)?.to_owned();
        self.why = Some("there is no such object");
        let object = handle(object)?;
        self.why = None;
        self.connection.done(&Request::Attach { object, program, target })?;
        Ok(0)
    }

    /// `wasm_bpf_map_fd_by_name`: the map's number.
    pub(super) fn map_by_name(
        &mut self,
        memory: &[u8],
        object: Word,
        name: Word,
    ) -> Result<i32, Errno> {
        let name = arguments::text(memory, name)?.to_owned();
        let object = handle(object)?;
        let shape = self.connection.map(&Request::MapByName { object, name })?;
        if shape.handle < 0 {
            return Err(libc::EIO);
        }
        self.maps.insert(shape.handle, (object, shape));
        Ok(shape.handle)
    }

    /// `wasm_bpf_map_operate`.
    pub(super) fn operate(
        &mut self,
        memory: &mut [u8],
        [map, operation @ ..]: [Word; 6],
    ) -> Result<i32, Errno> {
        let (map, shape) = self.map(map)?;
        let sizes = Sizes { key: shape.key_size, value: shape.value_size };
        let connection = &mut self.connection;
        match Operation::read(memory.len(), sizes, operation)? {
            Operation::Lookup { key, value, flags } => {
                // A bloom filter is asked for a value.
                let asked = if shape.kind == BLOOM_FILTER { value.clone() } else { key };
                let key = connection.put(&memory[asked])?;
                let found = connection.value(&Request::Lookup { map, key, flags })?;
                put(&mut memory[value], &found)?;
            }
            Operation::Update { key, value, .. } if shape.kind == CGROUP_ARRAY => {
                let key = connection.put(&memory[key])?;
                let descriptor = memory[value].try_into().map_err(|_| libc::EINVAL)?;
                let preopen = arguments::preopen(i32::from_le_bytes(descriptor))?;
                let preopen = preopen.ok_or(libc::EBADF)?;
                connection.done(&Request::SetCgroup { map, key, preopen })?;
            }
            Operation::Update { key, value, flags } => {
                let pair = connection.put_pair(&memory[key], &memory[value])?;
                connection.done(&Request::Update { map, pair, flags })?;
            }
            Operation::Delete { key } => {
                let key = connection.put(&memory[key])?;
                connection.done(&Request::Delete { map, key })?;
            }
            Operation::NextKey { key, next } => {
                let key = match key {
                    Some(key) => Some(connection.put(&memory[key])?),
                    None => None,
                };
                let found = connection.value(&Request::NextKey { map, key })?;
                put(&mut memory[next], &found)?;
            }
        }
        Ok(0)
    }

    /// `wasm_bpf_buffer_lost`.
    pub(super) fn lost(&mut self, object: Word, map: Word) -> Result<i64, Errno> {
        let (object, map) = self.buffer(object, map)?;
        let count = self.connection.count(&Request::Lost { object, map })?;
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// `wasm_bpf_last_error`: the text's length.
    pub(super) fn last_error(
        &mut self,
        memory: &mut [u8],
        pointer: Word,
        size: Word,
    ) -> Result<i32, Errno> {
        let text = match self.why {
            Some(why) => why.to_owned(),
            None => {
                let text = self.connection.value(&Request::LastError)?;
                String::from_utf8_lossy(&text).replace('\0', "\u{fffd}")
            }
        };
        arguments::put_text(memory, pointer, size, &text)
    }

    /// The buffer of a map that the guest was given. Whether it is one, and of that object, the
    /// broker knows.
    pub(super) fn buffer(&self, object: Word, map: Word) -> Result<Buffer, Errno> {
        let object = handle(object)?;
        let (map, _) = self.map(map)?;
        Ok((object, map))
    }

    fn map(&self, map: Word) -> Result<(i32, MapShape), Errno> {
        let map = map.narrow().map_err(|_| libc::EBADF)?;
        let (_, shape) = self.maps.get(&map).ok_or(libc::EBADF)?;
        Ok((map, *shape))
    }

    /// Begins a poll, which ends with [`Tool::leave`].
    ///
    /// # Errors
    /// `ELOOP` if too many are open.
    pub(super) fn enter(&mut self) -> Result<(), Errno> {
        if self.nested == MAX_NESTED {
            return Err(libc::ELOOP);
        }
        self.nested += 1;
        Ok(())
    }

    pub(super) const fn leave(&mut self) {
        self.nested -= 1;
    }

    /// The samples of a buffer that wait here; none if it was not polled or its object is closed.
    pub(super) fn queue(&mut self, buffer: Buffer) -> Option<&mut Queue> {
        self.queues.get_mut(&buffer)
    }

    /// Asks for samples of a buffer of which none wait here, and answers whether there are now.
    pub(super) fn fetch(
        &mut self,
        buffer: Buffer,
        max_size: usize,
        wait: i32,
    ) -> Result<bool, Errno> {
        let (object, map) = buffer;
        let max_size = u32::try_from(max_size).map_err(|_| libc::EINVAL)?;
        let request = Request::Poll { object, map, max_size, wait };
        let (bytes, count, more) = self.connection.samples(&request)?;
        let queue = Queue::new(bytes, count, more)?;
        let some = queue.front().is_some();
        self.queues.insert(buffer, queue);
        Ok(some)
    }
}

/// An object's handle, if it can be one.
fn handle(object: Word) -> Result<u64, Errno> {
    u64::try_from(object.number()).ok().filter(|it| *it > 0).ok_or(libc::EBADF)
}

/// Puts an answer into its place, if it fills it.
fn put(place: &mut [u8], found: &[u8]) -> Result<(), Errno> {
    if place.len() != found.len() {
        return Err(libc::EIO);
    }
    place.copy_from_slice(found);
    Ok(())
}
