//! What refers to an object's types (`.BTF.ext`): its functions, its lines, and the accesses to the
//! kernel's types that are to be adapted.

use std::collections::HashSet;

use super::ParseError;
use super::check::Checked;
use super::elf::Elf;
use super::types::{Types, damaged, word};
use crate::image::MAX_NAME;

/// Most sections that are told of.
const MAX_SECTIONS: usize = 4096;
/// Most accesses that are to be adapted, and most members that they go through, all together.
const MAX_ACCESSES: usize = 8 << 10;
const MAX_STEPS: usize = 32 << 10;
/// Most types of the object's whose accesses are to be adapted: each is looked for among all of
/// the kernel's, of which there are more than a hundred thousand.
const MAX_TYPES: usize = 256;
/// Longest path of members, in bytes: `0:1:2`.
const MAX_PATH: usize = 256;
/// Most bytes that aya makes of this by copying it for each function and each program.
const MAX_COPIED: usize = 64 << 20;

/// `BPF_CORE_TYPE_ID_LOCAL` and `BPF_CORE_TYPE_MATCHES`.
const LOCAL_ID: u32 = 6;
const MATCHES: u32 = 12;

/// What is told of all sections.
#[derive(Default)]
pub(super) struct Records<'d>(pub(super) Vec<Record<'d>>);

/// What is told of one section.
pub(super) struct Record<'d> {
    /// The section.
    pub(super) section: &'d str,
    /// Where in `.BTF.ext` its name's place is.
    pub(super) name_at: usize,
    /// Bytes that aya keeps for each function of the section.
    kept: usize,
}

impl<'d> Records<'d> {
    /// Checks it.
    pub(super) fn check(elf: &Elf<'d>, types: &Types<'d>) -> Result<Self, ParseError> {
        let Some(section) = elf.named(".BTF.ext") else { return Ok(Self::default()) };
        let bytes = section.data;
        let header = word(bytes, 4)? as usize;
        if bytes.get(..4) != Some(&[0x9f, 0xeb, 1, 0]) || header < 24 {
            return Err(damaged("unknown version of what refers to them"));
        }
        let mut this = Self::default();
        // Functions, lines and accesses: least bytes of a record, and what aya keeps of it.
        for (at, least, kept) in [(8, 8, 8), (16, 16, 16), (24, 16, 0)] {
            if at + 8 > header {
                continue;
            }
            let (start, length) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
            let range = header + start..header + start + length;
            let part = bytes.get(range.clone()).ok_or_else(|| damaged("a part is not there"))?;
            if !part.is_empty() {
                this.part(types, part, range.start, least, kept)?;
            }
        }
        Ok(this)
    }

    fn part(
        &mut self,
        types: &Types<'d>,
        part: &[u8],
        start: usize,
        least: usize,
        kept: usize,
    ) -> Result<(), ParseError> {
        let size = word(part, 0)? as usize;
        if size < least || size > 256 || !size.is_multiple_of(4) {
            return Err(damaged("records of a size that is not known"));
        }
        let mut accesses = Accesses::default();
        let mut at = 4;
        while at < part.len() {
            let section = types.string(word(part, at)?, MAX_NAME)?;
            let count = word(part, at + 4)? as usize;
            let records = at + 8..(at + 8).saturating_add(size.saturating_mul(count));
            let content =
                part.get(records.clone()).ok_or_else(|| damaged("records are cut off"))?;
            self.0.push(Record { section, name_at: start + at, kept: kept * count });
            if self.0.len() > MAX_SECTIONS {
                return Err(ParseError::TooLarge("sections that types are told of".to_owned()));
            }
            if kept == 0 {
                for record in content.chunks_exact(size) {
                    accesses.add(types, record)?;
                }
            }
            at = records.end;
        }
        Ok(())
    }

    /// Refuses what would take too much memory: aya keeps for each function what is told of its
    /// whole section, and for each program a copy of the functions that it calls.
    pub(super) fn bound(&self, elf: &Elf<'_>, checked: &Checked) -> Result<(), ParseError> {
        let programs: usize = checked.programs.iter().map(|it| checked.functions[*it]).sum();
        let text = |index: &usize| elf.sections[*index].data.len();
        let mut copied = programs.saturating_mul(checked.texts.iter().map(text).sum());
        for record in &self.0 {
            let index = elf.sections.iter().position(|it| it.name == record.section);
            let Some(index) = index else { continue };
            let copies = match checked.texts.contains(&index) {
                true => checked.functions[index] + programs,
                false => checked.functions[index],
            };
            copied = copied.saturating_add(copies.saturating_mul(record.kept));
        }
        if copied > MAX_COPIED {
            let why = "functions, when each program has a copy of those that it calls";
            return Err(ParseError::TooLarge(why.to_owned()));
        }
        Ok(())
    }
}

/// Accesses to the kernel's types, counted.
#[derive(Default)]
struct Accesses {
    count: usize,
    steps: usize,
    types: HashSet<u32>,
}

impl Accesses {
    fn add(&mut self, types: &Types<'_>, record: &[u8]) -> Result<(), ParseError> {
        let [id, path, kind] = [4, 8, 12].map(|at| word(record, at));
        let (id, path, kind) = (id?, types.string(path?, MAX_PATH)?, kind?);
        if kind >= MATCHES {
            let what =
                format!("accesses to the kernel's types of kind {kind} (bpf_core_type_matches)");
            return Err(ParseError::Unsupported(what));
        }
        let name = types.name(id)?;
        // One without a name would be compared with all of the kernel's that have none, and what
        // stands after three underscores is not the name's.
        if kind != LOCAL_ID && (name.is_empty() || name.starts_with("___")) {
            return Err(ParseError::Unsupported("accesses to types without a name".to_owned()));
        }
        self.count += 1;
        self.steps += path.split(':').count();
        self.types.insert(id);
        let fits =
            self.count <= MAX_ACCESSES && self.steps <= MAX_STEPS && self.types.len() <= MAX_TYPES;
        if fits {
            Ok(())
        } else {
            Err(ParseError::TooLarge("accesses to the kernel's types".to_owned()))
        }
    }
}
