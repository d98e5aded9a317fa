//! Small guests in the text format.

/// Imports of WASI preview 1 that the guests below use, and a memory.
fn command(imports: &str, body: &str) -> String {
    format!(
        r#"(module
  {imports}
  (memory (export "memory") 1)
  {body}
)"#
    )
}

const FD_WRITE: &str = r#"(import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
const PROC_EXIT: &str =
    r#"(import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"#;

/// Prints `hello` and a newline.
pub(crate) fn hello() -> String {
    command(
        FD_WRITE,
        r#"(data (i32.const 8) "hello\n")
  (data (i32.const 0) "\08\00\00\00\06\00\00\00")
  (func (export "_start")
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20))))"#,
    )
}

/// [`hello`] as built for WASI preview 0, where this call is the same.
pub(crate) fn hello_preview0() -> String {
    hello().replace("wasi_snapshot_preview1", "wasi_unstable")
}

/// Ends with `code`.
pub(crate) fn exit(code: u8) -> String {
    command(PROC_EXIT, &format!(r#"(func (export "_start") (call $proc_exit (i32.const {code})))"#))
}

/// Executes `unreachable` in a function with a name.
pub(crate) fn trap() -> String {
    command(
        "",
        r#"(func $inner (unreachable))
  (func $outer (call $inner))
  (func (export "_start") (call $outer))"#,
    )
}

/// Never ends.
pub(crate) fn spin() -> String {
    command("", r#"(func (export "_start") (loop (br 0)))"#)
}

/// Waits for an hour.
pub(crate) fn wait() -> String {
    command(
        r#"(import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))"#,
        r#"(func (export "_start")
    ;; subscription: userdata 0, tag 0 (clock), id 1 (monotonic), timeout 3600 s, relative
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 128) (i32.const 1) (i32.const 200))))"#,
    )
}

/// Ends with 0 if a memory of 200 pages is granted, else with 3.
pub(crate) fn grow() -> String {
    command(
        PROC_EXIT,
        r#"(func (export "_start")
    (if (i32.eq (memory.grow (i32.const 199)) (i32.const -1))
      (then (call $proc_exit (i32.const 3)))))"#,
    )
}

/// Prints its arguments and its environment, each ended by NUL.
pub(crate) fn echo() -> String {
    command(
        &format!(
            r#"{FD_WRITE}
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $asizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $esizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))"#
        ),
        r#"(func $print (param $length i32)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (drop (call $asizes (i32.const 16) (i32.const 20)))
    (drop (call $args (i32.const 1024) (i32.const 4096)))
    (call $print (i32.load (i32.const 20)))
    (drop (call $esizes (i32.const 16) (i32.const 20)))
    (drop (call $env (i32.const 1024) (i32.const 4096)))
    (call $print (i32.load (i32.const 20))))"#,
    )
}

/// Copies stdin to stdout.
pub(crate) fn cat() -> String {
    command(
        &format!(
            r#"{FD_WRITE}
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))"#
        ),
        r#"(func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br $again)))))"#,
    )
}

