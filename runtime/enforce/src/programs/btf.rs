//! What the loader needs of the kernel's BTF, read in one pass: offsets of struct members, and
//! the parameters of LSM hooks.
//!
//! The format is Documentation/bpf/btf.rst in the kernel's source. The input is the kernel's
//! own; still every read is checked, and a name that is not there is an answer, not a panic.

use std::{collections::HashMap, ops::Range};

use crate::error::{Error, Result};

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
pub(super) const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
pub(super) const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

/// Typedefs and qualifiers that are followed before giving up, and structs in each other.
const MAX_INDIRECTIONS: usize = 16;
/// Members that are looked at before giving up: `task_struct`, the largest, has some hundreds.
const MAX_MEMBERS: usize = 65_536;
/// Longest name, with its NUL (the kernel's `KSYM_NAME_LEN`).
const MAX_NAME: usize = 512;

/// The kernel's types.
pub struct KernelTypes {
    data: Vec<u8>,
    strings: Range<usize>,
    /// Position of each type's header by id; 0 is void.
    types: Vec<usize>,
    structs: HashMap<Vec<u8>, u32>,
    typedefs: HashMap<Vec<u8>, u32>,
    hooks: HashMap<Vec<u8>, u32>,
}

/// Place of a member in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the beginning of the outermost struct.
    pub offset: u32,
    /// Type id.
    pub kind: u32,
}

impl KernelTypes {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// If the kernel has none, or it cannot be understood.
    pub fn of_running_kernel() -> Result<Self> {
        Self::parse(read_running_kernel()?)
    }

    /// Indexes BTF data.
    ///
    /// # Errors
    /// If it is truncated or of an unknown kind.
    pub fn parse(data: Vec<u8>) -> Result<Self> {
        Self::index(data).ok_or_else(|| Error::new("understand the kernel's type information"))
    }

    fn index(data: Vec<u8>) -> Option<Self> {
        let (types, strings) = parts(&data)?;
        let mut this = Self {
            data,
            strings,
            types: vec![0],
            structs: HashMap::new(),
            typedefs: HashMap::new(),
            hooks: HashMap::new(),
        };
        let mut at = types.start;
        while at < types.end {
            let id = this.types.len() as u32;
            let info = u32_at(&this.data, at + 4)?;
            let (kind, entries) = (info >> 24 & 0x1f, info as usize & 0xffff);
            if kind == KIND_STRUCT {
                let name = this.string(u32_at(&this.data, at)?)?.to_vec();
                if !name.is_empty() {
                    this.structs.entry(name).or_insert(id);
                }
            } else if kind == KIND_TYPEDEF {
                let name = this.string(u32_at(&this.data, at)?)?.to_vec();
                this.typedefs.entry(name).or_insert(id);
            } else if kind == KIND_FUNC {
                let name = this.string(u32_at(&this.data, at)?)?;
                if let Some(hook) = name.strip_prefix(b"bpf_lsm_") {
                    let hook = hook.to_vec();
                    this.hooks.insert(hook, id);
                }
            }
            this.types.push(at);
            at += 12 + tail(kind, entries)?;
        }
        Some(this)
    }

    fn string(&self, offset: u32) -> Option<&[u8]> {
        let strings = self.data.get(self.strings.clone())?;
        let rest = strings.get(offset as usize..)?;
        rest.get(..rest.iter().take(MAX_NAME).position(|byte| *byte == 0)?)
    }

    fn header(&self, id: u32) -> Option<(usize, u32, usize)> {
        let at = *self.types.get(id as usize).filter(|at| **at != 0)?;
        let info = u32_at(&self.data, at + 4)?;
        Some((at, info, info as usize & 0xffff))
    }

    /// The type behind typedefs and qualifiers.
    fn behind(&self, mut id: u32) -> Option<u32> {
        for _ in 0..MAX_INDIRECTIONS {
            let (at, info, _) = self.header(id)?;
            match info >> 24 & 0x1f {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT => {
                    id = u32_at(&self.data, at + 8)?;
                }
                _ => return Some(id),
            }
        }
        None
    }

