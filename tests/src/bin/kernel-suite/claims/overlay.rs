//! Preopens on overlayfs, which does everything once more to the files of its layers.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::IFlags;
use wasi_guard_tests::operation::{Answer, At, Do, NOWHERE, Then, at};

use super::{
    cases,
    file_systems::{POLICY, TREE, everything},
};
use crate::{
    expect::Why,
    lab::{Lab, Mounted},
    stage::{Setup, Stage},
};

cases![
    a_preopen_on_overlayfs_is_guarded,
    a_file_of_a_lower_layer_is_guarded,
    what_covers_a_file_of_a_lower_layer_is_guarded,
    attributes_on_overlayfs_are_guarded,
    the_layers_themselves_are_outside,
    a_directory_below_the_overlays_root_is_guarded,
    a_guest_with_capabilities_gets_no_leave_for_the_layers,
];

const R: u32 = libc::O_RDONLY as u32;
const W: u32 = libc::O_WRONLY as u32;
const DIRECTORY: u32 = (libc::O_RDONLY | libc::O_DIRECTORY) as u32;
const LOWER: &str = "from the lower layer";

fn open(path: At, flags: u32) -> Do {
    Do::Open(path, flags, Then::Close)
}

fn read(path: &str) -> Do {
    Do::Open(at(0, path), R, Then::Read)
}

/// An overlay with the files of [`TREE`] in its lower layer. The layers lie outside the base.
struct Overlay {
    layers: PathBuf,
    base: PathBuf,
    _mounted: Mounted,
}

impl Overlay {
    fn new(lab: &Lab, layers: PathBuf) -> Result<Self> {
        for directory in ["lower", "upper", "work"] {
            fs::create_dir(layers.join(directory))?;
        }
        for line in TREE {
            let Some(name) = line.strip_prefix("data/") else { continue };
            let path = layers.join("lower").join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path)?;
            } else {
                fs::create_dir_all(path.parent().context("a parent")?)?;
                fs::write(path, LOWER)?;
            }
        }
        std::os::unix::fs::symlink("file", layers.join("lower/in/link"))?;
        let base = lab.directory()?;
        let data = base.join("data");
        fs::create_dir(&data)?;
        let layer = |name| layers.join(name).display().to_string();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            layer("lower"),
            layer("upper"),
            layer("work")
        );
        let mounted = Mounted::new("overlay", data, &options)?;
        Ok(Self { layers, base, _mounted: mounted })
    }

    /// A guest as every worker is: without capabilities. Its files stay as they become.
    fn stage(&self, lab: &Lab, policy: &str) -> Result<Stage> {
        let mut setup = Setup::new(self.base.clone(), policy, &[]);
        setup.fresh = false;
        let stage = setup.start(lab)?;
        stage.drop_capabilities()?;
        Ok(stage)
    }

    fn layer(&self, path: &str) -> PathBuf {
        self.layers.join(path)
    }

    fn holds(&self, path: &str, expected: &str) -> Result<()> {
        let found = fs::read_to_string(self.layer(path)).with_context(|| path.to_owned())?;
        ensure!(found == expected, "{path} holds {found:?}, not {expected:?}");
        Ok(())
    }
}

fn a_preopen_on_overlayfs_is_guarded(lab: &Lab) -> Result<()> {
    let overlay = Overlay::new(lab, lab.directory()?)?;
    let mut stage = Setup::new(overlay.base.clone(), POLICY, TREE).start(lab)?;
    stage.drop_capabilities()?;
    everything(&mut stage)
}

fn a_file_of_a_lower_layer_is_guarded(lab: &Lab) -> Result<()> {
    let overlay = Overlay::new(lab, lab.directory()?)?;
    let mut stage = overlay.stage(lab, POLICY)?;
    ensure!(stage.allowed(&read("in/file"))? == LOWER.as_bytes(), "another content");
    stage.allowed(&Do::Stat(at(0, "in/file"), false))?;
    stage.allowed(&Do::Access(at(0, "in/file")))?;
    stage.allowed_via(&read("in/link"), Some("data/in/file"))?;
    stage.allowed(&Do::Readlink(at(0, "in/link")))?;
    stage.denied(&open(at(0, "none"), R), Why::NotGranted)?;
    stage.denied(&open(at(0, "in/key.pem"), R), Why::Deny("**/*.pem"))?;
    stage.denied(&Do::Stat(at(0, "in/key.pem"), false), Why::Deny("**/*.pem"))?;

    // Writing copies it up.
    stage.allowed(&Do::Open(at(0, "out/state"), W, Then::Write(b"NEW".to_vec())))?;
    overlay.holds("upper/out/state", &format!("NEW{}", &LOWER[3..]))?;
    overlay.holds("lower/out/state", LOWER)?;
    ensure!(stage.allowed(&read("out/state"))?.starts_with(b"NEW"), "the old content");
    stage.denied(&open(at(0, "in/file"), W), Why::NotGranted)?;
    stage.denied(&Do::Chmod(at(0, "in/file")), Why::NotGranted)
}

