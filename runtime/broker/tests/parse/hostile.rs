//! Objects that no compiler makes: the answer is an error or an image, soon, and for little memory.

use std::time::{Duration, Instant};

use object::{Object as _, ObjectSection as _};
use wasi_guard_broker::image::{MAX_IMAGE, MAX_OBJECT};
use wasi_guard_broker::parse::{ParseError, parse};

use crate::objects::{image, kernel, named, of, refused};

/// A test build is many times slower than one that is shipped.
const SOON: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// Tries one; whether it has an image.
fn tried(object: &[u8], kernel: &aya_obj::btf::Btf, what: impl Fn() -> String) -> bool {
    let start = Instant::now();
    let result = parse(object, Some(kernel));
    assert!(start.elapsed() < SOON, "{}: {:?}", what(), start.elapsed());
    if let Ok(image) = &result {
        assert!(image.maps.len() <= 256 && image.programs.len() <= 256);
        assert!(postcard::to_stdvec(image).unwrap().len() <= MAX_IMAGE);
    }
    result.is_ok()
}

fn put(object: &mut [u8], at: usize, bytes: &[u8]) {
    object[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where a section's bytes are, and where its entry in the table.
fn section(object: &[u8], name: &str) -> (usize, usize, usize) {
    let file = object::File::parse(object).unwrap();
    let section = file.section_by_name(name).unwrap();
    let (start, size) = section.file_range().unwrap_or((0, section.size()));
    let table = u64::from_le_bytes(object[40..48].try_into().unwrap()) as usize;
    (start as usize, size as usize, table + section.index().0 * 64)
}

#[test]
fn cut_off() {
    let kernel = kernel();
    for name in ["exec", "runqlat", "traffic"] {
        let object = named(name);
        for length in (0..object.len()).step_by(64) {
            let found = tried(&object[..length], &kernel, || format!("{name} cut at {length}"));
            assert!(!found, "{name} cut at {length}");
        }
    }
}

#[test]
fn bent_tables() {
    let kernel = kernel();
    for name in ["exec", "traffic"] {
        let object = named(name);
        let (.., table) = section(&object, ".strtab");
        let mut places: Vec<usize> = (0..64).chain(table - 64..object.len()).collect();
        for part in [".symtab", ".BTF.ext", ".reltracepoint", ".rel.text", ".reltc", ".strtab"] {
            if object::File::parse(&*object).unwrap().section_by_name(part).is_some() {
                let (start, size, _) = section(&object, part);
                places.extend(start..start + size);
            }
        }
        for place in places {
            let mut bent = object.clone();
            for value in [!object[place], object[place].wrapping_add(1)] {
                bent[place] = value;
                tried(&bent, &kernel, || format!("{name} with {value} at {place}"));
            }
        }
    }
}

#[test]
fn bent_types() {
    let kernel = kernel();
    let object = named("runqlat");
    let (start, size, _) = section(&object, ".BTF");
    for place in start..start + size {
        let mut bent = object.clone();
        for value in [!object[place], 0, object[place].wrapping_add(1)] {
            bent[place] = value;
            tried(&bent, &kernel, || format!("types with {value} at {}", place - start));
        }
    }
}

#[test]
fn numbers_that_are_huge() {
    let kernel = kernel();
    let object = named("probes");
    for place in (0..object.len() - 8).step_by(4) {
        for number in [u32::MAX, 0x00ff_ffff] {
            let mut bent = object.clone();
            put(&mut bent, place, &number.to_le_bytes());
            tried(&bent, &kernel, || format!("{number:#x} at {place}"));
        }
    }
}

#[test]
fn a_bss_of_gigabytes_takes_no_memory() {
    let object = named("runqlat");
    let (.., entry) = section(&object, ".bss");
    for size in [1_u64 << 32, 1 << 40, u64::MAX, (16 << 20) + 1] {
        let mut bent = object.clone();
        put(&mut bent, entry + 32, &size.to_le_bytes());
        let error = refused(&bent);
        assert!(matches!(&error, ParseError::TooLarge(why) if why.contains(".bss")), "{error}");
    }
    // One that is just large is more than an image holds; a lesser one is not.
    let mut bent = object.clone();
    put(&mut bent, entry + 32, &(16_u64 << 20).to_le_bytes());
    assert!(matches!(refused(&bent), ParseError::TooLarge(_)));
    put(&mut bent, entry + 32, &(1_u64 << 20).to_le_bytes());
    assert_eq!(image(&bent).maps[0].data.len(), 1 << 20);
}

#[test]
fn data_without_content() {
    let object = named("exec");
    for (name, what) in [(".rodata", ".rodata"), (".maps", ".maps"), ("license", "license")] {
        let (.., entry) = section(&object, name);
        let mut bent = object.clone();
        // SHT_NOBITS
        put(&mut bent, entry + 4, &8_u32.to_le_bytes());
        put(&mut bent, entry + 32, &(1_u64 << 33).to_le_bytes());
        let error = refused(&bent).to_string();
        assert!(error.contains(what) && error.contains("no content"), "{error}");
    }
}

#[test]
fn sections_of_the_same_bytes() {
    let object = named("exec");
    let (.., strings) = section(&object, ".debug_info");
    let mut bent = object.clone();
    put(&mut bent, strings + 24, &0_u64.to_le_bytes());
    put(&mut bent, strings + 32, &(object.len() as u64).to_le_bytes());
    assert!(refused(&bent).to_string().contains("overlap"));
}

#[test]
fn relocations_that_fit_nothing() {
    let object = named("exec");
    let (start, size, _) = section(&object, ".reltp/sched/sched_process_exec");
    assert!(size >= 16);
    for (at, bytes, why) in [
        // Beyond the end, between two instructions, no load.
        (0, &(1_u64 << 40).to_le_bytes()[..], "fits no instruction"),
        (0, &4_u64.to_le_bytes(), "fits no instruction"),
        (0, &0_u64.to_le_bytes(), "fits no instruction"),
        // No such kind, no such symbol.
        (8, &99_u32.to_le_bytes(), "fits no instruction"),
        (12, &0xffff_u32.to_le_bytes(), "no symbol"),
        (12, &0_u32.to_le_bytes(), "no symbol"),
    ] {
        let mut bent = object.clone();
        put(&mut bent, start + at, bytes);
        let error = refused(&bent).to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn types_that_contain_themselves() {
    let kernel = kernel();
    let object = named("runqlat");
    let (start, size, _) = section(&object, ".BTF");
    let types = u32::from_le_bytes(object[start + 12..start + 16].try_into().unwrap());
    // Every reference to a type becomes one to each of the first types in turn, itself among them.
    for to in 1..24_u32 {
        let mut bent = object.clone();
        for place in (start + 24..start + 24 + types as usize).step_by(4) {
            if u32::from_le_bytes(object[place..place + 4].try_into().unwrap()) <= 60 {
                put(&mut bent, place, &to.to_le_bytes());
                tried(&bent, &kernel, || format!("type {to} at {}", place - start));
                if to % 2 == 0 {
                    bent = object.clone();
                }
            }
        }
    }
    assert!(size > types as usize);
}

#[test]
fn more_than_there_may_be() {
    let many =
        |count: usize, one: &dyn Fn(usize) -> String| -> String { (0..count).map(one).collect() };
    let program = |it| format!("SEC(\"xdp\") int f{it}(void *context) {{ return 0; }}\n");
    let error = refused(&of(&many(257, &program)));
    assert!(error.to_string().contains("256 programs"), "{error}");
    assert_eq!(image(&of(&many(256, &program))).programs.len(), 256);

    let map = |it| format!("MAP(m{it}, ARRAY, u32, u32, 1);\n");
    let error = refused(&of(&(many(257, &map) + &program(0))));
    assert!(error.to_string().contains("256 maps"), "{error}");
    assert_eq!(image(&of(&(many(256, &map) + &program(0)))).maps.len(), 256);

    // A chain of functions, each of which calls the next.
    let chain = |it: usize| {
        format!("NOINLINE int g{}(int a) {{ return ktime_ns() + g{it}(a); }}\n", it + 1)
    };
    let chain = |length| {
        let start = "NOINLINE int g0(int a) { return ktime_ns(); }\n".to_owned();
        let end = format!("SEC(\"xdp\") int f(int *c) {{ return g{length}(*c); }}");
        of(&(start + &many(length, &chain) + &end))
    };
    let error = refused(&chain(512));
    assert!(error.to_string().contains("512 functions"), "{error}");
    let deep = std::thread::Builder::new().stack_size(8 << 20);
    let object = chain(511);
    let deep = deep.spawn(move || image(&object).programs[0].func_info.len()).unwrap();
    assert_eq!(deep.join().unwrap(), 513 * 8);
}

/// A large object, as large as there may be, of `filler` bytes.
#[test]
fn the_largest() {
    let kernel = kernel();
    let start = "const char filler[8000000] = { 1 };";
    let object = of(&format!("{start} SEC(\"xdp\") int f(int *c) {{ return filler[*c & 0xff]; }}"));
    assert!(object.len() < MAX_OBJECT);
    assert!(tried(&object, &kernel, || "the largest".to_owned()));
    for byte in [0x00, 0x01, 0xff] {
        let mut bent = object.clone();
        let (data, size, _) = section(&object, ".rodata");
        bent[data..data + size].fill(byte);
        // Types, strings, symbols, lines: all of them made of the same bytes.
        for name in [".BTF", ".BTF.ext", ".symtab", ".strtab"] {
            let (.., entry) = section(&object, name);
            let mut bent = bent.clone();
            put(&mut bent, entry + 24, &(data as u64).to_le_bytes());
            put(&mut bent, entry + 32, &(size as u64 / 24 * 24).to_le_bytes());
            let (.., other) = section(&object, ".rodata");
            put(&mut bent, other + 32, &8_u64.to_le_bytes());
            tried(&bent, &kernel, || format!("{name} of {byte:#x}"));
        }
    }
}
