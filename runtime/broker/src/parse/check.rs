//! Refuses objects that aya-obj would misread, or take without bounds of time and memory.

use std::collections::HashSet;

use object::elf;

use super::elf::{Elf, Section, Symbol};
use super::{ParseError, calls};
use crate::image::{MAX_IMAGE, MAX_NAME};
use crate::section;

/// Most programs, and most maps, of an object.
pub(super) const MAX_ITEMS: usize = 256;
/// Most functions that programs call. The kernel takes 256 in one program. aya calls itself for
/// each that a function calls, so that a chain of them needs as much of the stack.
const MAX_FUNCTIONS: usize = 512;

/// What is known of a sound object.
pub(super) struct Checked {
    /// For each section how many functions it has; 0 where there is no code.
    pub(super) functions: Vec<usize>,
    /// Sections that hold programs.
    pub(super) programs: Vec<usize>,
    /// Sections that hold functions that programs call.
    pub(super) texts: Vec<usize>,
}

/// Sections of data that stand for something that is not there.
const UNSUPPORTED: [(&str, &str); 5] = [
    (".struct_ops", "operations of the kernel's own parts (struct_ops)"),
    (".addr_space", "arenas"),
    (".kconfig", "values of the kernel's configuration (__kconfig)"),
    (".ksyms", "symbols of the kernel's (__ksym)"),
    (".jumptables", "tables of jumps"),
];

/// Looks at sections, symbols and relocations.
pub(super) fn check(elf: &Elf<'_>) -> Result<Checked, ParseError> {
    for section in &elf.sections {
        if let Some((_, what)) = UNSUPPORTED.iter().find(|(it, _)| section.name.starts_with(it)) {
            return Err(ParseError::Unsupported((*what).to_owned()));
        }
    }
    data(elf)?;
    let checked = code(elf)?;
    let code = checked.programs.iter().chain(&checked.texts);
    calls::check(elf, code.copied())?;
    maps(elf)?;
    Ok(checked)
}

/// Whether aya takes a section for one of data by its name. It looks at the beginning only.
fn is_data(section: &Section<'_>) -> bool {
    [".bss", ".data", ".rodata", "license", "version", "maps", ".maps", ".text", ".BTF"]
        .iter()
        .any(|begin| section.name.starts_with(begin))
}

fn data(elf: &Elf<'_>) -> Result<(), ParseError> {
    let mut zeros = 0_u64;
    for section in elf.sections.iter().filter(|it| is_data(it)) {
        if section.kind == elf::SHT_NOBITS && !section.name.starts_with(".bss") {
            return Err(ParseError::Damaged(format!("{} has no content", section.name)));
        }
        if section.name.starts_with(".bss") {
            zeros = zeros.saturating_add(section.size);
        }
    }
    // aya writes them out.
    if zeros > MAX_IMAGE as u64 {
        return Err(ParseError::TooLarge(format!("a .bss of {zeros} bytes")));
    }
    Ok(())
}