/// Works on the first preopen: writes `new`, lists, renames it into `sub`, links, reads back,
/// changes times, truncates, makes and removes a directory. Ends with the number of the first step
/// that failed, or 0.
pub(crate) fn files() -> String {
    command(
        &format!(
            r#"{PROC_EXIT} {FD_WRITE}
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory"
    (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory"
    (func $rmdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_link"
    (func $link (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_readlink"
    (func $readlink (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_set_times"
    (func $times (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size"
    (func $resize (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_sync" (func $sync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $unlink (param i32 i32 i32) (result i32)))"#
        ),
        r#"(data (i32.const 100) "new")
  (data (i32.const 110) "sub")
  (data (i32.const 120) "sub/new")
  (data (i32.const 130) "link")
  (data (i32.const 140) "sym")
  (data (i32.const 150) "content")
  (data (i32.const 160) ".")
  (func $check (param $errno i32) (param $step i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $step)))))
  (func (export "_start")
    ;; create and write `new`
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 3)
      (i32.const 1) (i64.const 0x1fffffff) (i64.const 0) (i32.const 0) (i32.const 0)) (i32.const 1))
    (i32.store (i32.const 16) (i32.const 150))
    (i32.store (i32.const 20) (i32.const 7))
    (call $check (call $fd_write (i32.load (i32.const 0)) (i32.const 16) (i32.const 1)
      (i32.const 24)) (i32.const 2))
    (call $check (call $resize (i32.load (i32.const 0)) (i64.const 4)) (i32.const 3))
    (call $check (call $sync (i32.load (i32.const 0))) (i32.const 4))
    (call $check (call $close (i32.load (i32.const 0))) (i32.const 5))
    (call $check (call $mkdir (i32.const 3) (i32.const 110) (i32.const 3)) (i32.const 6))
    (call $check (call $rename (i32.const 3) (i32.const 100) (i32.const 3)
      (i32.const 3) (i32.const 120) (i32.const 7)) (i32.const 7))
    (call $check (call $link (i32.const 3) (i32.const 0) (i32.const 120) (i32.const 7)
      (i32.const 3) (i32.const 130) (i32.const 4)) (i32.const 8))
    (call $check (call $symlink (i32.const 130) (i32.const 4) (i32.const 3)
      (i32.const 140) (i32.const 3)) (i32.const 9))
    (call $check (call $readlink (i32.const 3) (i32.const 140) (i32.const 3) (i32.const 200)
      (i32.const 50) (i32.const 24)) (i32.const 10))
    (call $check (call $stat (i32.const 3) (i32.const 1) (i32.const 140) (i32.const 3)
      (i32.const 304)) (i32.const 11))
    (call $check (call $times (i32.const 3) (i32.const 1) (i32.const 130) (i32.const 4)
      (i64.const 5) (i64.const 5000000000) (i32.const 5)) (i32.const 12))
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 160) (i32.const 1)
      (i32.const 2) (i64.const 0x4000) (i64.const 0) (i32.const 0) (i32.const 0)) (i32.const 13))
    (call $check (call $readdir (i32.load (i32.const 0)) (i32.const 400) (i32.const 500)
      (i64.const 0) (i32.const 24)) (i32.const 14))
    (call $check (call $unlink (i32.const 3) (i32.const 120) (i32.const 7)) (i32.const 15))
    (call $check (call $rmdir (i32.const 3) (i32.const 110) (i32.const 3)) (i32.const 16)))"#,
    )
}

/// What [`files`] leaves out, on a file of its own: reading and writing at a place, in pieces and at
/// the end, space, advice, flags, clocks, waiting for stdin. Ends as [`files`] does.
pub(crate) fn more_files() -> String {
    command(
        &format!(
            r#"{PROC_EXIT} {FD_WRITE}
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread"
    (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite"
    (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek"
    (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_advise"
    (func $advise (param i32 i64 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_datasync" (func $datasync (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fstat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fdstat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags"
    (func $setfl (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get" (func $res (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll (param i32 i32 i32 i32) (result i32)))"#
        ),
        r#"(data (i32.const 100) "more")
  (data (i32.const 150) "content")
  (func $check (param $errno i32) (param $step i32)
    (if (local.get $errno) (then (call $proc_exit (local.get $step)))))
  (func (export "_start") (local $fd i32)
    ;; create `more`, to read and to write
    (call $check (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4)
      (i32.const 1) (i64.const 0x1fffffff) (i64.const 0) (i32.const 0) (i32.const 0)) (i32.const 1))
    (local.set $fd (i32.load (i32.const 0)))
    ;; two pieces
    (i32.store (i32.const 16) (i32.const 150))
    (i32.store (i32.const 20) (i32.const 3))
    (i32.store (i32.const 24) (i32.const 153))
    (i32.store (i32.const 28) (i32.const 4))
    (call $check (call $fd_write (local.get $fd) (i32.const 16) (i32.const 2) (i32.const 40))
      (i32.const 2))
    (call $check (call $pwrite (local.get $fd) (i32.const 16) (i32.const 2) (i64.const 2)
      (i32.const 40)) (i32.const 3))
    (call $check (call $seek (local.get $fd) (i64.const 0) (i32.const 0) (i32.const 48))
      (i32.const 4))
    (call $check (call $fd_read (local.get $fd) (i32.const 16) (i32.const 2) (i32.const 40))
      (i32.const 5))
    (call $check (call $pread (local.get $fd) (i32.const 16) (i32.const 2) (i64.const 1)
      (i32.const 40)) (i32.const 6))
    (call $check (call $advise (local.get $fd) (i64.const 0) (i64.const 1) (i32.const 3))
      (i32.const 7))
    (call $check (call $datasync (local.get $fd)) (i32.const 8))
    (call $check (call $fstat (local.get $fd) (i32.const 304)) (i32.const 9))
    (call $check (call $fdstat (local.get $fd) (i32.const 304)) (i32.const 10))
    ;; append
    (call $check (call $setfl (local.get $fd) (i32.const 1)) (i32.const 11))
    (call $check (call $fd_write (local.get $fd) (i32.const 16) (i32.const 2) (i32.const 40))
      (i32.const 12))
    (call $check (call $yield) (i32.const 13))
    (call $check (call $res (i32.const 1) (i32.const 304)) (i32.const 14))
    (call $check (call $time (i32.const 0) (i64.const 1) (i32.const 304)) (i32.const 15))
    (call $check (call $random (i32.const 304) (i32.const 8)) (i32.const 16))
    ;; until stdin can be read: subscription at 400 with tag 1 (fd_read) of descriptor 0
    (i32.store8 (i32.const 408) (i32.const 1))
    (i32.store (i32.const 416) (i32.const 0))
    (call $check (call $poll (i32.const 400) (i32.const 512) (i32.const 1) (i32.const 40))
      (i32.const 17)))"#,
    )
}

/// Opens `.` of its first preopen 60 times, closes the first of them and opens it once more. Ends
/// with 0 if every open was fine, with 1 if the 60th failed; traps if the last one failed.
pub(crate) fn open_many() -> String {
    command(
        &format!(
            r#"{PROC_EXIT}
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))"#
        ),
        r#"(data (i32.const 0) ".")
  (func $open (param $at i32) (result i32)
    (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2)
      (i64.const 0) (i64.const 0) (i32.const 0) (local.get $at)))
  (func (export "_start") (local $count i32) (local $errno i32)
    (loop $next
      (local.set $errno (call $open (i32.add (i32.const 8) (i32.shl (local.get $count) (i32.const 2)))))
      (br_if $next (i32.lt_u
        (local.tee $count (i32.add (local.get $count) (i32.const 1))) (i32.const 60))))
    (drop (call $fd_close (i32.load (i32.const 8))))
    (if (call $open (i32.const 8)) (then (unreachable)))
    (if (local.get $errno) (then (call $proc_exit (i32.const 1)))))"#,
    )
}

/// Imports a function that nobody provides.
pub(crate) fn unknown_import() -> &'static str {
    r#"(module (import "env" "mystery" (func)) (func (export "_start")))"#
}

/// A core module as a component, through wasmtime's adapter for commands.
pub(crate) fn component(module: &str) -> Vec<u8> {
    use wasi_preview1_component_adapter_provider as adapter;
    wit_component::ComponentEncoder::default()
        .module(&wat::parse_str(module).unwrap())
        .unwrap()
        .adapter(
            adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        )
        .unwrap()
        .encode()
        .unwrap()
}
