//! Policy tables in the kernel: one map for all guests whose tables have the same bytes.
//!
//! A table is pinned beside the programs as `table_<digest>` while a guest decides by it, so that
//! the next guest under the same policy takes it up. Nobody writes to a table after it was pinned.
//! The pin only saves memory and time: a guest holds its table itself.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::maps::{Array, Map, MapData};
use wasi_guard_abi::table::Chunk;
use wasi_guard_policy::compile::Table;

use crate::{
    error::{Error, Result, Step as _},
    fault::{self, Point},
    guest::INNER_MAP,
    programs::of_maps::OfMaps,
};

/// What the names of pinned tables begin with.
const PREFIX: &str = "table_";

/// Whether a guest decides by the table with the kernel's number `id`.
fn is_used(tables: &OfMaps, id: u32) -> bool {
    tables.guests().any(|guest| match tables.id_of(guest) {
        Ok(used) => used == id,
        // In doubt it stays. A guest that has ended meanwhile uses none.
        Err(error) => error.raw_os_error() != Some(libc::ENOENT),
    })
}

/// A table in the kernel.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Who enters it into a map holds it as well.
    map: Arc<MapData>,
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
                return Ok(Self { map: map.into(), pin });
            }
        }
        let map = fill(table, count)?;
        // Somebody may have pinned the same at the same time: then there are two.
        let _ = map.pin(&pin);
        fault::at(Point::TablePinned);
        Ok(Self { map: map.into(), pin })
    }

    /// The map.
    pub(crate) fn map(&self) -> &Arc<MapData> {
        &self.map
    }

    /// The kernel's number of the map.
    pub(crate) fn id(&self) -> Option<u32> {
        self.map.info().ok().map(|info| info.id())
    }

    /// Unpins the table, unless a guest in `tables` decides by it. One that is about to may be
    /// overlooked: it holds the table itself, and others make another one.
    pub(crate) fn release(self, tables: &OfMaps) {
        if self.id().is_some_and(|id| !is_used(tables, id)) {
            // Gone already, or swept by the next start.
            let _ = fs::remove_file(&self.pin);
        }
    }
}

/// Unpins all tables in `dir` that no guest in `tables` decides by.
pub(crate) fn sweep(dir: &Path, tables: &OfMaps) {
    for pin in pinned(dir) {
        if let Ok(map) = MapData::from_pin(&pin) {
            Shared { map: map.into(), pin }.release(tables);
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
