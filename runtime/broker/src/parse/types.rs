//! Looks at the object's types (`.BTF`) and at what refers to them (`.BTF.ext`).
//!
//! The layout is that of the kernel's Documentation/bpf/btf.rst.

use super::ParseError;
use super::check::MAX_ITEMS;
use super::elf::Elf;
use super::ext::{self, Records};

/// Longest name of a type or a member, in bytes: the kernel's `KSYM_NAME_LEN`.
const MAX_TYPE_NAME: usize = 512;
/// Bytes of the header.
const HEADER: usize = 24;

// enum BTF_KIND_*, those that have more than twelve bytes.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// An object's types, of the right form.
#[derive(Default)]
pub(super) struct Types<'d> {
    /// The strings that names are in.
    strings: &'d [u8],
    /// For each type, where its name is; of the first, which is none, nowhere.
    names: Vec<u32>,
    /// What refers to them.
    pub(super) records: Records<'d>,
}

pub(super) fn damaged(why: &str) -> ParseError {
    ParseError::Damaged(format!("its types (BTF): {why}"))
}

/// Four bytes at a place.
pub(super) fn word(bytes: &[u8], at: usize) -> Result<u32, ParseError> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(|| damaged("they are cut short"))
}

impl<'d> Types<'d> {
    /// Checks them. An object without types is none the worse.
    pub(super) fn check(elf: &Elf<'d>) -> Result<Self, ParseError> {
        let Some(section) = elf.named(".BTF") else { return Ok(Self::default()) };
        let bytes = section.data;
        let is_version = bytes.get(..8) == Some(&[0x9f, 0xeb, 1, 0, HEADER as u8, 0, 0, 0]);
        // Types, then strings, then nothing: aya writes them so again, whatever it has read.
        let [start, length, after, strings] = [8, 12, 16, 20].map(|at| word(bytes, at));
        let (length, strings) = (length? as usize, strings? as usize);
        let is_plain = start? == 0 && after? as usize == length;
        if !is_version || !is_plain || bytes.len() != HEADER + length + strings {
            return Err(damaged("unknown version or layout"));
        }
        let (types, strings) = bytes[HEADER..].split_at(length);
        if strings.first() != Some(&0) || strings.last() != Some(&0) {
            return Err(damaged("strings do not end"));
        }
        let mut this = Self { strings, names: vec![0], records: Records::default() };
        this.walk(types)?;
        this.records = ext::Records::check(elf, &this)?;
        Ok(this)
    }

    fn walk(&mut self, types: &[u8]) -> Result<(), ParseError> {
        let mut rest = types;
        let mut maps = 0;
        while !rest.is_empty() {
            let [name, info, size] = [0, 4, 8].map(|at| word(rest, at));
            let (name, info, _) = (name?, info?, size?);
            let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            // Bytes of each of `count` members, and whether they have names.
            let (each, named) = match kind {
                STRUCT | UNION | ENUM64 => (12, true),
                ENUM | FUNC_PROTO => (8, true),
                DATASEC => (12, false),
                1..=ENUM64 => (0, false),
                _ => return Err(damaged("a kind of type that is not known")),
            };
            let more = match kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                _ => each * count,
            };
            let Some((content, after)) = rest[12..].split_at_checked(more) else {
                return Err(damaged("they are cut short"));
            };
            rest = after;
            let text = self.string(name, MAX_TYPE_NAME)?;
            self.names.push(name);
            if named {
                for member in content.chunks_exact(each) {
                    self.string(word(member, 0)?, MAX_TYPE_NAME)?;
                }
            }
            match (kind, text) {
                // aya reads the linkage as an enumeration, whatever it is.
                (VAR, _) if word(content, 0)? > 2 => {
                    return Err(damaged("a linkage that is not known"));
                }
                (DATASEC, ".ksyms") => {
                    let what = "symbols of the kernel's (__ksym)";
                    return Err(ParseError::Unsupported(what.to_owned()));
                }
                (DATASEC, ".kconfig") => {
                    let what = "values of the kernel's configuration (__kconfig)";
                    return Err(ParseError::Unsupported(what.to_owned()));
                }
                (DATASEC, text) if text.starts_with(".maps") => maps += count,
                _ => {}
            }
        }
        if maps > MAX_ITEMS {
            return Err(ParseError::TooLarge(format!("more than {MAX_ITEMS} maps")));
        }
        Ok(())
    }

    /// The string at a place.
    pub(super) fn string(&self, at: u32, longest: usize) -> Result<&'d str, ParseError> {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        let rest = &rest[..rest.len().min(longest + 1)];
        let end = rest.iter().position(|byte| *byte == 0);
        let end = end.ok_or_else(|| damaged("a name that is too long or not there"))?;
        std::str::from_utf8(&rest[..end]).map_err(|_| damaged("a name that is no text"))
    }

    /// The name of a type.
    pub(super) fn name(&self, id: u32) -> Result<&'d str, ParseError> {
        let name =
            self.names.get(id as usize).ok_or_else(|| damaged("a type that is not there"))?;
        self.string(*name, MAX_TYPE_NAME)
    }

    /// Where a string would be that is appended to the strings.
    pub(super) fn end(&self) -> usize {
        self.strings.len()
    }
}
