//! What the confined parser makes of a guest's object, and what the broker takes from it.
//!
//! The parser is as little to be trusted as the object: it read hostile bytes. Everything here is
//! checked anew ([`Image::check`], then the policy, then the kernel's verifier), and nothing in it
//! names a thing of the host's but by a name that the policy is asked about: no descriptor, no
//! address, no id of a type.

use serde::{Deserialize, Serialize};

/// Largest object, in bytes.
pub const MAX_OBJECT: usize = 8 << 20;
/// Largest image, in bytes, encoded.
pub const MAX_IMAGE: usize = 16 << 20;
/// Longest name of a program, a map or a section, in bytes.
pub const MAX_NAME: usize = 255;

/// An object, ready to be loaded but for the descriptors of its maps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The license that the object declares; the kernel gives some helper functions to the GPL only.
    pub license: String,
    /// The object's own types (`.BTF`), as the kernel takes them; empty if it has none.
    pub btf: Vec<u8>,
    /// Maps; [`Program::instructions`] refer to them by their place in this list.
    pub maps: Vec<Map>,
    /// Programs.
    pub programs: Vec<Program>,
}

/// A map to be made: the fields of `BPF_MAP_CREATE` (uapi/linux/bpf.h).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Its name in the object; that of the section for `.rodata`, `.data`, `.bss`.
    pub name: String,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value; of each processor's, where every processor has its own.
    pub value_size: u32,
    /// Most entries; bytes of a ring buffer.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// `map_extra`.
    pub extra: u64,
    /// Type of the keys in [`Image::btf`]; 0 for none.
    pub btf_key: u32,
    /// Type of the values.
    pub btf_value: u32,
    /// The object wants it pinned, which is always refused.
    pub pinned: bool,
    /// The value at key 0 from the beginning; empty for all but `.rodata`, `.data`, `.bss`.
    pub data: Vec<u8>,
    /// Nobody writes to it after that (`.rodata`).
    pub frozen: bool,
    /// What the maps in a map of maps are like. In them there are none.
    #[serde(with = "inner")]
    pub inner: Option<Box<Map>>,
}

/// A map in a map, encoded: one in which there is no other. There would be no end to them, and each
/// would take some of the broker's stack.
mod inner {
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Map;

    /// All of [`Map`] but what is in it.
    #[derive(Serialize, Deserialize)]
    #[serde(remote = "Map")]
    struct Plain {
        name: String,
        kind: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        flags: u32,
        extra: u64,
        btf_key: u32,
        btf_value: u32,
        pinned: bool,
        data: Vec<u8>,
        frozen: bool,
        #[serde(skip)]
        inner: Option<Box<Map>>,
    }

    #[derive(Serialize)]
    struct Written<'a>(#[serde(with = "Plain")] &'a Map);

    #[derive(Deserialize)]
    struct Read(#[serde(with = "Plain")] Map);

    pub(super) fn serialize<S: Serializer>(
        map: &Option<Box<Map>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if map.as_ref().is_some_and(|map| map.inner.is_some()) {
            return Err(S::Error::custom("a map in a map has none in it"));
        }
        map.as_deref().map(Written).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<Map>>, D::Error> {
        let read = Option::<Read>::deserialize(deserializer)?;
        Ok(read.map(|Read(map)| Box::new(map)))
    }
}

/// A program to be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name in the object: the function's.
    pub name: String,
    /// The section in which it stands: what kind of program it is, and what it wants to be attached
    /// to.
    pub section: String,
    /// Instructions (`struct bpf_insn`), each as its eight bytes in the order of little endian.
    /// Calls of the object's own functions are resolved. One that loads a map
    /// (`BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE`) has in place of a descriptor the map's place in
    /// [`Image::maps`].
    pub instructions: Vec<u64>,
    /// `func_info` of `BPF_PROG_LOAD`, for [`Image::btf`]; may be empty.
    pub func_info: Vec<u8>,
    /// Bytes of one record of it.
    pub func_info_size: u32,
    /// `line_info` of `BPF_PROG_LOAD`; may be empty.
    pub line_info: Vec<u8>,
    /// Bytes of one record of it.
    pub line_info_size: u32,
}

/// Why an image is none.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is larger than [`MAX_IMAGE`].
    #[error(
        "the object is too large: {0} bytes of programs, maps and types, and {MAX_IMAGE} are allowed"
    )]
    TooLarge(usize),
    /// The bytes are none.
    #[error("what the parser made of the object cannot be read: {0}")]
    Malformed(#[from] postcard::Error),
}

impl Image {
    /// Its bytes, to be handed from the parser to the broker.
    ///
    /// # Errors
    /// If there are too many.
    pub fn encode(&self) -> Result<Vec<u8>, ImageError> {
        let bytes = postcard::to_stdvec(self)?;
        if bytes.len() > MAX_IMAGE { Err(ImageError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// The image that these bytes are, to be checked before anything is made of it.
    ///
    /// # Errors
    /// If they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        let (image, rest) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() {
            Ok(image)
        } else {
            Err(postcard::Error::DeserializeBadEncoding.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(inner: Option<Map>) -> Map {
        let data = vec![1, 2, 3];
        Map { name: "map".to_owned(), kind: 12, data, inner: inner.map(Box::new), ..Map::default() }
    }

    #[test]
    fn what_is_written_is_read() {
        let maps = vec![map(None), map(Some(map(None))), map(None)];
        let image = Image { maps, programs: vec![Program::default()], ..Image::default() };
        assert_eq!(Image::decode(&image.encode().unwrap()).unwrap(), image);
    }

    #[test]
    fn maps_in_maps_have_an_end() {
        let deep = vec![map(Some(map(Some(map(None)))))];
        assert!(Image { maps: deep, ..Image::default() }.encode().is_err());
    }

    #[test]
    fn maps_in_maps_without_an_end_take_no_stack() {
        // As somebody would write them who knows of no end: each has the next where it may have one.
        let one = Image { maps: vec![map(None)], ..Image::default() }.encode().unwrap();
        // Its last two bytes: that there is none in it, and no programs.
        let (one, end) = one.split_at(one.len() - 2);
        let mut bytes = one.to_vec();
        for _ in 0..100_000 {
            bytes.push(1);
            bytes.extend(&one[3..]);
        }
        bytes.extend(end);
        assert!(Image::decode(&bytes).is_err());
    }
}
