//! Bytes that go from one process to another whole, whatever their number: in a memfd that nobody
//! can change any more.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Why bytes cannot be taken from a descriptor.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The memfd could not be read.
    #[error("the bytes that were passed on cannot be read")]
    Io(#[from] io::Error),
    /// Anybody with the descriptor could still change it, or it is no memfd.
    #[error("the descriptor that was passed on is no sealed memfd")]
    NotSealed,
    /// It holds more bytes than this.
    #[error("the descriptor that was passed on holds more than {0} bytes")]
    TooLarge(usize),
}

/// A sealed memfd that holds `bytes`, at offset 0. `name` is what `/proc` shows.
///
/// # Errors
/// If the kernel has no memory to give.
pub fn write(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.seek(SeekFrom::Start(0))?;
    fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// What a sealed memfd holds. Never waits: what could make a reader wait has no seals.
///
/// # Errors
/// [`SealedError`]; nothing above `limit` bytes is read.
pub fn read(fd: OwnedFd, limit: usize) -> Result<Vec<u8>, SealedError> {
    let seals = fcntl_get_seals(&fd).map_err(|_| SealedError::NotSealed)?;
    if !seals.contains(SEALS) {
        return Err(SealedError::NotSealed);
    }
    let mut bytes = Vec::new();
    let mut file = File::from(fd);
    file.seek(SeekFrom::Start(0))?;
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(SealedError::TooLarge(limit));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_arrive_and_can_not_be_changed() {
        let fd = write("test", b"policy").unwrap();
        let mut file = File::from(fd.try_clone().unwrap());
        assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
        assert_eq!(read(fd, 6).unwrap(), b"policy");
    }

    #[test]
    fn what_is_no_sealed_memfd_or_too_large_is_refused() {
        let fd = write("test", b"policy").unwrap();
        assert!(matches!(read(fd, 5), Err(SealedError::TooLarge(5))));
        // A reader of these could be made to wait, or to see two texts.
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(matches!(read(one.into(), 9), Err(SealedError::NotSealed)));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(read(file.into(), 9), Err(SealedError::NotSealed)));
        let open = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(read(open, 9), Err(SealedError::NotSealed)));
    }
}
