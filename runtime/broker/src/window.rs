//! Memory that two processes have: a memfd of a fixed size, read and written by calls and never
//! mapped, so that what the other process does to it meanwhile is at worst other bytes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use crate::protocol::{Bytes, MAX_INLINE};

/// One end of it.
#[derive(Debug)]
pub struct Window {
    file: File,
    size: usize,
}

impl Window {
    /// Makes one of `size` bytes; memory is taken as it is written.
    ///
    /// # Errors
    /// If the kernel has none to give.
    pub fn create(size: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = memfd_create("wasi-guard-window", flags)?;
        ftruncate(&fd, size as u64)?;
        // Neither end can make the other read beyond its end, or fill the memory.
        fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Ok(Self { file: fd.into(), size })
    }

    /// The other end of one that has `size` bytes.
    #[must_use]
    pub fn from_fd(fd: OwnedFd, size: usize) -> Self {
        Self { file: fd.into(), size }
    }

    /// Puts bytes into a message: in it, or in the window.
    ///
    /// # Errors
    /// `InvalidInput` if they are longer than the window.
    pub fn put(&self, bytes: Vec<u8>) -> io::Result<Bytes> {
        if bytes.len() <= MAX_INLINE {
            return Ok(Bytes::Inline(bytes));
        }
        self.write(&bytes).map(Bytes::Window)
    }

    /// Writes bytes to its beginning, and answers how many.
    ///
    /// # Errors
    /// `InvalidInput` if they are longer than the window.
    pub fn write(&self, bytes: &[u8]) -> io::Result<u32> {
        let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= self.size);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        self.file.write_all_at(bytes, 0)?;
        Ok(length)
    }

    /// Takes bytes out of a message, and out of the window if they are there.
    ///
    /// # Errors
    /// `InvalidInput` if there are said to be more than the window has.
    pub fn take(&self, bytes: Bytes) -> io::Result<Vec<u8>> {
        match bytes {
            Bytes::Inline(bytes) => Ok(bytes),
            Bytes::Window(length) => self.read(length),
        }
    }

    /// Reads the first `length` bytes of it.
    ///
    /// # Errors
    /// `InvalidInput` if it has fewer.
    pub fn read(&self, length: u32) -> io::Result<Vec<u8>> {
        let length = length as usize;
        if length > self.size {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

impl AsFd for Window {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_see_the_same_and_nobody_more_than_there_is() {
        let ours = Window::create(100_000).unwrap();
        let theirs = Window::from_fd(ours.as_fd().try_clone_to_owned().unwrap(), 100_000);
        for length in [0, 1, MAX_INLINE, MAX_INLINE + 1, 100_000] {
            let bytes: Vec<u8> = (0..length).map(|it| it as u8).collect();
            let message = ours.put(bytes.clone()).unwrap();
            assert_eq!(matches!(message, Bytes::Window(_)), length > MAX_INLINE);
            assert_eq!(theirs.take(message).unwrap(), bytes);
        }
        assert!(ours.put(vec![0; 100_001]).is_err());
        assert!(ours.take(Bytes::Window(100_001)).is_err());
        assert!(ours.take(Bytes::Window(u32::MAX)).is_err());
        // Whatever one end does to the file, it keeps its size.
        assert!(theirs.file.set_len(1).is_err() && theirs.file.set_len(200_000).is_err());
        assert!(theirs.file.write_at(&[1], 100_000).is_err());
    }
}
