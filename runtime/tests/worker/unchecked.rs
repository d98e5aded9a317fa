//! The host functions of the feature `test-unchecked-host`: they do as they are asked. That the
//! kernel stops them is shown by the kernel suite.

use super::harness::Run;

fn guest(path: &str) -> String {
    format!(
        r#"(module
  (import "wasi_guard_test" "open_any" (func $open (param i32 i32 i32) (result i32)))
  (import "wasi_guard_test" "read_any" (func $read (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "{path}")
  (func (export "_start") (local $fd i32)
    (local.set $fd (call $open (i32.const 100) (i32.const {length}) (i32.const 0)))
    (if (i32.lt_s (local.get $fd) (i32.const 0))
      (then (call $proc_exit (i32.sub (i32.const 0) (local.get $fd)))))
    (i32.store (i32.const 0) (i32.const 1000))
    (i32.store (i32.const 4) (call $read (local.get $fd) (i32.const 1000) (i32.const 1000)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        length = path.len()
    )
}

#[test]
fn a_guest_opens_any_path_that_the_kernel_lets_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let module = guest(path.to_str().unwrap());
    assert_eq!(Run::new(&module).go().code(), libc::ENOENT);
    std::fs::write(&path, "content").unwrap();
    assert_eq!(Run::new(&module).go().stdout, "content");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o0);
    std::fs::set_permissions(&path, closed).unwrap();
    assert_eq!(Run::new(&module).go().code(), libc::EACCES);
}
