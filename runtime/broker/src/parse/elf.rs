//! The tables of an ELF file, with every bound checked once.

use object::elf;
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, SectionHeader as _, SectionTable, Sym as _};

use super::ParseError;
use crate::image::MAX_NAME;

type Header = elf::FileHeader64<LittleEndian>;

/// Most sections. An object with as many programs and maps as there may be has less than a
/// thousand.
const MAX_SECTIONS: usize = 4096;
/// Longest name of a symbol, in bytes. Those of C++ are long.
const MAX_SYMBOL: usize = 4096;

/// An object of the right kind.
pub(super) struct Elf<'d> {
    /// The whole file.
    pub(super) bytes: &'d [u8],
    /// All sections, the first of which is none.
    pub(super) sections: Vec<Section<'d>>,
    /// All symbols, the first of which is none.
    pub(super) symbols: Vec<Symbol<'d>>,
    /// Where the table of sections begins in the file.
    pub(super) table: usize,
    /// The section with the sections' names.
    pub(super) names: usize,
}

/// A section.
pub(super) struct Section<'d> {
    pub(super) name: &'d str,
    /// `SHT_*`.
    pub(super) kind: u32,
    /// Instructions of programs or functions.
    pub(super) is_code: bool,
    pub(super) address: u64,
    pub(super) size: u64,
    /// Where its bytes begin in the file.
    pub(super) offset: usize,
    /// Its bytes; none if they are not in the file (`.bss`).
    pub(super) data: &'d [u8],
    /// For relocations, the section that they change.
    pub(super) info: usize,
}

/// A symbol.
pub(super) struct Symbol<'d> {
    pub(super) name: &'d str,
    pub(super) is_function: bool,
    pub(super) is_local: bool,
    /// It is defined elsewhere.
    pub(super) is_undefined: bool,
    /// Where it stands, if it stands in a section.
    pub(super) section: Option<usize>,
    pub(super) value: u64,
    pub(super) size: u64,
}

/// A relocation.
pub(super) struct Relocation {
    /// Byte of the section.
    pub(super) offset: u64,
    /// `R_BPF_*`.
    pub(super) kind: u32,
    /// Number of the symbol.
    pub(super) symbol: usize,
}

fn damaged(error: object::read::Error) -> ParseError {
    ParseError::Damaged(error.to_string())
}

impl<'d> Elf<'d> {
    /// Reads the tables.
    pub(super) fn read(bytes: &'d [u8]) -> Result<Self, ParseError> {
        const E: LittleEndian = LittleEndian;
        let header =
            Header::parse(bytes).map_err(|_| ParseError::NoObject("no 64-bit ELF file"))?;
        if !header.is_little_endian() {
            return Err(ParseError::NoObject("it is for machines of big endian"));
        }
        if header.e_machine(E) != elf::EM_BPF {
            return Err(ParseError::NoObject("it is for another machine than BPF"));
        }
        if header.e_type(E) != elf::ET_REL {
            return Err(ParseError::NoObject("it is no relocatable object (clang -c)"));
        }
        let table = header.sections(E, bytes).map_err(damaged)?;
        if table.len() > MAX_SECTIONS {
            return Err(ParseError::TooLarge(format!("{} sections", table.len())));
        }
        let sections = sections(&table, bytes)?;
        let mut tables = sections.iter().filter(|it| it.kind == elf::SHT_SYMTAB);
        if tables.next().is_some() && tables.next().is_some() {
            return Err(ParseError::Damaged("it has two tables of symbols".to_owned()));
        }
        let symbols = symbols(&table, bytes)?;
        let names = header.shstrndx(E, bytes).map_err(damaged)? as usize;
        let start = usize::try_from(header.e_shoff(E)).unwrap_or(usize::MAX);
        Ok(Self { bytes, sections, symbols, table: start, names })
    }

