//! Functions in files, and programs that are attached to them.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use tempfile::TempDir;
use wasi_guard_broker::kernel::attach;
use wasi_guard_broker::kernel::elf::symbol_offset;

use crate::{Counter, KPROBE};

const SOURCE: &str = "
    __attribute__((noinline)) int traced(int a) { __asm__ volatile(\"\"); return a + 1; }
    static __attribute__((noinline)) int local(int a) { __asm__ volatile(\"\"); return a + 2; }
    __attribute__((weak, noinline)) int weak(int a) { __asm__ volatile(\"\"); return a + 3; }
    int main(void) { int sum = 0; for (int i = 0; i < 5; i++) sum += traced(i) + local(i) + weak(i);
                     return sum == 0; }
";

/// Compiles with the C compiler that Rust links with.
fn compile(directory: &TempDir, name: &str, options: &[&str]) -> PathBuf {
    let path = directory.path().join(name);
    let mut compiler = Command::new("cc")
        .args(["-x", "c", "-", "-O1", "-o"])
        .arg(&path)
        .args(options)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    compiler.stdin.take().unwrap().write_all(SOURCE.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success());
    path
}

fn run(path: &Path) {
    assert!(Command::new(path).status().unwrap().success());
}

#[test]
fn functions_of_executables_are_seen() {
    let directory = TempDir::new().unwrap();
    for (name, options) in [("pie", ["-pie", "-fPIE"]), ("fixed", ["-no-pie", "-fno-pie"])] {
        let path = compile(&directory, name, &options);
        let file = File::open(&path).unwrap();
        for function in ["traced", "local", "weak"] {
            let offset = symbol_offset(&file, function).unwrap();
            for on_return in [false, true] {
                let counter = Counter::of_all(KPROBE, 0);
                let link = attach::uprobe(counter.program.as_fd(), file.as_fd(), offset, on_return);
                let link = link.unwrap();
                run(&path);
                assert_eq!(counter.count(), 5, "{name} {function} {on_return}");
                drop(link);
                run(&path);
                assert_eq!(counter.count(), 5, "{name} {function} {on_return}");
            }
        }
        let error = symbol_offset(&file, "not_there").unwrap_err();
        assert_eq!(error.errno, Errno::NOENT);
    }
}

#[test]
fn the_file_that_was_opened_is_meant_whatever_has_its_name() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, "program", &[]);
    let file = File::open(&path).unwrap();
    let offset = symbol_offset(&file, "traced").unwrap();
    let moved = directory.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    compile(&directory, "program", &[]);
    let counter = Counter::of_all(KPROBE, 0);
    let _link = attach::uprobe(counter.program.as_fd(), file.as_fd(), offset, false).unwrap();
    run(&path);
    assert_eq!(counter.count(), 0);
    run(&moved);
    assert_eq!(counter.count(), 5);
}

#[test]
fn libraries_export_what_was_stripped() {
    let directory = TempDir::new().unwrap();
    let path = compile(&directory, "library.so", &["-shared", "-fPIC", "-s"]);
    let file = File::open(&path).unwrap();
    symbol_offset(&file, "traced").unwrap();
    symbol_offset(&file, "weak").unwrap();
    assert_eq!(symbol_offset(&file, "local").unwrap_err().errno, Errno::NOENT);
}

#[test]
fn what_is_no_program_is_refused() {
    let directory = TempDir::new().unwrap();
    let counter = Counter::of_all(KPROBE, 0);
    for content in [b"".as_slice(), b"\x7fELF", b"\x7fELF\x02", b"#!/bin/sh\nexit\n", &[0; 4096]] {
        let path = directory.path().join("text");
        std::fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(symbol_offset(&file, "main").unwrap_err().errno, Errno::NOEXEC);
        assert!(attach::uprobe(counter.program.as_fd(), file.as_fd(), 1 << 40, false).is_err());
    }
    let null = File::open("/dev/null").unwrap();
    let error = attach::uprobe(counter.program.as_fd(), null.as_fd(), 0, false).unwrap_err();
    assert_eq!(error.errno, Errno::INVAL);
    assert!(symbol_offset(&null, "main").is_err());
    let object = compile(&directory, "object.o", &["-c"]);
    let error = symbol_offset(&File::open(object).unwrap(), "main").unwrap_err();
    assert_eq!(error.errno, Errno::NOEXEC);
}

#[test]
fn damaged_programs_are_answers_not_panics() {
    let directory = TempDir::new().unwrap();
    let good = std::fs::read(compile(&directory, "program", &[])).unwrap();
    let path = directory.path().join("damaged");
    let look = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let _ = symbol_offset(&File::open(&path).unwrap(), "traced");
    };
    for length in (0..good.len()).step_by(good.len() / 200) {
        look(&good[..length]);
    }
    // The header, the segments, and the sections at the end.
    let sections = good.len() - 2000..good.len();
    for at in (0..800).chain(sections.step_by(3)) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        look(&bad);
    }
    // A table that is said to have as much as the file, which is endless and empty.
    let mut file = File::create(&path).unwrap();
    file.set_len(1 << 43).unwrap();
    let mut bad = good.clone();
    let table = u64::from_le_bytes(bad[40..48].try_into().unwrap()) as usize;
    for at in (table..bad.len()).step_by(64) {
        if let Some(size) = bad.get_mut(at + 32..at + 40) {
            size.copy_from_slice(&(1_u64 << 42).to_le_bytes());
        }
    }
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&bad).unwrap();
    let error = symbol_offset(&File::open(&path).unwrap(), "traced").unwrap_err();
    assert_eq!(error.errno, Errno::NOEXEC);
}
