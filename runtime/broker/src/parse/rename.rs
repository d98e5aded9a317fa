//! Gives sections that aya-obj does not know a name that it does.
//!
//! It reads a kind of program from each name, and nothing of what we take from it depends on the
//! kind: so `tc`, `tcx/ingress`, `ksyscall/openat` and all others become `classifier/0`,
//! `classifier/1` and so on. Types and lines are told by names of sections, too, and these names
//! are among the types' strings: both tables of strings are copied to the end of the file, with
//! the new names after the old.

use std::str::FromStr as _;

use aya_obj::ProgramSection;

use super::ParseError;
use super::check::Checked;
use super::elf::Elf;
use super::types::Types;

/// Bytes of an entry of the table of sections, and where in it what is.
const ENTRY: usize = 64;
const NAME: usize = 0;
const OFFSET: usize = 24;
const SIZE: usize = 32;
/// Where in the header of `.BTF` the length of the strings is.
const STRINGS: usize = 20;

/// Changes of a file.
#[derive(Default)]
pub(super) struct Edits {
    /// Bytes that replace others, and where.
    replaced: Vec<(usize, Vec<u8>)>,
    /// Bytes that come after the last.
    appended: Vec<u8>,
}

/// What has to change.
pub(super) fn edits(
    elf: &Elf<'_>,
    types: &Types<'_>,
    checked: &Checked,
) -> Result<Edits, ParseError> {
    let mut edits = Edits::default();
    let unknown: Vec<usize> = checked
        .programs
        .iter()
        .copied()
        .filter(|index| ProgramSection::from_str(elf.sections[*index].name).is_err())
        .collect();
    if unknown.is_empty() {
        return Ok(edits);
    }
    let mut names = elf.sections[elf.names].data.to_vec();
    let mut strings = Vec::new();
    let ext = elf.named(".BTF.ext");
    for index in unknown {
        let section = &elf.sections[index];
        let name = format!("classifier/{index}\0");
        edits.replace(elf.table + index * ENTRY + NAME, (names.len() as u32).to_le_bytes());
        names.extend(name.as_bytes());
        let place = types.end() + strings.len();
        strings.extend(name.as_bytes());
        for record in types.records.0.iter().filter(|it| it.section == section.name) {
            if let Some(ext) = ext {
                edits.replace(ext.offset + record.name_at, (place as u32).to_le_bytes());
            }
        }
    }
    edits.move_section(elf, elf.names, names);
    if let Some(index) = elf.sections.iter().position(|it| it.name == ".BTF") {
        let mut btf = elf.sections[index].data.to_vec();
        btf.extend(&strings);
        let length = (types.end() + strings.len()) as u32;
        btf[STRINGS..STRINGS + 4].copy_from_slice(&length.to_le_bytes());
        edits.move_section(elf, index, btf);
    }
    Ok(edits)
}

impl Edits {
    fn replace<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.replaced.push((at, bytes.to_vec()));
    }

    /// Makes these the bytes of a section.
    fn move_section(&mut self, elf: &Elf<'_>, index: usize, bytes: Vec<u8>) {
        // Tables may be read as numbers of eight bytes.
        while !(elf.bytes.len() + self.appended.len()).is_multiple_of(8) {
            self.appended.push(0);
        }
        let start = elf.bytes.len() + self.appended.len();
        let entry = elf.table + index * ENTRY;
        self.replace(entry + OFFSET, (start as u64).to_le_bytes());
        self.replace(entry + SIZE, (bytes.len() as u64).to_le_bytes());
        self.appended.extend(bytes);
    }
}

/// Changes the file.
pub(super) fn apply(file: &mut Vec<u8>, edits: Edits) {
    for (at, bytes) in edits.replaced {
        // All of it lies in tables that were read.
        if let Some(place) = file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
    }
    file.extend(edits.appended);
}
