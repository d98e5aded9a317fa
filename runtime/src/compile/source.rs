//! A module's bytes: hashed, and copied to where nobody can change them any more.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use blake3::{Hash, Hasher};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::content::PEEK;
use super::{Content, Error};
use crate::protocol::CompileStep;

/// Largest module in bytes.
const MAX_MODULE: u64 = 1 << 30;

const BUFFER: usize = 256 * 1024;

/// A module, read once.
#[derive(Debug)]
pub struct Source {
    file: File,
    sealed: bool,
    digest: Hash,
    content: Content,
}

impl Source {
    /// Reads and hashes a module. `file` may be a pipe.
    ///
    /// # Errors
    /// If it cannot be read, is too large, or its first bytes say that it is no WebAssembly.
    pub fn read(file: File) -> Result<Self, Error> {
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(Error::new(CompileStep::Read.text(), "it is a directory"));
        }
        let mut source = if metadata.is_file() {
            let (digest, content) = pass(&mut &file, &mut io::sink())?;
            Self { file, sealed: false, digest, content }
        } else {
            // A pipe gives its bytes once.
            copy(file)?
        };
        if let Content::Unusable(why) = &source.content {
            return Err(Error::new(CompileStep::Read.text(), why));
        }
        source.file.rewind().map_err(unreadable)?;
        Ok(source)
    }

    /// blake3 of the module's bytes.
    #[must_use]
    pub const fn digest(&self) -> &Hash {
        &self.digest
    }

    /// What the first bytes say.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// The module in a sealed memfd; the digest is that of the copy.
    pub(super) fn sealed(&mut self) -> Result<File, Error> {
        if !self.sealed {
            self.file.rewind().map_err(unreadable)?;
            *self = copy(self.file.try_clone().map_err(unreadable)?)?;
        }
        self.file.try_clone().map_err(unreadable)
    }
}

fn copy(mut file: File) -> Result<Source, Error> {
    let mut memfd = memfd("wasi-guard-module").map_err(unreadable)?;
    let (digest, content) = pass(&mut file, &mut memfd)?;
    seal(&memfd).map_err(unreadable)?;
    Ok(Source { file: memfd, sealed: true, digest, content })
}

/// Hashes everything from `input` and writes it to `output`.
fn pass(input: &mut impl Read, output: &mut impl Write) -> Result<(Hash, Content), Error> {
    let mut input = input.take(MAX_MODULE + 1);
    let mut hasher = Hasher::new();
    let mut head = Vec::with_capacity(PEEK);
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if head.len() < PEEK {
            let missing = PEEK - head.len();
            head.extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
        }
        hasher.update(bytes);
        output.write_all(bytes).map_err(unreadable)?;
    }
    if hasher.count() > MAX_MODULE {
        let cause = format!("it is larger than {} MiB", MAX_MODULE >> 20);
        return Err(Error::new(CompileStep::Read.text(), cause));
    }
    Ok((hasher.finalize(), Content::of(&head)))
}

fn unreadable(error: io::Error) -> Error {
    Error::new(CompileStep::Read.text(), error)
}

/// An empty memfd that can be sealed.
pub(super) fn memfd(name: &str) -> io::Result<File> {
    Ok(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into())
}

/// Nobody can change the content any more, whoever holds a descriptor.
pub(super) fn seal(mut memfd: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(memfd, seals)?;
    memfd.seek(SeekFrom::Start(0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_hashed_anew_and_cannot_be_changed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"\0asm\x01\0\0\0").unwrap();
        file.rewind().unwrap();
        let mut source = Source::read(file.try_clone().unwrap()).unwrap();
        let first = *source.digest();
        assert_eq!(first, blake3::hash(b"\0asm\x01\0\0\0"));
        // The caller's file changes between the two looks.
        file.write_all(b"more").unwrap();
        let mut sealed = source.sealed().unwrap();
        assert_ne!(*source.digest(), first);
        let mut bytes = Vec::new();
        sealed.read_to_end(&mut bytes).unwrap();
        assert_eq!(blake3::hash(&bytes), *source.digest());
        assert!(sealed.write_all(b"x").is_err());
    }

    #[test]
    fn a_pipe_is_read_once() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"(module)").unwrap();
        drop(writer);
        let reader = std::os::fd::OwnedFd::from(reader);
        let mut source = Source::read(reader.into()).unwrap();
        assert_eq!(*source.content(), Content::Text);
        let mut text = String::new();
        source.sealed().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "(module)");
    }

    #[test]
    fn a_directory_and_other_files_are_refused() {
        let error = Source::read(File::open("/").unwrap()).unwrap_err();
        assert!(error.is_the_modules_fault());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"#!/bin/sh").unwrap();
        file.rewind().unwrap();
        let error = Source::read(file).unwrap_err();
        assert!(error.to_string().contains("not WebAssembly"), "{error}");
    }
}