fn code(elf: &Elf<'_>) -> Result<Checked, ParseError> {
    let mut checked =
        Checked { functions: vec![0; elf.sections.len()], programs: Vec::new(), texts: Vec::new() };
    let mut names = HashSet::new();
    for (index, section) in elf.sections.iter().enumerate().filter(|(_, it)| it.is_code) {
        // Types and lines are told by the sections' names.
        if !names.insert(section.name) {
            return Err(ParseError::Damaged(format!("there are two sections {}", section.name)));
        }
        if section.name.starts_with(".text") {
            checked.texts.push(index);
        } else if is_data(section) {
            return Err(ParseError::Damaged(format!("{} holds instructions", section.name)));
        } else {
            section::parse(section.name)?;
            checked.programs.push(index);
        }
        if section.address != 0 || !section.data.len().is_multiple_of(8) {
            return Err(ParseError::Damaged(format!("{} holds no instructions", section.name)));
        }
    }
    let mut functions: Vec<(usize, &Symbol<'_>)> = elf
        .symbols
        .iter()
        .filter(|it| it.is_function)
        .filter_map(|it| it.section.map(|section| (section, it)))
        .filter(|(section, _)| elf.sections.get(*section).is_some_and(|it| it.is_code))
        .collect();
    functions.sort_by_key(|(section, it)| (*section, it.value));
    let mut last = (0, 0);
    for (section, function) in functions {
        let (name, holder) = (function.name, &elf.sections[section]);
        let end = function.value.saturating_add(function.size);
        let is_whole = function.value.is_multiple_of(8) && function.size.is_multiple_of(8);
        if !is_whole || function.size == 0 || end > holder.size {
            let why = format!("the function {name} does not lie in its section {}", holder.name);
            return Err(ParseError::Damaged(why));
        }
        // Else each of many programs could be all instructions of the file.
        if last.0 == section && function.value < last.1 {
            return Err(ParseError::Damaged(format!("the function {name} overlaps another")));
        }
        last = (section, end);
        checked.functions[section] += 1;
        if checked.programs.contains(&section) {
            program(function, holder)?;
        }
    }
    let count =
        |sections: &[usize]| sections.iter().map(|it| checked.functions[*it]).sum::<usize>();
    if count(&checked.programs) > MAX_ITEMS {
        return Err(ParseError::TooLarge(format!("more than {MAX_ITEMS} programs")));
    }
    if count(&checked.texts) > MAX_FUNCTIONS {
        return Err(ParseError::TooLarge(format!("more than {MAX_FUNCTIONS} functions")));
    }
    Ok(checked)
}

fn program(function: &Symbol<'_>, holder: &Section<'_>) -> Result<(), ParseError> {
    if function.name.is_empty() || function.name.len() > MAX_NAME {
        let why = format!("a program of {} has no name of 1 to {MAX_NAME} bytes", holder.name);
        return Err(ParseError::Damaged(why));
    }
    // Two of them could have the same name.
    if function.is_local {
        let what = format!("the static program {} (`static` and SEC together)", function.name);
        return Err(ParseError::Unsupported(what));
    }
    Ok(())
}

fn maps(elf: &Elf<'_>) -> Result<(), ParseError> {
    let mut typed = 0;
    for (index, section) in elf.sections.iter().enumerate() {
        if section.name.starts_with(".maps") {
            typed += 1;
            if !elf.relocations(index)?.is_empty() {
                let what = "initial values of maps (maps of maps and arrays of programs)";
                return Err(ParseError::Unsupported(what.to_owned()));
            }
        } else if section.name.starts_with("maps") {
            legacy_maps(elf, index, section)?;
        }
    }
    if typed > 1 {
        return Err(ParseError::Damaged("there are two sections .maps".to_owned()));
    }
    Ok(())
}

/// Maps in the manner of old, `struct bpf_map_def` in a section `maps`.
fn legacy_maps(elf: &Elf<'_>, index: usize, section: &Section<'_>) -> Result<(), ParseError> {
    let inside = elf.symbols.iter().filter(|it| it.section == Some(index));
    for (count, symbol) in inside.enumerate() {
        if count >= MAX_ITEMS {
            return Err(ParseError::TooLarge(format!("more than {MAX_ITEMS} maps")));
        }
        let end = symbol.value.saturating_add(symbol.size);
        let range = symbol.value as usize..end as usize;
        let Some(definition) = section.data.get(range).filter(|it| it.len() >= 20) else {
            let why = format!("the map {} does not lie in its section", symbol.name);
            return Err(ParseError::Damaged(why));
        };
        // aya reads this one as an enumeration of two, whatever it is.
        let mut pinning = [0; 4];
        for (byte, told) in pinning.iter_mut().zip(definition.iter().skip(24)) {
            *byte = *told;
        }
        if u32::from_le_bytes(pinning) > 1 {
            let what = format!("the kind of pinning that the map {} wants", symbol.name);
            return Err(ParseError::Unsupported(what));
        }
    }
    Ok(())
}
