//! Where a function stands in an executable or a library: what a uprobe needs.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _, Sym as _};
use object::read::{ReadCache, ReadRef, StringTable};
use object::{Endianness, elf};
use rustix::io::Errno;

use super::LoadError;

/// Most bytes that are read of a file. What has most symbols, a browser with all of its own, has some
/// 200 MiB of them.
const MAX_READ: u64 = 512 << 20;

/// The offset of a function in a file, in bytes. Of several with its name the one that a program is
/// linked with: local and weak ones stand behind others. What the dynamic linker knows goes before
/// what is there for debuggers; libbpf does the same (`elf_find_func_offset`).
///
/// # Errors
/// `ENOEXEC` if the file is no executable or library that can be understood; `ENOENT` if it has no
/// such function; `EEXIST` if it has several, and none goes before the others.
pub fn symbol_offset(file: &File, symbol: &str) -> Result<u64, LoadError> {
    let failed = |errno| LoadError::new(format!("find the function {symbol:?} in the file"), errno);
    let cache = ReadCache::new(file);
    let left = Cell::new(MAX_READ);
    let data = Bounded { cache: &cache, left: &left };
    let ident = data.read_bytes_at(0, elf::ELFMAG.len() as u64 + 1);
    let found = match ident.ok().and_then(|it| it.strip_prefix(&elf::ELFMAG)) {
        Some([elf::ELFCLASS64]) => find::<elf::FileHeader64<Endianness>>(data, symbol.as_bytes()),
        Some([elf::ELFCLASS32]) => find::<elf::FileHeader32<Endianness>>(data, symbol.as_bytes()),
        _ => Err(Errno::NOEXEC),
    };
    found.map_err(failed)
}

/// A file of which only so much is read: the sizes in its tables are anybody's.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<&'a File>,
    left: &'a Cell<u64>,
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, _: Range<u64>, _: u8) -> Result<&'a [u8], ()> {
        // Tables of strings are read whole: string by string they are slow.
        Err(())
    }
}

/// A function that was found.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    address: u64,
    binding: u8,
}

fn find<Elf>(data: Bounded<'_>, name: &[u8]) -> Result<u64, Errno>
where
    Elf: FileHeader<Endian = Endianness>,
{
    let bad = |_| Errno::NOEXEC;
    let header = Elf::parse(data).map_err(bad)?;
    let endian = header.endian().map_err(bad)?;
    if !matches!(header.e_type(endian), elf::ET_EXEC | elf::ET_DYN) {
        return Err(Errno::NOEXEC);
    }
    let sections = header.section_headers(endian, data).map_err(bad)?;
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let Some(table) = sections.iter().find(|it| it.sh_type(endian) == kind) else { continue };
        let symbols: &[Elf::Sym] = table.data_as_array(endian, data).map_err(bad)?;
        let strings = sections.get(table.sh_link(endian) as usize).ok_or(Errno::NOEXEC)?;
        let strings = strings.data(endian, data).map_err(bad)?;
        let strings = StringTable::new(strings, 0, strings.len() as u64);
        let functions = symbols.iter().filter(|it| {
            it.st_type() == elf::STT_FUNC
                && !it.is_undefined(endian)
                && it.name(endian, strings).is_ok_and(|it| it == name)
        });
        let functions = functions
            .map(|it| Found { address: it.st_value(endian).into(), binding: it.st_bind() });
        if let Some(found) = choose(functions)? {
            return offset_of::<Elf>(header, endian, data, found.address);
        }
    }
    Err(Errno::NOENT)
}

/// The function that goes before the others of its name.
fn choose(functions: impl Iterator<Item = Found>) -> Result<Option<Found>, Errno> {
    let rank = |found: Found| match found.binding {
        elf::STB_GLOBAL => 2,
        elf::STB_WEAK => 1,
        _ => 0,
    };
    let mut best: Option<Found> = None;
    let mut doubtful = false;
    for found in functions {
        match best {
            Some(other) if rank(other) > rank(found) || other.address == found.address => {}
            Some(other) if rank(other) == rank(found) => doubtful = true,
            _ => (best, doubtful) = (Some(found), false),
        }
    }
    if doubtful { Err(Errno::EXIST) } else { Ok(best) }
}

/// Where in the file stands what is at an address in memory.
fn offset_of<'a, Elf>(
    header: &Elf,
    endian: Endianness,
    data: Bounded<'a>,
    address: u64,
) -> Result<u64, Errno>
where
    Elf: FileHeader<Endian = Endianness>,
{
    let segments = header.program_headers(endian, data).map_err(|_| Errno::NOEXEC)?;
    segments
        .iter()
        .filter(|it| it.p_type(endian) == elf::PT_LOAD)
        .find_map(|it| {
            let (start, size) = it.file_range(endian);
            let inside = address.checked_sub(it.p_vaddr(endian).into()).filter(|at| *at < size)?;
            start.checked_add(inside)
        })
        .ok_or(Errno::NOEXEC)
}
