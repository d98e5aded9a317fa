//! What goes into a machine: files and folders of the host, with the libraries that the programs
//! among them need.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process;

/// Files and folders of the host, each with its place in the machine.
#[derive(Debug, Clone, Default)]
pub struct FileSet {
    entries: Vec<(PathBuf, PathBuf)>,
}

/// What a copy amounts to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    /// Bytes, each file rounded up to blocks of 4096.
    pub(super) bytes: u64,
    pub(super) files: u64,
}

impl FileSet {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file or a folder with everything in it. `inside` is the absolute path of the copy;
    /// with a slash at its end it is the folder into which the copy goes.
    pub fn add(&mut self, from: impl Into<PathBuf>, inside: &str) -> Result<()> {
        let from = from.into();
        ensure!(
            inside.starts_with('/'),
            "{inside:?} is not an absolute path: say where {} goes inside the machine",
            from.display()
        );
        ensure!(!inside.split('/').any(|name| name == ".."), "{inside:?} must not contain \"..\"");
        fs::metadata(&from).with_context(|| format!("cannot add {}", from.display()))?;
        let mut to = PathBuf::from(inside);
        if inside.ends_with('/') {
            let name = fs::canonicalize(&from).ok();
            let name = from.file_name().or(name.as_deref().and_then(Path::file_name));
            to.push(name.with_context(|| format!("{} has no name", from.display()))?);
        }
        self.entries.push((from, to));
        Ok(())
    }

    /// Adds `SRC:DST` as it stands on the command line.
    pub fn add_pair(&mut self, pair: &str) -> Result<()> {
        let (from, inside) = pair
            .rsplit_once(':')
            .with_context(|| format!("{pair:?} is not SRC:DST (a path here and one inside)"))?;
        self.add(from, inside)
    }

    /// Copies everything below `stage`, libraries included.
    pub(super) fn copy_to(&self, stage: &Path) -> Result<Size> {
        let mut copy = Copy { stage, size: Size::default(), programs: Vec::new() };
        for (from, inside) in &self.entries {
            let to = copy.place(inside)?;
            copy.any(from, &to).with_context(|| format!("cannot add {}", from.display()))?;
        }
        let programs = std::mem::take(&mut copy.programs);
        for (inside, from) in dependencies(&programs)? {
            let to = copy.place(&inside)?;
            if !to.exists() {
                copy.any(&from, &to)
                    .with_context(|| format!("cannot add the library {}", from.display()))?;
            }
        }
        Ok(copy.size)
    }
}

struct Copy<'a> {
    stage: &'a Path,
    size: Size,
    /// ELF files on the host that were copied.
    programs: Vec<PathBuf>,
}

impl Copy<'_> {
    /// The path below the stage for a path inside; makes the folders above it.
    fn place(&self, inside: &Path) -> Result<PathBuf> {
        let to = self.stage.join(inside.strip_prefix("/").unwrap_or(inside));
        let folder = to.parent().context("cannot replace the root folder itself")?;
        // A link among what was copied before could lead out of the stage, into the host.
        let there = folder.ancestors().find(|above| above.exists()).unwrap_or(self.stage);
        let real = fs::canonicalize(there)
            .with_context(|| format!("cannot resolve {}", there.display()))?;
        ensure!(
            real.starts_with(self.stage),
            "{} lies behind a link that leads to {}",
            inside.display(),
            real.display()
        );
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(to)
    }

    /// Copies what `from` is; a link at the top is followed.
    fn any(&mut self, from: &Path, to: &Path) -> Result<()> {
        let metadata = fs::metadata(from)?;
        if metadata.is_dir() {
            self.folder(from, to)
        } else if metadata.is_file() {
            self.file(from, to)
        } else {
            bail!("{} is neither a file nor a folder", from.display())
        }
    }

    fn folder(&mut self, from: &Path, to: &Path) -> Result<()> {
        fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
        self.size.files += 1;
        self.size.bytes += 4096;
        let entries =
            fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind =
                entry.file_type().with_context(|| format!("cannot look at {}", from.display()))?;
            if kind.is_symlink() {
                let target = fs::read_link(&from)
                    .with_context(|| format!("cannot read {}", from.display()))?;
                symlink(target, &to).with_context(|| format!("cannot create {}", to.display()))?;
                self.size.files += 1;
            } else if kind.is_dir() {
                self.folder(&from, &to)?;
            } else if kind.is_file() {
                self.file(&from, &to)?;
            } else {
                bail!("{} is neither file, folder nor link", from.display());
            }
        }
        fs::set_permissions(to, fs::metadata(from)?.permissions())
            .with_context(|| format!("cannot set the mode of {}", to.display()))
    }

    fn file(&mut self, from: &Path, to: &Path) -> Result<()> {
        let length =
            fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
        // Times matter to programs that keep compiled forms beside their sources (Python).
        let modified = fs::metadata(from)?.modified()?;
        File::options()
            .write(true)
            .open(to)
            .and_then(|file| file.set_modified(modified))
            .with_context(|| format!("cannot set the time of {}", to.display()))?;
        self.size.files += 1;
        self.size.bytes += length.next_multiple_of(4096);
        if is_elf(from)? {
            self.programs.push(from.to_owned());
        }
        Ok(())
    }
}