fn what_covers_a_file_of_a_lower_layer_is_guarded(lab: &Lab) -> Result<()> {
    let overlay = Overlay::new(lab, lab.directory()?)?;
    for name in ["a", "b", "c", "key.pem"] {
        fs::write(overlay.layer("lower/out").join(name), LOWER)?;
    }
    let policy = POLICY.replace("read = [", "read = [\"out\", ");
    let mut stage = overlay.stage(lab, &policy)?;
    let whiteout = |path: &str| -> Result<()> {
        let found = overlay.layer(path).symlink_metadata().with_context(|| path.to_owned())?;
        ensure!(found.mode() & libc::S_IFMT == libc::S_IFCHR && found.rdev() == 0, "{found:?}");
        Ok(())
    };
    stage.allowed(&Do::Unlink(at(0, "out/a")))?;
    whiteout("upper/out/a")?;
    overlay.holds("lower/out/a", LOWER)?;
    let gone = stage.inside.ask(&open(at(0, "out/a"), R))?;
    ensure!(gone == Answer::Failed(0, libc::ENOENT), "a removed file: {gone:?}");
    stage.allowed(&Do::Mkdir(at(0, "out/a")))?;
    stage.allowed(&Do::Rename(at(0, "out/b"), at(0, "out/renamed"), 0))?;
    whiteout("upper/out/b")?;
    overlay.holds("upper/out/renamed", LOWER)?;
    stage.allowed(&Do::Rename(at(0, "out/c"), at(0, "out/renamed"), 0))?;
    stage.allowed(&Do::Link(at(0, "out/old"), at(0, "out/second")))?;
    // What came and went makes overlayfs look at every name itself, a denied one too.
    let listed = stage.allowed(&Do::Open(at(0, "out"), DIRECTORY, Then::List))?;
    let listed = String::from_utf8(listed)?;
    for name in ["a", "renamed", "key.pem", "second"] {
        ensure!(listed.lines().any(|line| line == name), "{name} is not in {listed:?}");
    }
    stage.denied(&open(at(0, "out/key.pem"), R), Why::Deny("**/*.pem"))?;
    Ok(())
}

fn attributes_on_overlayfs_are_guarded(lab: &Lab) -> Result<()> {
    // On ext4, which has flags of files.
    let overlay = Overlay::new(lab, lab.directory_on_ext4()?)?;
    let flagged = fs::File::open(overlay.layer("lower/out/old"))?;
    rustix::fs::ioctl_setflags(&flagged, IFlags::NOATIME).context("set a flag")?;
    let mut stage = overlay.stage(lab, POLICY)?;
    stage.allowed(&Do::Open(at(0, "in/file"), R, Then::ListXattr))?;
    stage.denied(&Do::Open(at(0, "in/file"), R, Then::SetAcl), Why::NotGranted)?;
    stage.allowed(&Do::Open(at(0, "out/state"), R, Then::SetAcl))?;
    stage.allowed(&Do::Open(at(0, "out/state"), W, Then::Truncate(3)))?;
    stage.allowed(&Do::Chmod(at(0, "out/state")))?;
    stage.allowed(&Do::Times(at(0, "out/state")))?;
    // The copy has the flags of the original.
    stage.allowed(&Do::Open(at(0, "out/old"), W, Then::Write(b"x".to_vec())))?;
    let copied = fs::File::open(overlay.layer("upper/out/old"))?;
    ensure!(rustix::fs::ioctl_getflags(&copied)?.contains(IFlags::NOATIME), "no flag");
    Ok(())
}

fn the_layers_themselves_are_outside(lab: &Lab) -> Result<()> {
    let overlay = Overlay::new(lab, lab.directory()?)?;
    let mut stage = overlay.stage(lab, POLICY)?;
    stage.allowed(&Do::Open(at(0, "out/state"), W, Then::Write(b"NEW".to_vec())))?;
    let path = |name: &str| At { handle: NOWHERE, ..at(0, text(&overlay.layer(name))) };
    for name in ["lower/in/file", "lower/out/state", "upper/out/state"] {
        stage.denied(&open(path(name), R), Why::Outside)?;
        stage.denied(&open(path(name), W), Why::Outside)?;
        stage.denied(&Do::Stat(path(name), false), Why::Outside)?;
        stage.denied(&Do::Chmod(path(name)), Why::Outside)?;
        stage.denied(&Do::Truncate(path(name)), Why::Outside)?;
    }
    for name in ["lower/out", "upper/out", "work"] {
        stage.denied(&open(path(name), DIRECTORY), Why::Outside)?;
        stage.denied(&Do::Stat(path(name), false), Why::Outside)?;
    }
    stage.allowed(&read("in/file")).map(drop)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn a_directory_below_the_overlays_root_is_guarded(lab: &Lab) -> Result<()> {
    let overlay = Overlay::new(lab, lab.directory()?)?;
    let policy = "[[preopen]]\nguest = \"/out\"\nhost = \"data/out\"\n\
                  read = [\"state\"]\nwrite = [\"state\"]\n";
    let mut stage = overlay.stage(lab, policy)?;
    ensure!(stage.allowed(&read("state"))? == LOWER.as_bytes(), "another content");
    stage.allowed(&Do::Open(at(0, "state"), W, Then::Write(b"NEW".to_vec())))?;
    stage.denied(&open(at(0, "old"), R), Why::NotGranted)?;
    stage.denied(&open(at(0, "../in/file"), R), Why::OutsideSomewhere)?;
    stage.denied(&Do::Stat(at(0, "../in"), false), Why::OutsideSomewhere)
}

/// The leave rests on what the guest itself lacks. One with capabilities cannot be told from
/// whoever mounted, and gets nothing for it.
fn a_guest_with_capabilities_gets_no_leave_for_the_layers(lab: &Lab) -> Result<()> {
    let overlay = Overlay::new(lab, lab.directory()?)?;
    let mut setup = Setup::new(overlay.base.clone(), POLICY, &[]);
    setup.fresh = false;
    let mut stage = setup.start(lab)?;
    let list = Do::Open(at(0, "out"), DIRECTORY, Then::List);
    let answer = stage.inside.ask(&list)?;
    ensure!(answer == Answer::Failed(0, libc::EACCES), "with capabilities: {answer:?}");
    ensure!(!stage.records()?.is_empty(), "no record");
    stage.drop_capabilities()?;
    stage.allowed(&Do::Open(at(0, "out/state"), W, Then::Write(b"x".to_vec()))).map(drop)
}