    /// A member of a struct, `depth` structs down in the one that was asked about. `left` is how
    /// many members may still be looked at: a struct that contains itself, or the next one twice,
    /// and so on, would keep us for ever.
    fn find(&self, id: u32, name: &[u8], depth: usize, left: &mut usize) -> Option<Member> {
        if depth == MAX_INDIRECTIONS {
            return None;
        }
        let (at, info, entries) = self.header(self.behind(id)?)?;
        if !matches!(info >> 24 & 0x1f, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let has_bitfields = info >> 31 != 0;
        for n in 0..entries {
            *left = left.checked_sub(1)?;
            let member = at + 12 + n * 12;
            let kind = u32_at(&self.data, member + 4)?;
            let raw = u32_at(&self.data, member + 8)?;
            let bits = if has_bitfields { raw & 0x00ff_ffff } else { raw };
            let member_name = self.string(u32_at(&self.data, member)?)?;
            if member_name == name {
                return Some(Member { offset: bits / 8, kind });
            }
            // Members of anonymous structs and unions count as the outer one's.
            if member_name.is_empty()
                && let Some(inner) = self.find(kind, name, depth + 1, left)
            {
                let offset = inner.offset.checked_add(bits / 8)?;
                return Some(Member { offset, kind: inner.kind });
            }
        }
        None
    }

    /// The member at a dotted path, like `f_path.dentry` of `file`.
    ///
    /// # Errors
    /// If the kernel has no such struct or member.
    pub fn member(&self, of: &str, path: &str) -> Result<Member> {
        self.member_in(self.structs.get(of.as_bytes()), of, path)
    }

    /// [`KernelTypes::member`] of a struct that has a name only as a typedef.
    ///
    /// # Errors
    /// If the kernel has no such type or member.
    pub fn typedef_member(&self, of: &str, path: &str) -> Result<Member> {
        self.member_in(self.typedefs.get(of.as_bytes()), of, path)
    }

    fn member_in(&self, id: Option<&u32>, of: &str, path: &str) -> Result<Member> {
        let missing = || {
            Error::new(format!("find {of}.{path} in the kernel's type information"))
                .hint("this kernel is newer or older than those that wasi-guard knows; see docs/architecture.md for tested ones")
        };
        let mut id = *id.ok_or_else(missing)?;
        let mut offset = 0_u32;
        let mut left = MAX_MEMBERS;
        for name in path.split('.') {
            let member = self.find(id, name.as_bytes(), 0, &mut left).ok_or_else(missing)?;
            offset = offset.checked_add(member.offset).ok_or_else(missing)?;
            id = member.kind;
        }
        Ok(Member { offset, kind: id })
    }

    /// Elements of the array that the member is.
    pub fn array_len(&self, member: Member) -> Option<u32> {
        let (at, info, _) = self.header(self.behind(member.kind)?)?;
        (info >> 24 & 0x1f == KIND_ARRAY).then(|| u32_at(&self.data, at + 20))?
    }

    /// Does the kernel have this struct?
    pub fn has_struct(&self, name: &str) -> bool {
        self.structs.contains_key(name.as_bytes())
    }

    /// Can BPF programs be attached to this LSM hook?
    pub fn has_hook(&self, name: &str) -> bool {
        self.hooks.contains_key(name.as_bytes())
    }

    /// Which parameter of the hook has this name.
    pub fn hook_parameter(&self, hook: &str, parameter: &str) -> Option<u32> {
        let (at, ..) = self.header(*self.hooks.get(hook.as_bytes())?)?;
        let (proto, info, entries) = self.header(u32_at(&self.data, at + 8)?)?;
        if info >> 24 & 0x1f != KIND_FUNC_PROTO {
            return None;
        }
        (0..entries)
            .find(|n| {
                u32_at(&self.data, proto + 12 + n * 8)
                    .and_then(|name| self.string(name))
                    .is_some_and(|name| name == parameter.as_bytes())
            })
            .map(|n| n as u32)
    }
}

/// Reads the running kernel's types.
pub(super) fn read_running_kernel() -> Result<Vec<u8>> {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    std::fs::read(PATH).map_err(|error| {
        Error::new(format!("read the kernel's type information {PATH}")).because(error).hint(
            "the kernel must be built with CONFIG_DEBUG_INFO_BTF, as Debian's, Fedora's and Ubuntu's are",
        )
    })
}

/// Where types and strings stand.
fn parts(data: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    if u16_at(data, 0)? != MAGIC {
        return None;
    }
    let header = u32_at(data, 4)? as usize;
    let types_at = header.checked_add(u32_at(data, 8)? as usize)?;
    let types_end = types_at.checked_add(u32_at(data, 12)? as usize)?;
    let strings_at = header.checked_add(u32_at(data, 16)? as usize)?;
    let strings_end = strings_at.checked_add(u32_at(data, 20)? as usize)?;
    data.get(types_at..types_end)?;
    data.get(strings_at..strings_end)?;
    Some((types_at..types_end, strings_at..strings_end))
}

/// Positions of the types' headers, the first of which has the id 1, and the place of the strings. A
/// position that cannot be read is `None`, and the last.
pub(super) fn types_of(data: &[u8]) -> Option<(impl Iterator<Item = Option<usize>>, Range<usize>)> {
    let (types, strings) = parts(data)?;
    let mut next = Some(types.start);
    let positions = std::iter::from_fn(move || {
        let at = next.filter(|at| *at < types.end)?;
        next = u32_at(data, at + 4)
            .and_then(|info| tail(info >> 24 & 0x1f, info as usize & 0xffff))
            .map(|tail| at + 12 + tail);
        Some(next.and(Some(at)))
    });
    Some((positions, strings))
}

/// Bytes that follow a type's header.
fn tail(kind: u32, entries: usize) -> Option<usize> {
    Some(match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => entries * 12,
        KIND_ENUM | KIND_FUNC_PROTO => entries * 8,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(super) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const STRINGS: &[u8] = b"\0outer\0a\0b\0bpf_lsm_h\0x\0y\0";

    /// struct outer { int a; struct { int b; }; } and FUNC bpf_lsm_h(x, y).
    pub(in super::super) fn sample() -> Vec<u8> {
        let strings = STRINGS;
        let name =
            |text: &[u8]| strings.windows(text.len()).position(|w| w == text).unwrap() as u32;
        let mut types: Vec<u32> = Vec::new();
        types.extend([0, 1 << 24, 4, 32]); // 1: int
        types.extend([0, 4 << 24 | 1, 4, name(b"b\0b"), 1, 0]); // 2: anonymous
        types[7] = name(b"b\0bpf");
        types.extend([name(b"outer"), 4 << 24 | 2, 8, name(b"a\0"), 1, 0, 0, 2, 32]); // 3
        types.extend([0, 13 << 24 | 2, 1, name(b"x\0"), 1, name(b"y\0"), 1]); // 4: proto
        types.extend([name(b"bpf_lsm_h"), 12 << 24, 4]); // 5: func
        whole(&types)
    }

    fn whole(types: &[u32]) -> Vec<u8> {
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut data = Vec::new();
        data.extend(MAGIC.to_le_bytes());
        data.extend([1, 0]);
        for word in [24, 0, types.len(), types.len(), STRINGS.len()] {
            data.extend((word as u32).to_le_bytes());
        }
        data.extend(types);
        data.extend(STRINGS);
        data
    }

    #[test]
    fn members_of_anonymous_structs_are_found() {
        let types = KernelTypes::parse(sample()).unwrap();
        assert_eq!(types.member("outer", "a").unwrap().offset, 0);
        assert_eq!(types.member("outer", "b").unwrap().offset, 4);
        assert!(types.member("outer", "c").is_err());
        assert!(types.member("inner", "a").is_err());
    }

    #[test]
    fn hook_parameters_are_found_by_name() {
        let types = KernelTypes::parse(sample()).unwrap();
        assert!(types.has_hook("h"));
        assert!(!types.has_hook("g"));
        assert_eq!(types.hook_parameter("h", "y"), Some(1));
        assert_eq!(types.hook_parameter("h", "z"), None);
    }

    #[test]
    fn damaged_data_is_an_error_not_a_panic() {
        let good = sample();
        for len in 0..good.len() {
            let _ = KernelTypes::parse(good[..len].to_vec());
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            if let Ok(types) = KernelTypes::parse(bad) {
                let _ = types.member("outer", "b");
                let _ = types.hook_parameter("h", "y");
            }
        }
    }

    /// The first two would be endless, the third a number too large.
    #[test]
    fn structs_that_contain_themselves_end() {
        let outer = 1;
        let itself = whole(&[outer, 4 << 24 | 1, 4, 0, 1, 0]);
        // Each of 20 structs has the next one three times, so the last one is there 3^20 times.
        let tree: Vec<u32> = (1..=20)
            .flat_map(|id| {
                let next = id + 1;
                [
                    if id == 1 { outer } else { 0 },
                    4 << 24 | 3,
                    4,
                    0,
                    next,
                    0,
                    0,
                    next,
                    0,
                    0,
                    next,
                    0,
                ]
            })
            .collect();
        let a = 7;
        let far = whole(
            &[
                [outer, 4 << 24 | 1, 4, 0, 2, u32::MAX].as_slice(),
                &(2..=10)
                    .flat_map(|id| [0, 4 << 24 | 1, 4, 0, id + 1, u32::MAX])
                    .collect::<Vec<_>>(),
                &[0, 4 << 24 | 1, 4, a, 0, u32::MAX],
            ]
            .concat(),
        );
        for data in [itself, whole(&tree), far] {
            let types = KernelTypes::parse(data).unwrap();
            assert!(types.has_struct("outer"));
            assert!(types.member("outer", "a").is_err());
        }
    }
}
