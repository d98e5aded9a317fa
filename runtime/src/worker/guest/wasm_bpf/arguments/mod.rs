//! What a guest's arguments mean, held against the bytes of its memory.
//!
//! Everything that a guest says comes through here before it is acted upon. Knows nothing of
//! wasmtime or the broker, so that fuzz/ can try it.

#[cfg(test)]
mod tests;

use std::ops::Range;

/// Longest name or target, in bytes, without the NUL at its end.
pub(super) const MAX_TEXT: usize = 4096;
/// Largest object, in bytes.
pub(super) const MAX_OBJECT: usize = 8 << 20;
/// The number that WASI gives to the first preopen.
const FIRST_PREOPEN: i32 = 3;

/// A number of errno, positive.
pub(super) type Errno = i32;

/// An argument, of the width that the guest's SDK gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// `i32`.
    Narrow(i32),
    /// `i64`.
    Wide(i64),
}

impl Word {
    /// As a number with a sign.
    #[must_use]
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Narrow(word) => word as i64,
            Self::Wide(word) => word,
        }
    }

    /// As a number of 32 bits; of a wider one, if it is one.
    ///
    /// # Errors
    /// `EINVAL` if it is none.
    pub(super) fn narrow(self) -> Result<i32, Errno> {
        i32::try_from(self.number()).map_err(|_| libc::EINVAL)
    }

    /// As bits: a pointer, a size, flags.
    #[must_use]
    pub(super) const fn bits(self) -> u64 {
        match self {
            Self::Narrow(word) => word.cast_unsigned() as u64,
            Self::Wide(word) => word.cast_unsigned(),
        }
    }
}

/// The place of `size` bytes at a pointer. Of no bytes it does not matter where they are not.
///
/// # Errors
/// `EFAULT` if not all of them are in the memory, which has `memory` bytes.
pub(super) fn span(memory: usize, pointer: u64, size: u64) -> Result<Range<usize>, Errno> {
    if size == 0 {
        return Ok(0..0);
    }
    // Pointers of 64 bits are those of SDKs that write their 32 into a wider number.
    let start = u32::try_from(pointer).map_err(|_| libc::EFAULT)?;
    let end = u64::from(start).checked_add(size).ok_or(libc::EFAULT)?;
    let end = usize::try_from(end).ok().filter(|end| *end <= memory).ok_or(libc::EFAULT)?;
    Ok(start as usize..end)
}

/// The place of an object.
///
/// # Errors
/// `EFBIG` if it is larger than [`MAX_OBJECT`], `EFAULT` as [`span`].
pub(super) fn object(memory: usize, pointer: Word, size: Word) -> Result<Range<usize>, Errno> {
    if size.bits() > MAX_OBJECT as u64 {
        return Err(libc::EFBIG);
    }
    span(memory, pointer.bits(), size.bits())
}

/// The text at a pointer, up to its NUL.
///
/// # Errors
/// `EFAULT` if the memory ends before the text does, `ENAMETOOLONG` beyond [`MAX_TEXT`], `EINVAL`
/// if it is not UTF-8.
pub(super) fn text(memory: &[u8], pointer: Word) -> Result<&str, Errno> {
    let start = usize::try_from(pointer.bits()).map_err(|_| libc::EFAULT)?;
    let rest = memory.get(start..).ok_or(libc::EFAULT)?;
    let most = rest.get(..=MAX_TEXT).unwrap_or(rest);
    match most.iter().position(|byte| *byte == 0) {
        Some(end) => str::from_utf8(&most[..end]).map_err(|_| libc::EINVAL),
        None if most.len() > MAX_TEXT => Err(libc::ENAMETOOLONG),
        None => Err(libc::EFAULT),
    }
}

/// A target's text, if there is one: neither a null pointer nor an empty text names anything.
///
/// # Errors
/// As [`text`].
pub(super) fn target(memory: &[u8], pointer: Word) -> Result<Option<&str>, Errno> {
    if pointer.bits() == 0 {
        return Ok(None);
    }
    Ok(Some(text(memory, pointer)?).filter(|it| !it.is_empty()))
}

/// The number of the preopen behind a descriptor of WASI's; none if it is negative.
///
/// # Errors
/// `EBADF` for a standard stream.
pub(super) fn preopen(descriptor: i32) -> Result<Option<u32>, Errno> {
    match descriptor {
        ..0 => Ok(None),
        0..FIRST_PREOPEN => Err(libc::EBADF),
        _ => Ok(Some((descriptor - FIRST_PREOPEN).unsigned_abs())),
    }
}

/// How much of the guest's memory an operation on a map concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bytes of a key.
    pub(super) key: u32,
    /// Bytes of a value, all processors' together.
    pub(super) value: u32,
}

