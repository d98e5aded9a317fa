//! What the loader of aya (`EbpfLoader::load`) does up to the first system call, in its order.

use std::collections::{BTreeMap, HashSet};
use std::mem;

use aya_obj::btf::{Btf, BtfFeatures};
use aya_obj::generated::{bpf_insn, bpf_map_type};
use aya_obj::maps::PinningType;
use aya_obj::{EbpfSectionKind, Object};

use super::ParseError;
use super::check::MAX_ITEMS;
use crate::image::{Image, MAX_NAME, Map, Program};

/// Bytes of `struct bpf_func_info` and `struct bpf_line_info` as aya writes them, whatever size
/// the object's are of.
const FUNC_INFO: u32 = 8;
const LINE_INFO: u32 = 16;

/// Every kernel that we run on, 6.1 and later, knows all of these kinds of types.
const FEATURES: BtfFeatures = BtfFeatures::new(true, true, true, true, true, true, true, true);

/// Makes an image of an object's bytes; `sections` are the names of its sections, by their number.
pub(super) fn image(
    bytes: &[u8],
    kernel: Option<&Btf>,
    sections: &[String],
) -> Result<Image, ParseError> {
    let mut object =
        Object::parse(bytes).map_err(|error| ParseError::aya("read the object", &error))?;
    let btf = object
        .fixup_and_sanitize_btf(&FEATURES)
        .map_err(|error| ParseError::aya("read the object's types", &error))?
        .map(Btf::to_bytes)
        .unwrap_or_default();
    if object.has_btf_relocations() {
        let kernel = kernel.ok_or(ParseError::NoKernelTypes)?;
        object
            .relocate_btf(kernel)
            .map_err(|error| ParseError::aya("adapt the object to the kernel's types", &error))?;
    }
    // By name, so that the same object always has the same image.
    let maps: BTreeMap<String, aya_obj::Map> = mem::take(&mut object.maps)
        .into_iter()
        // As libbpf does it: there is nothing in them, and the kernel has no maps of nothing.
        .filter(|(_, map)| !(is_data(map) && map.data().is_empty()))
        .collect();
    if maps.len() > MAX_ITEMS {
        return Err(ParseError::TooLarge(format!("{} maps", maps.len())));
    }
    let texts: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let numbered = maps.iter().zip(0..).map(|((name, map), place)| (name.as_str(), place, map));
    object
        .relocate_maps(numbered, &texts)
        .map_err(|error| ParseError::aya("link the maps", &error))?;
    object.relocate_calls(&texts).map_err(|error| ParseError::aya("link the functions", &error))?;
    let license = object
        .license
        .to_str()
        .map_err(|_| ParseError::Damaged("the license is no text".to_owned()))?;
    if license.len() > MAX_NAME {
        return Err(ParseError::TooLarge(format!("a license of {} bytes", license.len())));
    }
    Ok(Image {
        license: license.to_owned(),
        maps: maps.iter().map(|(name, it)| map(name, it)).collect::<Result<_, _>>()?,
        programs: programs(&object, !btf.is_empty(), sections)?,
        btf,
    })
}

/// `.rodata`, `.data` and `.bss`.
fn is_data(map: &aya_obj::Map) -> bool {
    use EbpfSectionKind::{Bss, Data, Rodata};
    matches!(map.section_kind(), Bss | Data | Rodata)
}

fn map(name: &str, map: &aya_obj::Map) -> Result<Map, ParseError> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(ParseError::TooLarge(format!("the name of a map has {} bytes", name.len())));
    }
    let mut made = shape(name, map)?;
    made.pinned = map.pinning() == PinningType::ByName;
    if is_data(map) {
        made.data = map.data().to_vec();
        made.frozen = map.section_kind() == EbpfSectionKind::Rodata;
    }
    use bpf_map_type::{BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS};
    let holds_maps = [BPF_MAP_TYPE_ARRAY_OF_MAPS as u32, BPF_MAP_TYPE_HASH_OF_MAPS as u32];
    if holds_maps.contains(&made.kind) {
        let inner = map.inner().ok_or_else(|| {
            ParseError::Unsupported(format!("the map of maps {name}, which says not of what"))
        })?;
        made.inner = Some(Box::new(shape(name, &inner)?));
    }
    Ok(made)
}

