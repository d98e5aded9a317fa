//! What instructions ask for (Documentation/bpf/standardization/instruction-set.rst).

use std::collections::BTreeSet;

use super::Denied;
use crate::image::Program;

/// `BPF_LD | BPF_IMM | BPF_DW`: loads 64 bits, and takes the next instruction's place for half of
/// them.
const LOAD_IMM64: u8 = 0x18;
/// `BPF_JMP | BPF_CALL`, and with a register in place of a number.
const CALL: u8 = 0x85;
const CALL_REGISTER: u8 = 0x8d;

/// What a 64-bit load's source register stands for (uapi/linux/bpf.h).
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;
const PSEUDO_FUNC: u8 = 4;
/// And a call's.
const PSEUDO_CALL: u8 = 1;

/// What stands in the place of an access to a member that this kernel does not have (CO-RE), for a
/// program that asks beforehand whether it does: a helper function that there is none of, which the
/// verifier refuses wherever it can be reached.
const POISON: i32 = 0x0bad_2310;

struct Instruction {
    code: u8,
    source: u8,
    immediate: i32,
}

impl Instruction {
    fn of(bytes: u64) -> Self {
        let [code, registers, _, _, a, b, c, d] = bytes.to_le_bytes();
        Self { code, source: registers >> 4, immediate: i32::from_le_bytes([a, b, c, d]) }
    }
}

/// The helper functions that a program calls, each once; `maps`: how many maps its object has.
///
/// # Errors
/// What no program of a guest's may have.
pub(super) fn helpers(program: &Program, maps: usize) -> Result<BTreeSet<u32>, Denied> {
    let never = |what: String| Denied::Never { program: Some(program.name.clone()), what };
    let mut helpers = BTreeSet::new();
    let mut instructions = program.instructions.iter().map(|it| Instruction::of(*it));
    while let Some(it) = instructions.next() {
        match (it.code, it.source) {
            (LOAD_IMM64, source) => {
                if instructions.next().is_none() {
                    return Err(Denied::Malformed(
                        "it ends in the middle of an instruction".into(),
                    ));
                }
                match source {
                    0 | PSEUDO_FUNC => {}
                    PSEUDO_MAP_FD | PSEUDO_MAP_VALUE => {
                        let known = usize::try_from(it.immediate).is_ok_and(|at| at < maps);
                        if !known {
                            return Err(Denied::Malformed(
                                "it uses a map that is not there".into(),
                            ));
                        }
                    }
                    // Variables of the kernel's, and maps by other ways than the object's own.
                    _ => return Err(never("what is not the object's own (extern symbols)".into())),
                }
            }
            (CALL, 0) if it.immediate == POISON => {}
            (CALL, 0) => {
                helpers.insert(it.immediate.cast_unsigned());
            }
            (CALL, PSEUDO_CALL) => {}
            (CALL, _) => return Err(never("calls of the kernel's own functions (kfuncs)".into())),
            (CALL_REGISTER, _) => return Err(never("calls through a register".into())),
            _ => {}
        }
    }
    Ok(helpers)
}

/// Puts descriptors in the place of maps' numbers, in instructions that [`check`](super::check())
/// has looked at.
#[must_use]
pub fn with_maps(instructions: &[u64], descriptors: &[i32]) -> Vec<u64> {
    let mut result = instructions.to_vec();
    let mut at = 0;
    while let Some(bytes) = result.get_mut(at) {
        let it = Instruction::of(*bytes);
        at += 1;
        if it.code != LOAD_IMM64 {
            continue;
        }
        at += 1;
        if matches!(it.source, PSEUDO_MAP_FD | PSEUDO_MAP_VALUE) {
            let found = usize::try_from(it.immediate).ok().and_then(|map| descriptors.get(map));
            // No descriptor has that number.
            let descriptor = found.copied().unwrap_or(-1);
            let low = *bytes & u64::from(u32::MAX);
            *bytes = low | u64::from(descriptor.cast_unsigned()) << 32;
        }
    }
    result
}

/// Whether instructions can be walked as [`helpers`] walks them.
#[cfg(test)]
pub(super) fn load_imm64(source: u8, immediate: i32) -> [u64; 2] {
    let first = u64::from(LOAD_IMM64)
        | u64::from(source) << 12
        | u64::from(immediate.cast_unsigned()) << 32;
    [first, 0]
}

/// A call, for tests.
#[cfg(test)]
pub(super) fn call(source: u8, immediate: i32) -> u64 {
    u64::from(CALL) | u64::from(source) << 12 | u64::from(immediate.cast_unsigned()) << 32
}
