//! Programs and types.

use std::os::fd::AsFd as _;

use rustix::io::Errno;
use wasi_guard_broker::image;
use wasi_guard_broker::kernel::{LoadSpec, btf_load, map_create, program_load};

use crate::{ARRAY, RAW_TRACEPOINT, SOCKET_FILTER, TRACEPOINT, asm, need_root, spec};

#[test]
fn a_refused_program_comes_with_the_verifiers_log() {
    need_root();
    // Reads what nobody wrote.
    let error = program_load(&spec(TRACEPOINT, &[asm::load(0, 9, 0), asm::exit()])).unwrap_err();
    assert_eq!(error.errno, Errno::ACCESS);
    assert!(error.log.contains("R9 !read_ok"), "{}", error.log);
    assert_eq!(error.step, "load the program \"test\"");
    let text = error.to_string();
    assert!(text.starts_with("could not load the program \"test\": "), "{text}");
}

#[test]
fn of_a_long_log_the_end_is_there() {
    need_root();
    let mut instructions = vec![asm::mov(0, 0); 60_000];
    instructions.extend([asm::load(0, 9, 0), asm::exit()]);
    let error = program_load(&spec(TRACEPOINT, &instructions)).unwrap_err();
    // That the log was too long for its room is not the reason.
    assert_eq!(error.errno, Errno::ACCESS);
    assert!(error.log.len() <= 16 << 10 && error.log.len() > 8 << 10, "{}", error.log.len());
}

#[test]
fn a_program_without_instructions_or_of_no_type_is_refused() {
    need_root();
    assert!(program_load(&spec(TRACEPOINT, &[])).is_err());
    let short = [asm::mov(0, 0), asm::exit()];
    assert!(program_load(&spec(9999, &short)).is_err());
    let error = program_load(&LoadSpec { license: "G\0PL", ..spec(TRACEPOINT, &short) });
    assert_eq!(error.unwrap_err().errno, Errno::INVAL);
    program_load(&LoadSpec { name: "a name/that is too long", ..spec(SOCKET_FILTER, &short) })
        .unwrap();
}

/// `int`, a function without parameters that answers with it, and a struct of one.
fn types() -> Vec<u8> {
    let strings = b"\0int\0f\0s\0a\0";
    let types: [u32; 17] = [
        1,
        1 << 24,
        4,
        1 << 24 | 32, // 1: int
        0,
        13 << 24,
        1, // 2: int (void)
        5,
        12 << 24,
        2, // 3: f
        7,
        4 << 24 | 1,
        4,
        9,
        1,
        0, // 4: s
        0,
    ];
    let types = &types[..16];
    let mut data = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32] {
        data.extend(word.to_le_bytes());
    }
    data.extend(types.iter().flat_map(|word| word.to_le_bytes()));
    data.extend(strings);
    data
}

#[test]
fn types_go_with_maps_and_programs() {
    need_root();
    let btf = btf_load(&types()).unwrap();
    let instructions = [asm::mov(0, 0), asm::exit()];
    let function = [0_u32.to_ne_bytes(), 3_u32.to_ne_bytes()].concat();
    let good = LoadSpec {
        btf: Some(btf.as_fd()),
        func_info: &function,
        func_info_size: 8,
        ..spec(RAW_TRACEPOINT, &instructions)
    };
    program_load(&good).unwrap();
    // Records of another size than all of them together.
    let error = program_load(&LoadSpec { func_info: &function[..7], ..good }).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    let map = image::Map {
        kind: ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        btf_key: 1,
        btf_value: 4,
        ..image::Map::default()
    };
    map_create(&map, Some(btf.as_fd()), None).unwrap();
    // It does without types that do not fit.
    map_create(&image::Map { btf_value: 99, ..map.clone() }, Some(btf.as_fd()), None).unwrap();
}

#[test]
fn damaged_types_are_refused_with_a_reason() {
    need_root();
    assert!(btf_load(&[]).is_err());
    let mut damaged = types();
    damaged[24] = 99; // a name beyond the end
    let error = btf_load(&damaged).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    assert!(error.log.contains("name_offset"), "{}", error.log);
}
