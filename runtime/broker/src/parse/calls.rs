//! Checks the relocations of instructions: what they are about must be there.

use std::collections::HashSet;

use super::ParseError;
use super::elf::{Elf, Symbol};

/// `R_BPF_64_64`: an address, in an instruction of 16 bytes.
const ADDRESS: u32 = 1;
/// `R_BPF_64_32`: a call.
const CALL: u32 = 10;
/// Opcode of an instruction of 16 bytes (`BPF_LD | BPF_IMM | BPF_DW`).
const LOAD: u8 = 0x18;
/// Opcode of a call.
const CALL_CODE: u8 = 0x85;
/// Its source register, if it calls a function of the object's.
const OWN_FUNCTION: u8 = 1;

/// Checks those of some sections.
pub(super) fn check(elf: &Elf<'_>, code: impl Iterator<Item = usize>) -> Result<(), ParseError> {
    let mut called = HashSet::new();
    for index in code {
        let section = &elf.sections[index];
        let mut relocated = HashSet::new();
        for relocation in elf.relocations(index)? {
            let symbol = &elf.symbols[relocation.symbol];
            defined(symbol)?;
            let at = usize::try_from(relocation.offset).unwrap_or(usize::MAX);
            let opcode = section.data.get(at).filter(|_| at.is_multiple_of(8)).copied();
            let fits = match (relocation.kind, opcode) {
                (ADDRESS, Some(LOAD)) => section.data.len() - at >= 16,
                (CALL, Some(CALL_CODE)) => true,
                _ => false,
            };
            if !fits {
                let why = format!("a relocation of {} fits no instruction", section.name);
                return Err(ParseError::Damaged(why));
            }
            if let Some(section) = symbol.section
                && elf.sections.get(section).is_some_and(|section| section.is_code)
            {
                called.insert(section);
            }
            relocated.insert(at);
        }
        for (number, instruction) in section.data.chunks_exact(8).enumerate() {
            let calls = instruction[0] == CALL_CODE && instruction[1] >> 4 == OWN_FUNCTION;
            if calls && !relocated.contains(&(number * 8)) {
                called.insert(index);
            }
        }
    }
    // aya knows the functions that it has linked by their address in their section alone, and would
    // take one for the other.
    if called.len() > 1 {
        let what = "calls of functions in more than one section";
        return Err(ParseError::Unsupported(what.to_owned()));
    }
    Ok(())
}

fn defined(symbol: &Symbol<'_>) -> Result<(), ParseError> {
    if !symbol.is_undefined {
        return Ok(());
    }
    let name = symbol.name;
    let is_configuration = ["CONFIG_", "LINUX_"].iter().any(|begin| name.starts_with(begin));
    Err(ParseError::Unsupported(if is_configuration {
        format!("the value {name} of the kernel's configuration (__kconfig)")
    } else {
        format!("the symbol {name} of the kernel's or of another object (extern, __ksym)")
    }))
}
