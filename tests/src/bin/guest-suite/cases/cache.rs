//! The cache of compiled modules: of use, and never trusted.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::Case;
use crate::lab::{Folder, Lab, Mounted};
use crate::program::{Outcome, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "cache_is_filled_ahead_and_used", run: filled_ahead },
    Case { name: "cache_entry_that_was_changed_is_compiled_anew", run: changed_entry },
    Case { name: "cache_is_cleaned_by_gc", run: cleaned },
    Case { name: "cache_on_a_full_disk_costs_a_warning", run: full_disk },
    Case { name: "cache_that_others_can_write_is_not_used", run: unsafe_directory },
];

fn run(folder: &Folder) -> Result<Outcome> {
    guarded(&["run", "--cache", &folder.text("cache"), "/guests/hello.wasm"]).finish()
}

fn entries(folder: &Folder) -> Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder.path("cache")).context("list the cache")?;
    Ok(list.flatten().map(|entry| entry.path()).collect())
}

fn filled_ahead(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let cache = folder.text("cache");
    let compiled = guarded(&["compile", "--cache", &cache, "/guests/hello.wasm"]).finish()?;
    compiled.exits(0)?;
    let entry = match entries(&folder)?.as_slice() {
        [entry] => entry.clone(),
        entries => anyhow::bail!("one entry: {entries:?}"),
    };
    let before = fs::metadata(&entry)?;
    ensure!(before.mode() & 0o777 == 0o600 && before.uid() == 0, "it is root's alone: {before:?}");
    run(&folder)?.exits(0)?.prints("hello\n")?.is_quiet()?;
    let after = fs::metadata(&entry)?;
    ensure!(entries(&folder)?.len() == 1 && before.ino() == after.ino(), "the run used it");
    Ok(())
}

fn changed_entry(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    run(&folder)?.exits(0)?.is_quiet()?;
    let entry = entries(&folder)?.pop().context("there is an entry")?;
    let good = fs::read(&entry)?;
    for position in [0, 40, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[position] ^= 1;
        fs::write(&entry, &bytes)?;
        run(&folder)?.exits(0)?.prints("hello\n")?.says("warning: ")?;
        ensure!(fs::read(&entry)? != bytes, "the changed entry is still there");
        // What replaced it is good: nothing is said about it.
        run(&folder)?.exits(0)?.prints("hello\n")?.is_quiet()?;
    }
    fs::write(&entry, &good[..good.len() / 2])?;
    run(&folder)?.exits(0)?.prints("hello\n")?.says("warning: ")?;
    Ok(())
}

/// What is of no use goes, what is stays.
fn cleaned(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let cache = folder.text("cache");
    let gc = || guarded(&["gc", "--cache", &cache]).finish();
    gc()?.exits(0)?.prints("nothing was left\n")?.is_quiet()?;
    ensure!(!folder.path("cache").exists(), "gc made a cache");
    run(&folder)?.exits(0)?.is_quiet()?;
    let entry = entries(&folder)?.pop().context("there is an entry")?;
    let digest = "0".repeat(64);
    let unfinished = folder.path("cache").join(format!(".{digest}.cwasm.1.0"));
    let unusable = folder.path("cache").join(format!("{digest}.cwasm"));
    fs::write(&unfinished, "half")?;
    fs::copy(&entry, &unusable)?;
    gc()?.exits(0)?.is_quiet()?.prints(
        "unfinished files in the cache: 1 removed\nunusable entries of the cache: 1 removed\n",
    )?;
    ensure!(entries(&folder)? == [entry], "{:?}", entries(&folder)?);
    gc()?.exits(0)?.prints("nothing was left\n")?;
    fs::set_permissions(folder.path("cache"), fs::Permissions::from_mode(0o755))?;
    gc()?.exits(0)?.says("warning: ")?.says("open to other users")?;
    Ok(())
}

fn full_disk(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let place = folder.directory("cache")?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700))?;
    let disk = Mounted::tmpfs(place, "size=16k,mode=700")?;
    run(&folder)?.exits(0)?.prints("hello\n")?.says("warning: ")?;
    ensure!(entries(&folder)?.is_empty(), "half an entry stayed");
    let compiled =
        guarded(&["compile", "--cache", &folder.text("cache"), "/guests/hello.wasm"]).finish()?;
    // For `compile` the cache is the purpose.
    compiled.refuses("keep the compiled module", "--cache")?;
    disk.end()?;
    run(&folder)?.exits(0)?.prints("hello\n")?.is_quiet()?;
    ensure!(entries(&folder)?.len() == 1, "there is room again");
    Ok(())
}

fn unsafe_directory(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    folder.directory("cache")?;
    fs::set_permissions(folder.path("cache"), fs::Permissions::from_mode(0o777))?;
    run(&folder)?.exits(0)?.prints("hello\n")?.says("warning: ")?;
    ensure!(entries(&folder)?.is_empty(), "it was used");
    Ok(())
}
