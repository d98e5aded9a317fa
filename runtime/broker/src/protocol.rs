//! What a worker asks of its guest's broker, and what it is answered: one question at a time, each
//! with one answer.
//!
//! A worker is to be taken for hostile: whatever it sends, the broker reaches nothing but the
//! guest's own objects. What is longer than [`MAX_INLINE`] travels in the [window](crate::window),
//! which both of them have.

use aya_obj::generated::bpf_map_type;
use serde::{Deserialize, Serialize};

/// Longest bytes that stand in a message itself.
pub const MAX_INLINE: usize = 32 << 10;
/// Size of the window in bytes. Nothing longer can be asked or answered.
pub const WINDOW: usize = 8 << 20;
/// Longest name or target in a question, in bytes.
pub const MAX_TEXT: usize = 4096;

/// [`MapShape::kind`] of an array of cgroups, whose values are descriptors.
pub const CGROUP_ARRAY: u32 = bpf_map_type::BPF_MAP_TYPE_CGROUP_ARRAY as u32;
/// [`MapShape::kind`] of a bloom filter, which has no keys, and in which values are looked up.
pub const BLOOM_FILTER: u32 = bpf_map_type::BPF_MAP_TYPE_BLOOM_FILTER as u32;

/// Bytes of a question or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bytes {
    /// Here they are.
    Inline(Vec<u8>),
    /// So many of them are at the beginning of the window.
    Window(u32),
}

/// Number of a map of the guest's, as the guest knows it: never a descriptor.
pub type MapHandle = i32;
/// Number of an object of the guest's.
pub type ObjectHandle = u64;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Load this object: make its maps, load its programs. Answered with [`Reply::Object`].
    Load(Bytes),
    /// Detach and free it. Answered with [`Reply::Done`].
    Close(ObjectHandle),
    /// Attach a program of it. Answered with [`Reply::Done`].
    Attach {
        /// The object.
        object: ObjectHandle,
        /// The program's name.
        program: String,
        /// Where.
        target: Target,
    },
    /// The map with this name. Answered with [`Reply::Map`].
    MapByName {
        /// The object.
        object: ObjectHandle,
        /// The map's name.
        name: String,
    },
    /// The value of a key. Answered with [`Reply::Value`].
    Lookup {
        /// The map.
        map: MapHandle,
        /// Its key, of the map's size. Of a bloom filter, which has none, the value that is asked
        /// for.
        key: Bytes,
        /// `BPF_F_LOCK` or 0.
        flags: u64,
    },
    /// Set the value of a key. Answered with [`Reply::Done`].
    Update {
        /// The map.
        map: MapHandle,
        /// The key, and after it the value; both of the map's sizes.
        pair: Bytes,
        /// `BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`, `BPF_F_LOCK`.
        flags: u64,
    },
    /// Put a cgroup into an array of cgroups. Answered with [`Reply::Done`].
    SetCgroup {
        /// The map.
        map: MapHandle,
        /// The key.
        key: Bytes,
        /// The guest's preopen with this number, from 0: a directory of the cgroup file system.
        preopen: u32,
    },
    /// Remove a key. Answered with [`Reply::Done`].
    Delete {
        /// The map.
        map: MapHandle,
        /// The key.
        key: Bytes,
    },
    /// The key after this one; the first, if there is none or it is not in the map. Answered with
    /// [`Reply::Value`].
    NextKey {
        /// The map.
        map: MapHandle,
        /// The key.
        key: Option<Bytes>,
    },
    /// Samples of a ring buffer or of the perf buffers of an array. Answered with
    /// [`Reply::Samples`], with none if none came in time.
    Poll {
        /// The object.
        object: ObjectHandle,
        /// The map.
        map: MapHandle,
        /// Longest part of a sample that is of interest, in bytes.
        max_size: u32,
        /// Milliseconds to wait for the first; negative: for ever.
        wait: i32,
    },
    /// How many samples of a buffer were lost so far. Answered with [`Reply::Count`].
    Lost {
        /// The object.
        object: ObjectHandle,
        /// The map.
        map: MapHandle,
    },
    /// Why the last load or attachment failed, with the verifier's log if it has one. Answered with
    /// [`Reply::Value`].
    LastError,
}

/// Where a program is to be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Where its section says.
    Auto,
    /// A cgroup's path or an interface's name.
    Named(String),
    /// The guest's preopen with this number, from 0: a directory of the cgroup file system.
    Preopen(u32),
}

/// An answer. Errors are numbers of errno, positive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, if there is no error.
    Done(Result<(), i32>),
    /// The new object.
    Object(Result<ObjectHandle, i32>),
    /// The map.
    Map(Result<MapShape, i32>),
    /// A value, a key or a text.
    Value(Result<Bytes, i32>),
    /// Samples, oldest first (of a perf buffer: processor by processor): for each four bytes, in
    /// little endian, with the number of those that follow.
    Samples(Result<Samples, i32>),
    /// A count.
    Count(Result<u64, i32>),
}

/// Samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// How many.
    pub count: u32,
    /// Them.
    pub bytes: Bytes,
    /// More of them were there when these filled the answer.
    pub more: bool,
}

/// A map, as the worker has to know it to check the guest's pointers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapShape {
    /// Its number.
    pub handle: MapHandle,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes that a lookup writes and an update reads: of all processors' values together, where
    /// every processor has its own.
    pub value_size: u32,
}

/// Size in bytes of the window between broker and parser.
pub const PARSER_WINDOW: usize = crate::image::MAX_IMAGE;

/// To the parser: an object of so many bytes is in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParseRequest {
    /// How many.
    pub bytes: u32,
}

/// The parser's answer: an encoded [image](crate::image::Image) of so many bytes is in the window,
/// or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParseReply(pub Result<u32, String>);
