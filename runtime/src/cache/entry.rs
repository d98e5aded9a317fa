//! One entry's bytes: the artifact from offset 0, so that wasmtime can map the file as it is, then
//! a trailer.
//!
//! ```text
//! artifact | kind (1) | length of the artifact (8, little endian) | key (32)
//!          | blake3 of everything before (32) | magic (8)
//! ```

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

use blake3::Hasher;
use rustix::fs::{FileType, fstat};
use rustix::process::geteuid;

use super::Key;
use crate::protocol::Kind;

const MAGIC: &[u8; 8] = b"wg-cwsm1";
const BODY: usize = 1 + 8 + 32;
const TRAILER: usize = BODY + 32 + 8;

/// Writes an entry.
pub(super) fn write(file: &File, artifact: &File, key: &Key, kind: Kind) -> io::Result<()> {
    let mut source = artifact;
    source.seek(SeekFrom::Start(0))?;
    let mut output = Hashing { inner: BufWriter::new(file), hasher: Hasher::new() };
    let length = io::copy(&mut source, &mut output)?;
    output.write_all(&body(length, key, kind))?;
    let checksum = output.hasher.finalize();
    output.inner.write_all(checksum.as_bytes())?;
    output.inner.write_all(MAGIC)?;
    output.inner.flush()
}

/// Checks an entry; the error says why it cannot be believed.
pub(super) fn check(mut file: File, key: &Key) -> Result<(File, Kind), String> {
    let stat = fstat(&file).map_err(|errno| errno.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a file".to_owned());
    }
    if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
        return Err("another user owns it or may write it".to_owned());
    }
    let length = u64::try_from(stat.st_size)
        .ok()
        .and_then(|size| size.checked_sub(TRAILER as u64))
        .ok_or("it is too short")?;
    read(&mut file, length, key).map_err(|error| error.to_string())?.map(|kind| (file, kind))
}

fn read(file: &mut File, length: u64, key: &Key) -> io::Result<Result<Kind, String>> {
    let mut hasher = Hasher::new();
    let mut artifact = file.take(length);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match artifact.read(&mut buffer)? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        };
    }
    let mut trailer = [0; TRAILER];
    file.read_exact(&mut trailer)?;
    file.seek(SeekFrom::Start(0))?;
    let (found, rest) = trailer.split_at(BODY);
    let (checksum, magic) = rest.split_at(32);
    if magic != MAGIC {
        return Ok(Err("it is no entry of this version, or was cut".to_owned()));
    }
    hasher.update(found);
    if hasher.finalize().as_bytes().as_slice() != checksum {
        return Ok(Err("its checksum is wrong".to_owned()));
    }
    for kind in [Kind::Module, Kind::Component] {
        if found == body(length, key, kind) {
            return Ok(Ok(kind));
        }
    }
    Ok(Err("it is another module's".to_owned()))
}

fn body(length: u64, key: &Key, kind: Kind) -> [u8; BODY] {
    let mut body = [0; BODY];
    let kind = match kind {
        Kind::Module => 1,
        Kind::Component => 2,
    };
    let parts = [&[kind][..], &length.to_le_bytes(), key.as_bytes()];
    for (place, byte) in body.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    body
}

struct Hashing<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
