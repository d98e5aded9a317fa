//! Pinned programs, links and maps: a directory of bpffs a build.
//!
//! The directory appears under its name in one step (rename) after everything in it is pinned,
//! so whoever finds it finds it whole. Maps are pinned under their names, links as
//! `link_<hook>`, programs as `prog_<hook>`. Tables of policies come and go there ([`tables`]).

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use aya::{
    maps::{Array, HashMap, InodeStorage, Map, MapData},
    programs::{ProgramInfo, links::PinnedLink},
};
use wasi_guard_abi::guest::{Guest, HostConfig, Mark};

use super::{
    BPFFS, Build, PREFIX, UNFINISHED,
    hooks::{Absence, HOOKS},
    is_of_a_build, is_unfinished,
    of_maps::OfMaps,
    tables::{self, TableIds},
};
use crate::{
    cgroup::Parent,
    error::{Error, Result, Step as _},
    fault::{self, Point},
    log::DebugLog,
    mark::Marks,
    privilege::AsRoot,
    sys,
};

/// Maps of the object that userspace works with; each is pinned, and with them [`TableIds`].
pub(crate) const MAPS: &[&str] =
    &["HOST", "GUESTS", "TABLES", "RINGS", "LOADING", "MARKS", "SCRATCH"];

/// Handles of everything pinned. Links are held as well, so that removal of the pins by
/// somebody else does not unguard the guests of this process.
pub struct Pins {
    pub(crate) host: Array<MapData, HostConfig>,
    pub(crate) guests: HashMap<MapData, u64, Guest>,
    /// The guests' tables.
    pub(crate) tables: OfMaps,
    /// Their ring buffers.
    pub(crate) rings: OfMaps,
    pub(crate) loading: HashMap<MapData, u64, u32>,
    pub(crate) table_ids: TableIds,
    /// Marks of inodes.
    pub marks: Marks,
    links: Vec<PinnedLink>,
    /// How many there are.
    programs: u32,
    dir: PathBuf,
}

impl Pins {
    /// Takes the pins of `build`, `None` if it has none.
    ///
    /// # Errors
    /// If there are some, but they are not what this build pins: damaged, or not root's.
    pub fn take(build: &Build) -> Result<Option<Self>> {
        let mut pins = Self::maps(build)?;
        if let Some(pins) = &mut pins {
            pins.hold()?;
        }
        Ok(pins)
    }

    /// [`Pins::take`] without the programs, for [`Pins::hold`] to take them.
    ///
    /// # Errors
    /// As of [`Pins::take`].
    pub(crate) fn maps(build: &Build) -> Result<Option<Self>> {
        let dir = build.pin_dir();
        let meta = match fs::symlink_metadata(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.step(|| format!("look at {}", dir.display()))?,
        };
        if !meta.is_dir() || meta.uid() != 0 {
            return Err(damaged(&dir, "it is not a directory of root's"));
        }
        Self::open(&dir, build.layout).map(Some).map_err(|error| damaged(&dir, "").because(error))
    }

    fn open(dir: &Path, expected: u32) -> Result<Self> {
        let host: Array<_, HostConfig> =
            Array::try_from(map(dir, "HOST")?).step(|| "use the map HOST".into())?;
        let HostConfig { layout, programs, .. } =
            host.get(&0, 0).step(|| "read the map HOST".into())?;
        if layout != expected {
            return Err(Error::new(format!(
                "use pins of layout {layout}, this build has {expected}"
            )));
        }
        Ok(Self {
            host,
            guests: HashMap::try_from(map(dir, "GUESTS")?).step(|| "use the map GUESTS".into())?,
            tables: OfMaps::open(&dir.join("TABLES"))?,
            table_ids: TableIds::open(dir)?,
            rings: OfMaps::open(&dir.join("RINGS"))?,
            loading: HashMap::try_from(map(dir, "LOADING")?)
                .step(|| "use the map LOADING".into())?,
            marks: Marks::new(
                InodeStorage::<_, Mark>::try_from(map(dir, "MARKS")?)
                    .step(|| "use the map MARKS".into())?,
            ),
            links: Vec::new(),
            programs,
            dir: dir.into(),
        })
    }

    /// Takes the programs, so that they stay in force whoever removes their pins.
    ///
    /// # Errors
    /// If they are not all there.
    pub(crate) fn hold(&mut self) -> Result<()> {
        if self.links.is_empty() {
            self.links = self.links().map_err(|error| damaged(&self.dir, "").because(error))?;
        }
        Ok(())
    }

    fn links(&self) -> Result<Vec<PinnedLink>> {
        let mut links = Vec::new();
        for hook in HOOKS {
            let path = self.dir.join(format!("link_{}", hook.name));
            if !path.exists() && hook.absence != Absence::Stops {
                continue;
            }
            links.push(PinnedLink::from_pin(&path).step(|| format!("open {}", path.display()))?);
        }
        if links.len() != self.programs as usize {
            return Err(Error::new(format!(
                "find the {} pinned programs: {} are there",
                self.programs,
                links.len()
            )));
        }
        Ok(links)
    }