/// The shared libraries of one program, its interpreter included: none of a static one.
///
/// # Errors
/// If `ldd` cannot be started.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    Ok(dependencies(&[program.to_owned()])?.into_iter().map(|(inside, _)| inside).collect())
}

/// Path inside and path on the host of all libraries of these ELF files, as `ldd` finds them.
fn dependencies(programs: &[PathBuf]) -> Result<BTreeSet<(PathBuf, PathBuf)>> {
    let mut found = BTreeSet::new();
    // Some hundred paths at a time stay below the limit of a command line.
    for some in programs.chunks(200) {
        // Its status is 1 where one of the files is static; nothing to read from that.
        let output = process::output(Command::new("ldd").args(some))?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some(line) = line.strip_prefix('\t') else { continue };
            let line = line.rsplit_once(" (0x").map_or(line, |(front, _)| front);
            match line.split_once(" => ") {
                Some((name, "not found")) => {
                    eprintln!("xtask: the library {name} is not on this host, thus not in the VM");
                }
                Some((name, path)) if name.starts_with('/') => {
                    found.insert((name.into(), path.into()));
                }
                Some((_, path)) => {
                    found.insert((path.into(), path.into()));
                }
                None if line.starts_with('/') => {
                    found.insert((line.into(), line.into()));
                }
                // The vdso, "statically linked", "not a dynamic executable".
                None => {}
            }
        }
    }
    Ok(found)
}

fn is_elf(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut magic))
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(magic == b"\x7fELF")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(set: &FileSet) -> (tempfile::TempDir, Result<Size>) {
        let folder = tempfile::tempdir().unwrap();
        let stage = fs::canonicalize(folder.path()).unwrap();
        let size = set.copy_to(&stage);
        (folder, size)
    }

    #[test]
    fn a_program_brings_its_libraries_and_its_interpreter() {
        let mut set = FileSet::new();
        set.add(std::env::current_exe().unwrap(), "/opt/program").unwrap();
        let (stage, size) = staged(&set);
        assert!(size.unwrap().files >= 4);
        assert!(stage.path().join("opt/program").is_file());
        assert!(stage.path().join("lib64/ld-linux-x86-64.so.2").is_file());
    }

    #[test]
    fn a_folder_keeps_links_and_modes() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("sub")).unwrap();
        fs::write(from.path().join("sub/file"), "text").unwrap();
        symlink("sub/file", from.path().join("link")).unwrap();
        let mut set = FileSet::new();
        set.add(from.path(), "/data").unwrap();
        let (stage, size) = staged(&set);
        size.unwrap();
        let data = stage.path().join("data");
        assert_eq!(fs::read_to_string(data.join("sub/file")).unwrap(), "text");
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("sub/file"));
    }

    #[test]
    fn nothing_is_written_through_a_link_that_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        let from = tempfile::tempdir().unwrap();
        symlink(outside.path(), from.path().join("exit")).unwrap();
        fs::write(from.path().join("file"), "text").unwrap();
        let mut set = FileSet::new();
        set.add(from.path(), "/data").unwrap();
        set.add(from.path().join("file"), "/data/exit/file").unwrap();
        let (_stage, size) = staged(&set);
        assert!(size.unwrap_err().to_string().contains("behind a link"));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_pair_needs_two_paths_and_an_absolute_one_inside() {
        let mut set = FileSet::new();
        for pair in ["nothing", "/etc/passwd:relative", "/etc/passwd:/a/../b", "/missing:/x"] {
            assert!(set.add_pair(pair).is_err(), "{pair}");
        }
        set.add_pair("/etc/passwd:/etc/").unwrap();
        assert_eq!(set.entries[0].1, Path::new("/etc/passwd"));
    }
}
