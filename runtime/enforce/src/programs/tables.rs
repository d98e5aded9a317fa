//! Policy tables in the kernel: one map for all guests whose tables have the same bytes.
//!
//! A table is pinned beside the programs as `table_<digest>` while a guest decides by it, so that
//! the next guest under the same policy takes it up. Nobody writes to a table after it was pinned.
//! The pin only saves memory and time: a guest holds its table itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::maps::{Array, HashMap, Map, MapData};
use wasi_guard_abi::table::Chunk;
use wasi_guard_policy::compile::Table;

use crate::{
    error::{Error, Result, Step as _},
    fault::{self, Point},
    guest::INNER_MAP,
};

/// What the names of pinned tables begin with.
const PREFIX: &str = "table_";

/// `BPF_F_NO_PREALLOC` (uapi/linux/bpf.h).
const NO_PREALLOC: u32 = 1;

/// The kernel's number of the table by which each guest decides: a map of its own, because kernels
/// before 6.8 make whoever reads a value of the map of tables wait as if he had changed it
/// (`bpf_map_copy_value` there). No program reads it, and tables are only kept for reuse by it, so
/// that nothing depends on a number that is wrong or missing.
pub(crate) struct TableIds(HashMap<MapData, u64, u32>);

impl TableIds {
    /// Its name among the pins.
    pub(crate) const NAME: &str = "TABLE_IDS";

    /// Makes the map and pins it in `dir`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn create(dir: &Path, max_guests: u32) -> Result<()> {
        let step = || format!("create the map {}", Self::NAME);
        let object = aya_obj::Map::new_from_params(
            aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_HASH as u32,
            size_of::<u64>() as u32,
            size_of::<u32>() as u32,
            max_guests,
            NO_PREALLOC,
        );
        let map = MapData::create(object, Self::NAME, None).step(step)?;
        map.pin(dir.join(Self::NAME)).step(step)
    }

    /// The map that is pinned in `dir`.
    ///
    /// # Errors
    /// If it is not there, or another one.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let pin = dir.join(Self::NAME);
        let map = MapData::from_pin(&pin).step(|| format!("open {}", pin.display()))?;
        let step = || format!("use {}", pin.display());
        let map = Map::from_map_data(map).step(step)?;
        HashMap::try_from(map).step(step).map(Self)
    }

    /// Says by which table a guest decides.
    pub(crate) fn set(&mut self, guest: u64, table: &Shared) {
        if let Some(id) = table.id() {
            // Without it the table may be unpinned early, and the next guest makes it anew.
            let _ = self.0.insert(guest, id, 0);
        }
    }

    /// Forgets a guest.
    pub(crate) fn remove(&mut self, guest: u64) {
        // One that never had a table is no error.
        let _ = self.0.remove(&guest);
    }

    /// Whether a guest decides by the table with the kernel's number `id`.
    fn has(&self, id: u32) -> bool {
        self.0.iter().flatten().any(|(_, used)| used == id)
    }

    /// The guests that have a number.
    pub(crate) fn guests(&self) -> impl Iterator<Item = u64> {
        self.0.keys().flatten()
    }
}

/// A table in the kernel.
#[derive(Debug)]
pub(crate) struct Shared {
    map: MapData,
    pin: PathBuf,
}

impl Shared {
    /// The table that is pinned in `dir` with the same bytes, or a new one.
    ///
    /// # Errors
    /// If the kernel has no memory for it.
    pub(crate) fn take(dir: &Path, table: &Table) -> Result<Self> {
        let digest = blake3::hash(table.bytes());
        let pin = dir.join(format!("{PREFIX}{}", digest.to_hex()));
        let count = u32::try_from(table.chunks().len()).unwrap_or(u32::MAX);
        if let Ok(map) = MapData::from_pin(&pin) {
            // The directory is root's alone; this is for one that root has filled by hand.
            let fits = map.info().is_ok_and(|info| {
                info.max_entries() == count && info.value_size() as usize == size_of::<Chunk>()
            });
            if fits {
                return Ok(Self { map, pin });
            }
        }
        let map = fill(table, count)?;
        // Somebody may have pinned the same at the same time: then there are two.
        let _ = map.pin(&pin);
        fault::at(Point::TablePinned);
        Ok(Self { map, pin })
    }

    /// The map.
    pub(crate) fn map(&self) -> &MapData {
        &self.map
    }

    /// The kernel's number of the map.
    pub(crate) fn id(&self) -> Option<u32> {
        self.map.info().ok().map(|info| info.id())
    }

    /// Unpins the table, unless a guest decides by it, says `used`. One that is about to may be
    /// overlooked: it holds the table itself, and others make another one.
    pub(crate) fn release(self, used: &TableIds) {
        if self.id().is_some_and(|id| !used.has(id)) {
            // Gone already, or swept by the next start.
            let _ = fs::remove_file(&self.pin);
        }
    }
}

/// Unpins all tables in `dir` by which no guest decides, says `used`.
pub(crate) fn sweep(dir: &Path, used: &TableIds) {
    for pin in pinned(dir) {
        if let Ok(map) = MapData::from_pin(&pin) {
            Shared { map, pin }.release(used);
        }
    }
}

/// The pins of tables in `dir`, sorted.
pub(crate) fn pinned(dir: &Path) -> Vec<PathBuf> {
    let is_table = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut pins: Vec<PathBuf> = entries.filter(is_table).collect();
    pins.sort();
    pins
}

fn fill(table: &Table, count: u32) -> Result<MapData> {
    let step = || "create the policy's table in the kernel".to_owned();
    let mut table = table.clone();
    // What directories remember is about this table and no other.
    table.set_serial(crate::mark::random_id()?);
    let object = aya_obj::Map::new_from_params(
        aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY as u32,
        size_of::<u32>() as u32,
        size_of::<Chunk>() as u32,
        count,
        INNER_MAP,
    );
    fault::call(Point::MakeTable).step(step)?;
    let data = MapData::create(object, "table", None).step(step)?;
    let mut map = Map::from_map_data(data).step(step)?;
    let mut array = Array::<_, Chunk>::try_from(&mut map).step(step)?;
    for (index, chunk) in table.chunks().iter().enumerate() {
        fault::map(Point::FillTable)
            .and_then(|()| array.set(index as u32, Chunk(*chunk), 0))
            .step(|| "fill the policy's table".into())?;
    }
    match map {
        Map::Array(data) => Ok(data),
        _ => Err(Error::new(step())),
    }
}