    /// The section with this name.
    pub(super) fn named(&self, name: &str) -> Option<&Section<'d>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Relocations of a section, in the order of the file. Those of the kind that have addends
    /// aside are damage: no compiler makes them for BPF, and aya does not heed the addends.
    pub(super) fn relocations(&self, of: usize) -> Result<Vec<Relocation>, ParseError> {
        let mut found = Vec::new();
        for section in self.sections.iter().filter(|section| section.info == of) {
            match section.kind {
                elf::SHT_REL => {}
                elf::SHT_RELA | elf::SHT_CREL => {
                    return Err(ParseError::Unsupported("relocations with addends".to_owned()));
                }
                _ => continue,
            }
            for entry in section.data.chunks_exact(16) {
                let (offset, info) = (word(entry, 0), word(entry, 8));
                let symbol = (info >> 32) as usize;
                if symbol == 0 || symbol >= self.symbols.len() {
                    let why = format!("{} relocates to no symbol", section.name);
                    return Err(ParseError::Damaged(why));
                }
                found.push(Relocation { offset, kind: info as u32, symbol });
            }
        }
        Ok(found)
    }
}

/// Eight bytes of an entry that has them.
fn word(entry: &[u8], at: usize) -> u64 {
    entry[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn sections<'d>(
    table: &SectionTable<'d, Header>,
    bytes: &'d [u8],
) -> Result<Vec<Section<'d>>, ParseError> {
    const E: LittleEndian = LittleEndian;
    let mut sections = Vec::with_capacity(table.len());
    let mut stored = 0_u64;
    for header in table.iter() {
        let name = table.section_name(E, header).map_err(damaged)?;
        let name = text(name, MAX_NAME, "a section")?;
        let data = header.data(E, bytes).map_err(damaged)?;
        stored = stored.saturating_add(data.len() as u64);
        let kind = header.sh_type(E);
        let code = u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR);
        let is_code =
            kind == elf::SHT_PROGBITS && header.sh_flags(E) & code == code && !data.is_empty();
        sections.push(Section {
            name,
            kind,
            is_code,
            address: header.sh_addr(E),
            size: header.sh_size(E),
            offset: usize::try_from(header.sh_offset(E)).unwrap_or(usize::MAX),
            data,
            info: header.sh_info(E) as usize,
        });
    }
    // No two sections are made of the same bytes, or a small file would be a large object.
    if stored > bytes.len() as u64 {
        return Err(ParseError::Damaged("sections overlap".to_owned()));
    }
    Ok(sections)
}

fn symbols<'d>(
    table: &SectionTable<'d, Header>,
    bytes: &'d [u8],
) -> Result<Vec<Symbol<'d>>, ParseError> {
    const E: LittleEndian = LittleEndian;
    let found = table.symbols(E, bytes, elf::SHT_SYMTAB).map_err(damaged)?;
    let mut symbols = Vec::with_capacity(found.len());
    let mut length = 0;
    for (index, symbol) in found.enumerate() {
        let name = symbol.name(E, found.strings()).map_err(damaged)?;
        // Of names that lie in each other, too.
        length += name.len();
        if length > 2 * bytes.len() {
            return Err(ParseError::TooLarge("names of symbols".to_owned()));
        }
        let section = found.symbol_section(E, symbol, index).map_err(damaged)?;
        symbols.push(Symbol {
            name: text(name, MAX_SYMBOL, "a symbol")?,
            is_function: matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC),
            is_local: symbol.st_bind() == elf::STB_LOCAL,
            is_undefined: index.0 != 0 && symbol.is_undefined(E),
            section: section.map(|section| section.0),
            value: symbol.st_value(E),
            size: symbol.st_size(E),
        });
    }
    Ok(symbols)
}

fn text<'d>(name: &'d [u8], longest: usize, of: &str) -> Result<&'d str, ParseError> {
    if name.len() > longest {
        return Err(ParseError::TooLarge(format!("the name of {of} has {} bytes", name.len())));
    }
    std::str::from_utf8(name)
        .map_err(|_| ParseError::Damaged(format!("the name of {of} is no text")))
}