    /// Hooks with an attached program.
    pub fn attached(&self) -> usize {
        self.links.len()
    }

    /// Their directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many instructions the kernel's verifier followed for each program, by hook.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn verified(&self) -> Result<Vec<(&'static str, u32)>> {
        let mut list = Vec::new();
        for hook in HOOKS {
            let path = self.dir.join(format!("prog_{}", hook.name));
            if !path.exists() {
                continue;
            }
            let step = || format!("look at {}", path.display());
            let count = ProgramInfo::from_pin(&path).step(step)?.verified_instruction_count();
            list.push((hook.name, count.ok_or_else(|| Error::new(step()))?));
        }
        Ok(list)
    }

    /// Tells the programs whose children are guests.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn guard_children_of(&mut self, parent_cgroup: u64) -> Result<()> {
        let old = self.host.get(&0, 0).step(|| "read the map HOST".into())?;
        let new = HostConfig { parent_cgroup, ..old };
        if old != new {
            self.host.set(0, new, 0).step(|| "write the map HOST".into())?;
        }
        Ok(())
    }

    /// Forgets the guest of a cgroup that is gone.
    pub fn forget(&mut self, cgroup: u64) {
        let Self { tables, rings, .. } = self;
        // Entries that were never made are no error here.
        let mut ring = || drop(rings.remove(cgroup));
        std::thread::scope(|scope| {
            // Each of the two waits for all programs that run (`maybe_wait_bpf_programs` in the
            // kernel's kernel/bpf/syscall.c): better at the same time.
            let thread = std::thread::Builder::new().spawn_scoped(scope, &mut ring);
            let _ = tables.remove(cgroup);
            fault::at(Point::TableForgotten);
            thread.map(drop).is_err()
        })
        .then(ring);
        self.forget_rest(cgroup);
    }

    /// What can be removed without waiting.
    fn forget_rest(&mut self, cgroup: u64) {
        self.table_ids.remove(cgroup);
        let _ = self.loading.remove(&cgroup);
        let _ = self.guests.remove(&cgroup);
    }

    /// Begins [`Pins::forget`] for a process that ends soon: in [`Pins::finish_leaving`] the entries are
    /// gone, but processes of their own wait for the programs that may still see the maps.
    pub(crate) fn begin_leaving(&self, cgroup: u64) -> Leaving {
        let begun = fault::call(Point::RemovalBegun).and_then(|()| {
            self.tables.begin_removal(cgroup)?;
            self.rings.begin_removal(cgroup)
        });
        Leaving { begun: begun.is_ok() }
    }

    /// Sees that the guest's entries are gone.
    pub(crate) fn finish_leaving(&mut self, cgroup: u64, leaving: Leaving) {
        if !leaving.begun {
            return self.forget(cgroup);
        }
        self.tables.finish_removal(cgroup);
        fault::at(Point::TableForgotten);
        self.rings.finish_removal(cgroup);
        self.forget_rest(cgroup);
    }

    /// Forgets the guests of cgroups that are gone, without their supervisors having done so.
    pub(crate) fn forget_all(&mut self, cgroups: &[u64]) {
        for cgroup in cgroups {
            self.forget(*cgroup);
        }
        if !cgroups.is_empty() {
            self.sweep_tables();
        }
    }

    /// Unpins all tables by which no guest decides.
    pub(crate) fn sweep_tables(&self) {
        tables::sweep(&self.dir, &self.table_ids);
    }

    /// The debug log of the programs, if this build has one.
    ///
    /// # Errors
    /// If the log's map cannot be found.
    pub fn debug_log(&self) -> Result<DebugLog> {
        let _root = AsRoot::enter()?;
        let path = self.dir.join("prog_file_open");
        let info = ProgramInfo::from_pin(&path).step(|| format!("open {}", path.display()))?;
        DebugLog::of_program(info.id())
    }

    /// The pins of policies' tables, sorted.
    pub fn pinned_tables(&self) -> Vec<PathBuf> {
        tables::pinned(&self.dir)
    }

    /// Ids of all guests that one of the maps knows, sorted.
    pub fn guests(&self) -> Vec<u64> {
        let (guests, tables) = (self.guests.keys(), self.tables.guests());
        let (rings, loading) = (self.rings.guests(), self.loading.keys());
        let ids = guests.flatten().chain(tables);
        let ids = ids.chain(rings).chain(loading.flatten()).chain(self.table_ids.guests());
        let ids: BTreeSet<u64> = ids.collect();
        ids.into_iter().collect()
    }
}

/// That a guest's entries of the maps of maps are being removed.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// If there were processes to be had for it.
    begun: bool,
}

/// What the pins of a build know about guests, whichever build and layout it is: entries go by the
/// cgroup's id in all of them.
pub(crate) struct Entries {
    maps: Vec<MapData>,
    dir: PathBuf,
}

