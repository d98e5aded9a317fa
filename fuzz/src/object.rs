//! BPF objects of a text, so that a corpus of them can be read and written by hand.
//!
//! ```text
//! section NAME KIND HEX         KIND: x instructions, d data, n no content (HEX is its size)
//! function NAME SECTION OFFSET SIZE
//! variable NAME SECTION OFFSET SIZE
//! start SECTION                 a symbol for its beginning
//! relocation SECTION OFFSET KIND SYMBOL
//! bytes OFFSET HEX              replaces bytes of the file
//! ```
//!
//! Numbers are decimal, sections and symbols are told by number, from 1; a symbol of section 0 is
//! none of the object's. A line that makes no sense is left out.

/// Bytes of a file and of a symbol, in which `u64` stand.
const HEADER: usize = 64;

#[derive(Default)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    link: u32,
    info: u32,
    size: u64,
    data: Vec<u8>,
}

/// The object of a text; of bytes that begin like one they are it.
pub fn object(input: &[u8]) -> Vec<u8> {
    if input.starts_with(b"\x7fELF") {
        return input.to_vec();
    }
    let text = String::from_utf8_lossy(input);
    let mut sections = vec![Section::default()];
    let mut names = vec![0];
    let mut symbols = vec![0; 24];
    let mut relocations = Vec::new();
    let mut patches = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["section", name, kind, content] => {
                let mut section =
                    Section { name: put(&mut names, name), kind: 1, ..Section::default() };
                section.flags = if kind == "x" { 6 } else { 3 };
                section.data = hex(content);
                section.size = section.data.len() as u64;
                if kind == "n" {
                    section.kind = 8;
                    section.size = number(content);
                    section.data.clear();
                }
                sections.push(section);
            }
            [kind @ ("function" | "variable"), name, section, offset, size] => {
                let name = put(&mut names, name);
                symbols.extend(name.to_le_bytes());
                // Global.
                symbols.extend([if kind == "function" { 0x12 } else { 0x11 }, 0]);
                symbols.extend((number(section) as u16).to_le_bytes());
                symbols.extend(number(offset).to_le_bytes());
                symbols.extend(number(size).to_le_bytes());
            }
            ["start", section] => {
                symbols.extend([0, 0, 0, 0, 3, 0]);
                symbols.extend((number(section) as u16).to_le_bytes());
                symbols.extend([0; 16]);
            }
            ["relocation", section, offset, kind, symbol] => {
                let info = number(symbol) << 32 | number(kind) & 0xffff_ffff;
                relocations.push((number(section) as u32, number(offset), info));
            }
            ["bytes", offset, content] => patches.push((number(offset) as usize, hex(content))),
            _ => {}
        }
    }
    let own = sections.len();
    let table = own as u32;
    let mut tables = vec![(".symtab", 2, table + 1, 1, symbols)];
    for target in 1..table {
        let entries = relocations.iter().filter(|it| it.0 == target);
        let entries: Vec<u8> =
            entries.flat_map(|it| [it.1.to_le_bytes(), it.2.to_le_bytes()]).flatten().collect();
        if !entries.is_empty() {
            tables.push((".rel", 9, table, target, entries));
        }
    }
    let symtab = tables.remove(0);
    let strings = put(&mut names, ".strtab");
    let mut all = vec![symtab, (".strtab", 3, 0, 0, Vec::new())];
    all.extend(tables);
    for (name, kind, link, info, data) in all {
        let name = if kind == 3 { strings } else { put(&mut names, name) };
        let size = data.len() as u64;
        sections.push(Section { name, kind, flags: 0, link, info, size, data });
    }
    sections[own + 1].size = names.len() as u64;
    sections[own + 1].data = names;
    let mut file = write(&sections, own as u16 + 1);
    for (at, bytes) in patches {
        if let Some(place) = at.checked_add(bytes.len()).and_then(|end| file.get_mut(at..end)) {
            place.copy_from_slice(&bytes);
        }
    }
    file
}

/// The file: header, contents, table.
fn write(sections: &[Section], names: u16) -> Vec<u8> {
    let mut file = vec![0; HEADER];
    let mut entries = Vec::new();
    for section in sections {
        file.resize(file.len().next_multiple_of(8), 0);
        let offset = file.len() as u64;
        file.extend(&section.data);
        entries.extend(section.name.to_le_bytes());
        entries.extend(section.kind.to_le_bytes());
        for number in [section.flags, 0, offset, section.size] {
            entries.extend(number.to_le_bytes());
        }
        entries.extend(section.link.to_le_bytes());
        entries.extend(section.info.to_le_bytes());
        let each: u64 = match section.kind {
            2 => 24,
            9 => 16,
            _ => 0,
        };
        entries.extend(8_u64.to_le_bytes());
        entries.extend(each.to_le_bytes());
    }
    file.resize(file.len().next_multiple_of(8), 0);
    let table = file.len() as u64;
    file.extend(entries);
    // 64 bits, little endian, relocatable, for BPF.
    let start = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 247, 0, 1];
    file[..start.len()].copy_from_slice(&start);
    file[40..48].copy_from_slice(&table.to_le_bytes());
    for (at, number) in [(52, 64), (58, 64), (60, sections.len() as u16), (62, names)] {
        file[at..at + 2].copy_from_slice(&number.to_le_bytes());
    }
    file
}

fn put(names: &mut Vec<u8>, name: &str) -> u32 {
    let place = names.len() as u32;
    names.extend(name.as_bytes());
    names.push(0);
    place
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|it| digit(it[0]) << 4 | digit(it[1])).collect()
}

/// `.BTF` of a kernel that has an `int` and a `task_struct` with two members.
pub fn kernel() -> Vec<u8> {
    let types: [u32; 13] = [
        1,
        0x0100_0000,
        4,
        0x20, // int
        5,
        0x0400_0002,
        112,
        17,
        1,
        800,
        21,
        1,
        832, // pid and tgid
    ];
    let strings = b"\0int\0task_struct\0pid\0tgid\0";
    let length = (types.len() * 4) as u32;
    let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
    let words = header.into_iter().chain(types);
    words.flat_map(u32::to_le_bytes).chain(*strings).collect()
}