/// What a map is like, and nothing of what is in it.
fn shape(name: &str, map: &aya_obj::Map) -> Result<Map, ParseError> {
    use bpf_map_type::*;
    let kind = map.map_type();
    let without = |what: &str| Err(ParseError::Unsupported(format!("the map {name}, {what}")));
    match bpf_map_type::try_from(kind) {
        Ok(BPF_MAP_TYPE_ARENA) => return without("an arena"),
        Ok(BPF_MAP_TYPE_STRUCT_OPS) => return without("operations of the kernel's own parts"),
        Ok(BPF_MAP_TYPE_USER_RINGBUF) => return without("a ring buffer from user to kernel"),
        Ok(BPF_MAP_TYPE_UNSPEC) | Err(_) => {
            return without(&format!("of kind {kind}, which is not known"));
        }
        Ok(_) => {}
    }
    let (btf_key, btf_value) = types(map);
    let mut made = Map {
        name: name.to_owned(),
        kind,
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        extra: map.map_extra(),
        btf_key,
        btf_value,
        ..Map::default()
    };
    if kind == BPF_MAP_TYPE_RINGBUF as u32 {
        made.value_size = 0;
        made.max_entries = whole_pages(made.max_entries);
    }
    Ok(made)
}

/// Bytes of a ring buffer: pages, and of these a power of two. What is more than there can be stays
/// as it is, for the kernel to refuse.
fn whole_pages(bytes: u32) -> u32 {
    let page = u32::try_from(rustix::param::page_size()).unwrap_or(4096);
    let pages = bytes.div_ceil(page).checked_next_power_of_two();
    match pages.and_then(|pages| pages.checked_mul(page)) {
        Some(rounded) if bytes > 0 => rounded,
        _ => bytes,
    }
}

/// Types of a map's keys and values: none where the kernel takes none, which is where aya and
/// libbpf give none, and where one alone would be refused.
fn types(map: &aya_obj::Map) -> (u32, u32) {
    use bpf_map_type::*;
    let aya_obj::Map::Btf(typed) = map else { return (0, 0) };
    let (key, value) = (typed.def.btf_key_type_id, typed.def.btf_value_type_id);
    match bpf_map_type::try_from(map.map_type()) {
        Ok(
            BPF_MAP_TYPE_PERF_EVENT_ARRAY
            | BPF_MAP_TYPE_CGROUP_ARRAY
            | BPF_MAP_TYPE_STACK_TRACE
            | BPF_MAP_TYPE_ARRAY_OF_MAPS
            | BPF_MAP_TYPE_HASH_OF_MAPS
            | BPF_MAP_TYPE_DEVMAP
            | BPF_MAP_TYPE_DEVMAP_HASH
            | BPF_MAP_TYPE_CPUMAP
            | BPF_MAP_TYPE_XSKMAP
            | BPF_MAP_TYPE_SOCKMAP
            | BPF_MAP_TYPE_SOCKHASH
            | BPF_MAP_TYPE_QUEUE
            | BPF_MAP_TYPE_STACK
            | BPF_MAP_TYPE_RINGBUF,
        ) => (0, 0),
        Ok(BPF_MAP_TYPE_BLOOM_FILTER) => (0, value),
        _ if key == 0 || value == 0 => (0, 0),
        _ => (key, value),
    }
}

fn programs(object: &Object, typed: bool, sections: &[String]) -> Result<Vec<Program>, ParseError> {
    let mut programs = Vec::with_capacity(object.programs.len());
    for (name, program) in &object.programs {
        let function = object.functions.get(&program.function_key());
        let section = sections.get(program.section_index);
        let (Some(function), Some(section)) = (function, section) else {
            return Err(ParseError::Damaged(format!("the program {name} is not there")));
        };
        let mut made = Program {
            name: name.clone(),
            section: section.clone(),
            instructions: function.instructions.iter().map(instruction).collect(),
            ..Program::default()
        };
        if typed {
            made.func_info = function.func_info.func_info_bytes();
            made.line_info = function.line_info.line_info_bytes();
        }
        if !made.func_info.is_empty() {
            made.func_info_size = FUNC_INFO;
        }
        if !made.line_info.is_empty() {
            made.line_info_size = LINE_INFO;
        }
        programs.push(made);
    }
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(programs)
}

/// The eight bytes of an instruction.
fn instruction(it: &bpf_insn) -> u64 {
    let registers = it.dst_reg() | it.src_reg() << 4;
    let [off0, off1] = it.off.to_le_bytes();
    let [imm0, imm1, imm2, imm3] = it.imm.to_le_bytes();
    u64::from_le_bytes([it.code, registers, off0, off1, imm0, imm1, imm2, imm3])
}