impl Entries {
    /// Maps with an entry for each guest.
    const MAPS: &[&str] = &["TABLES", TableIds::NAME, "LOADING", "RINGS", "GUESTS"];

    /// Those of the build with this name; none if it has no pins.
    pub(crate) fn of(name: &OsStr) -> Self {
        let dir = Path::new(BPFFS).join(name);
        let open = |name: &&str| MapData::from_pin(dir.join(name)).ok();
        let has_ids = |map: &MapData| map.info().is_ok_and(|info| info.key_size() == 8);
        Self { maps: Self::MAPS.iter().filter_map(open).filter(has_ids).collect(), dir }
    }

    /// Forgets guests of cgroups that are gone, and unpins their tables. Returns how many of the
    /// guests had entries, and how many tables were unpinned.
    pub(crate) fn forget(&self, cgroups: &[u64]) -> (usize, usize) {
        let mut known = 0;
        for cgroup in cgroups {
            let mut some = false;
            for map in &self.maps {
                some |= sys::map_delete(map.fd().as_fd(), *cgroup).unwrap_or(false);
            }
            known += usize::from(some);
        }
        let tables = tables::pinned(&self.dir).len();
        if let Ok(used) = TableIds::open(&self.dir) {
            tables::sweep(&self.dir, &used);
        }
        (known, tables.saturating_sub(tables::pinned(&self.dir).len()))
    }
}

fn map(dir: &Path, name: &str) -> Result<Map> {
    let path = dir.join(name);
    let data = MapData::from_pin(&path).step(|| format!("open {}", path.display()))?;
    Map::from_map_data(data).step(|| format!("use {}", path.display()))
}

fn damaged(dir: &Path, why: &str) -> Error {
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    Error::new(format!("use the pinned programs in {}{why}", dir.display()))
        .hint("`wasi-guard unload` removes them while no guest runs; the next run loads them again")
}

/// Ids of the pinned programs of every build.
pub(crate) fn own_programs() -> BTreeSet<u32> {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    list(Path::new(BPFFS))
        .filter(|build| is_of_a_build(&build.file_name()))
        .flat_map(|build| list(&build.path()))
        .filter(|pin| pin.file_name().as_encoded_bytes().starts_with(b"prog_"))
        .filter_map(|pin| ProgramInfo::from_pin(pin.path()).ok())
        .map(|program| program.id())
        .collect()
}

/// Removes the pins of every build and so, once no process holds them, the programs.
///
/// # Errors
/// If guests run, or a pin cannot be removed. Returns the directories removed.
pub fn unload(_lock: &super::HostLock) -> Result<Vec<PathBuf>> {
    let _root = AsRoot::enter()?;
    let mut removed = Vec::new();
    let entries = fs::read_dir(BPFFS).step(|| format!("list {BPFFS}"))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !is_of_a_build(&name) && !is_unfinished(&name) {
            continue;
        }
        if let Some(parent) = Parent::named(&name)? {
            // What killed supervisors left are no guests that run.
            let entries = Entries::of(&name);
            parent.sweep(|abandoned| {
                entries.forget(abandoned);
            })?;
            let cgroup = parent.path();
            if !parent.children()?.is_empty() {
                return Err(Error::new(format!("unload {}: guests run", name.display()))
                    .hint(format!("end them first; they are in {}", cgroup.display())));
            }
            fs::remove_dir(cgroup).step(|| format!("remove {}", cgroup.display()))?;
        }
        fault::at(Point::UnloadedCgroup);
        remove_pins(&withdraw(&entry.path())?)?;
        removed.push(entry.path());
    }
    Ok(removed)
}

/// Takes their name from the pins of a build, in one step, so that no start finds a part of them:
/// from there on they are unfinished ones, which the next start or gc removes.
fn withdraw(dir: &Path) -> Result<PathBuf> {
    let name = dir.file_name().unwrap_or_default();
    let Some(digest) = name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes()) else {
        return Ok(dir.into());
    };
    if is_unfinished(name) {
        return Ok(dir.into());
    }
    let digest = OsStr::from_bytes(digest);
    let unfinished = Path::new(BPFFS).join(format!("{UNFINISHED}{}", digest.display()));
    if unfinished.exists() {
        remove_pins(&unfinished)?;
    }
    fs::rename(dir, &unfinished).step(|| format!("withdraw {}", dir.display()))?;
    fault::at(Point::PinsWithdrawn);
    Ok(unfinished)
}

/// Removes a directory of pins; links first, so that a program without its maps' pins is never
/// attached.
pub(crate) fn remove_pins(dir: &Path) -> Result<()> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .step(|| format!("list {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    names.sort_by_key(|path| {
        !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"link_"))
    });
    for path in names {
        fs::remove_file(&path).step(|| format!("remove {}", path.display()))?;
        fault::at(Point::PinRemoved);
    }
    fs::remove_dir(dir).step(|| format!("remove {}", dir.display()))
}
