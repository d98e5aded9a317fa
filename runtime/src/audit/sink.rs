//! Where lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Stderr, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A place for lines.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    name: String,
    /// The last line was written in part only, so the next one must not be taken for its rest.
    torn: bool,
}

#[derive(Debug)]
enum Target {
    Stderr(Stderr),
    File(File),
    #[cfg(any(test, feature = "fuzzing"))]
    Test(Box<dyn TestWrite>),
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) trait TestWrite: Write + Send + std::fmt::Debug {}
#[cfg(any(test, feature = "fuzzing"))]
impl<T: Write + Send + std::fmt::Debug> TestWrite for T {}

impl Sink {
    /// Standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self::new(Target::Stderr(io::stderr()), "standard error".into())
    }

    /// A file that is appended to, made with mode 0600 if it is missing. A symbolic link as its
    /// last component is refused: a guest that may create names in the file's directory could
    /// have put it there.
    ///
    /// # Errors
    /// If it cannot be opened for writing.
    pub fn file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ELOOP) => io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is a symbolic link; name the file that it leads to",
                ),
                _ => error,
            })?;
        Ok(Self::new(Target::File(file), path.display().to_string()))
    }

    /// A descriptor that somebody opened for us.
    #[must_use]
    pub fn descriptor(fd: OwnedFd) -> Self {
        Self::new(Target::File(fd.into()), "the audit descriptor".into())
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn test(target: impl TestWrite + 'static) -> Self {
        Self::new(Target::Test(Box::new(target)), "the test".into())
    }

    fn new(target: Target, name: String) -> Self {
        Self { target, name, torn: false }
    }

    /// Whether both lead to one place.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        match (&self.target, &other.target) {
            (Target::Stderr(_), Target::Stderr(_)) => true,
            (Target::File(one), Target::File(other)) => {
                let identity = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
                matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
            }
            _ => false,
        }
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes a line, in one call unless the kernel takes less: several guests may append to one
    /// file, and their lines must not mix.
    pub(super) fn write_line(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let mut rest = bytes.as_slice();
        let result = loop {
            match self.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if rest.is_empty() {
                break Ok(());
            }
        };
        // If nothing of this line got out, the file ends as it did before.
        if rest.len() < bytes.len() {
            self.torn = result.is_err();
        }
        result
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Stderr(stderr) => stderr.write(bytes),
            Target::File(file) => file.write(bytes),
            #[cfg(any(test, feature = "fuzzing"))]
            Target::Test(test) => test.write(bytes),
        }
    }
}