/// An operation on a map, with the places that it reads and writes. All of them are in the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Reads the key, writes the value.
    Lookup {
        /// Where the key is.
        key: Range<usize>,
        /// Where the value goes.
        value: Range<usize>,
        /// Of the call.
        flags: u64,
    },
    /// Reads both.
    Update {
        /// Where the key is.
        key: Range<usize>,
        /// Where the value is.
        value: Range<usize>,
        /// Of the call.
        flags: u64,
    },
    /// Reads the key.
    Delete {
        /// Where the key is.
        key: Range<usize>,
    },
    /// Reads the key, if there is one, and writes the next.
    NextKey {
        /// Where the key is.
        key: Option<Range<usize>>,
        /// Where the next one goes.
        next: Range<usize>,
    },
}

impl Operation {
    /// Understands command, key, value, next key and flags.
    ///
    /// # Errors
    /// `EFAULT` as [`span`]; `EINVAL` for a command that there is not, and for a removal with
    /// flags, of which the kernel has none.
    pub(super) fn read(
        memory: usize,
        sizes: Sizes,
        [command, key, value, next, flags]: [Word; 5],
    ) -> Result<Self, Errno> {
        let place = |pointer: Word, size: u32| span(memory, pointer.bits(), u64::from(size));
        let flags = flags.bits();
        match command.number() {
            1 => {
                let (key, value) = (place(key, sizes.key)?, place(value, sizes.value)?);
                Ok(Self::Lookup { key, value, flags })
            }
            2 => {
                let (key, value) = (place(key, sizes.key)?, place(value, sizes.value)?);
                Ok(Self::Update { key, value, flags })
            }
            3 if flags != 0 => Err(libc::EINVAL),
            3 => Ok(Self::Delete { key: place(key, sizes.key)? }),
            4 => {
                let key = if key.bits() == 0 { None } else { Some(place(key, sizes.key)?) };
                Ok(Self::NextKey { key, next: place(next, sizes.key)? })
            }
            _ => Err(libc::EINVAL),
        }
    }
}

/// What a guest polls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Poll {
    /// The callback's place in the table; none if it is an export.
    pub(super) callback: Option<u32>,
    /// Handed to the callback.
    pub(super) context: i32,
    /// Where samples go.
    pub(super) data: Range<usize>,
    /// Milliseconds to wait for the first; negative: for ever.
    pub(super) timeout: i32,
}

impl Poll {
    /// Understands context, data, size, timeout.
    ///
    /// # Errors
    /// `EINVAL` if the size is not positive, `EFAULT` as [`span`].
    pub(super) fn read(
        memory: usize,
        callback: Option<Word>,
        [context, data, size, timeout]: [Word; 4],
    ) -> Result<Self, Errno> {
        let size = u32::try_from(size.number()).ok().filter(|size| *size > 0);
        let size = size.ok_or(libc::EINVAL)?;
        let data = span(memory, data.bits(), u64::from(size))?;
        let callback = match callback {
            Some(word) => Some(word.narrow()?.cast_unsigned()),
            None => None,
        };
        Ok(Self { callback, context: context.narrow()?, data, timeout: timeout.narrow()? })
    }

    /// Puts as much of a sample as there is room for to its place, and answers how much.
    ///
    /// # Errors
    /// `EFAULT` if the memory has no such place any more.
    pub(super) fn place(&self, memory: &mut [u8], sample: &[u8]) -> Result<u32, Errno> {
        let room = memory.get_mut(self.data.clone()).ok_or(libc::EFAULT)?;
        let size = room.len().min(sample.len());
        room[..size].copy_from_slice(&sample[..size]);
        // A place in a memory of 32 bits.
        u32::try_from(size).map_err(|_| libc::EFAULT)
    }
}

/// Writes a text and a NUL into `size` bytes at a pointer, cut if it is longer, and answers the
/// text's own length.
///
/// # Errors
/// `EINVAL` if the size is negative, `EFAULT` as [`span`].
pub(super) fn put_text(
    memory: &mut [u8],
    pointer: Word,
    size: Word,
    text: &str,
) -> Result<i32, Errno> {
    let size = u64::try_from(size.number()).map_err(|_| libc::EINVAL)?;
    let place = span(memory.len(), pointer.bits(), size)?;
    if let Some((last, _)) = memory[place.clone()].split_last_mut() {
        *last = 0;
        let fits = text.floor_char_boundary(place.len() - 1);
        memory[place.start..place.start + fits].copy_from_slice(&text.as_bytes()[..fits]);
        memory[place.start + fits] = 0;
    }
    Ok(i32::try_from(text.len()).unwrap_or(i32::MAX))
}
