//! Writes initramfs archives: cpio in the "newc" format, as the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst` defines it.
//!
//! Own code, as it is one header and needs neither root (device nodes, owners) nor a tool.

use std::collections::BTreeSet;

/// An archive in the making. Everything in it belongs to root and is as old as the epoch.
pub(super) struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    inodes: usize,
}

const FOLDER: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), folders: BTreeSet::new(), inodes: 0 }
    }

    /// Adds a folder and those above it. Paths are relative to the root.
    pub(super) fn folder(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let folder = &path[..end];
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, (0, 0), &[]);
            }
        }
    }

    /// Adds a file that may be executed, and the folders above it.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(path, PROGRAM, (0, 0), content);
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, major: usize, minor: usize) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(path, CHARACTER_DEVICE, (major, minor), &[]);
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (usize, usize), content: &[u8]) {
        self.inodes += 1;
        let (owner, group, links, time, disk) = (0, 0, 1, 0, 0);
        let fields = [
            self.inodes,
            mode as usize,
            owner,
            group,
            links,
            time,
            content.len(),
            disk,
            disk,
            device.0,
            device.1,
            path.len() + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_layout_of_newc() {
        let mut archive = Archive::new();
        archive.file("a/b", b"hello");
        let bytes = archive.finish();
        // Header 110 bytes + "a\0" = 112: a multiple of 4.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed");
        assert_eq!(&bytes[110..112], b"a\0");
        // Header + "a/b\0" = 114, padded to 116, then the content.
        let file = &bytes[112..];
        assert_eq!(&file[14..22], b"000081ed");
        assert_eq!(&file[54..62], b"00000005");
        assert_eq!(&file[94..102], b"00000004");
        assert_eq!(&file[110..114], b"a/b\0");
        assert_eq!(&file[116..121], b"hello");
        assert!(file[124..].starts_with(b"070701"));
        assert_eq!(bytes.len() % 4, 0);
    }
}
