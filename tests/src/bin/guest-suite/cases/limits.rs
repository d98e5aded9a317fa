//! `[limits]`: a guest that needs more ends in a defined way, and a record names the limit.

use std::fs::{self, File};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Case;
use crate::lab::Lab;
use crate::program::{Outcome, guarded};

pub(super) const CASES: &[Case] = &[
    Case { name: "memory", run: memory },
    Case { name: "limit_of_memory_on_tables", run: tables },
    Case { name: "endless", run: endless },
    Case { name: "limit_of_time_on_a_guest_that_waits", run: waiting },
    Case { name: "limit_of_fuel", run: fuel },
    Case { name: "limit_of_pids_is_the_workers_too", run: pids },
    Case { name: "limit_of_cpu", run: cpu },
    Case { name: "limit_of_open_files", run: open_files },
    Case { name: "limits_of_disks", run: disks },
    Case { name: "limit_of_time_on_a_guest_that_nobody_reads", run: nobody_reads },
    Case { name: "limits_of_the_command_line", run: command_line },
];

fn run(lab: &Lab, limits: &str, words: &[&str]) -> Result<Outcome> {
    let policy = lab.folder()?.file("policy.toml", format!("version = 1\n[limits]\n{limits}\n"))?;
    // stdin stays open: a guest that waits for it has to be ended.
    guarded(&[&["run", "--policy", &policy], words].concat()).start()?.outcome()
}

fn memory(lab: &Lab) -> Result<()> {
    let limit = "memory = \"64MiB\"";
    let few = run(lab, limit, &["/guests/memory.wasm", "touch", "16"])?;
    few.exits(0)?.prints("granted\n")?.is_quiet()?;
    // A guest that asks for more than there is at once is told no, and goes on.
    let refused = run(lab, limit, &["/guests/memory.wasm", "grow", "100"])?;
    refused.exits(0)?.prints("refused\n")?;
    ensure!(refused.of_kind("limit").is_empty(), "{refused:?}");
    // One that uses all of it meets the cgroup's limit, which counts the worker as well.
    let ended = run(lab, limit, &["/guests/memory.wasm", "touch", "100"])?;
    ended
        .exits(137)?
        .prints("")?
        .says("needs more than its 67108864 bytes")?
        .limited_by("memory")?;
    ensure!(ended.of_kind("end")[0]["signal"] == 9, "{ended:?}");
    let unlimited = guarded(&["run", "/guests/memory.wasm", "touch", "100"]).finish()?;
    unlimited.exits(0)?.prints("granted\n")?;
    Ok(())
}

/// Ten million elements, of eight bytes each.
fn tables(lab: &Lab) -> Result<()> {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (table 1 funcref)
        (func (export "_start")
            (if (i32.eq (table.grow (ref.null func) (i32.const 10000000)) (i32.const -1))
                (then (call $exit (i32.const 3))))))"#;
    let guest = lab.folder()?.file("table.wat", text)?;
    guarded(&["run", &guest]).finish()?.exits(0)?;
    let refused = run(lab, "memory = \"64MiB\"", &[&guest])?;
    refused.exits(3)?;
    ensure!(refused.of_kind("limit").is_empty(), "{refused:?}");
    run(lab, "memory = \"256MiB\"", &[&guest])?.exits(0)?;
    Ok(())
}

fn endless(lab: &Lab) -> Result<()> {
    let outcome = run(lab, "time = \"1s\"", &["/guests/endless.wasm"])?;
    outcome.exits(134)?.prints("started\n")?.says("wasm trap: interrupt")?.limited_by("time")?;
    Ok(())
}

fn waiting(lab: &Lab) -> Result<()> {
    for how in ["wait", "stdin"] {
        let outcome = run(lab, "time = \"1s\"", &["/guests/endless.wasm", how])?;
        outcome.exits(134)?.prints("started\n")?.limited_by("time")?;
        ensure!(outcome.time < Duration::from_secs(120), "it took {:?}", outcome.time);
    }
    // One that ends in time is not disturbed.
    run(lab, "time = \"60s\"", &["/guests/hello.wasm"])?.exits(0)?.prints("hello\n")?.is_quiet()?;
    Ok(())
}

fn fuel(lab: &Lab) -> Result<()> {
    let outcome = run(lab, "fuel = 1000000", &["/guests/endless.wasm"])?;
    outcome.exits(134)?.prints("started\n")?.says("all fuel consumed")?.limited_by("fuel")?;
    run(lab, "fuel = 100000000", &["/guests/hello.wasm"])?.exits(0)?.prints("hello\n")?;
    Ok(())
}

/// WASI guests have no processes and no threads; a hostile one in the worker's place must not
/// have them either. The worker needs a second thread for a time limit only.
fn pids(lab: &Lab) -> Result<()> {
    run(lab, "pids = 1", &["/guests/hello.wasm"])?.exits(0)?.prints("hello\n")?;
    let outcome = run(lab, "pids = 1\ntime = \"60s\"", &["/guests/hello.wasm"])?;
    outcome.exits(125)?.prints("")?.says("error: could not ")?;
    outcome.says("hint: `[limits] pids` is 1:")?.limited_by("pids")?;
    run(lab, "pids = 8\ntime = \"60s\"\ncpu = 1.0", &["/guests/hello.wasm"])?.exits(0)?;
    Ok(())
}

/// A guest that computes waits, and goes on.
fn cpu(lab: &Lab) -> Result<()> {
    let words = ["/guests/endless.wasm", "compute"];
    let free = run(lab, "time = \"2s\"", &words)?;
    free.exits(134)?.limited_by("time")?;
    let held = run(lab, "cpu = 0.2\ntime = \"2s\"", &words)?;
    held.exits(134)?;
    let limits: Vec<_> = held.of_kind("limit").iter().map(|it| it["limit"].clone()).collect();
    ensure!(limits == ["cpu", "time"], "{held:?}");
    run(lab, "time = \"2s\"", &words)?.exits(134)?.limited_by("time")?;
    Ok(())
}

/// On the machine's second disk, so that what the runtime reads does not count.
fn disks(_: &Lab) -> Result<()> {
    const MIB: usize = 3;
    let folder = tempfile::tempdir_in("/mnt/ext4").context("a folder on ext4")?;
    let data = folder.path().join("data");
    fs::create_dir(&data)?;
    fs::write(data.join("much"), vec![7; MIB << 20])?;
    let run = |limits: &str, words: &[&str], prints: &str| -> Result<Vec<Value>> {
        let policy = folder.path().join("policy.toml");
        let preopen = "version = 1\n[[preopen]]\nguest = \"/d\"\nhost = \"data\"\n\
                       read = [\"**\"]\nwrite = [\"**\"]\ncreate = [\"**\"]\n";
        fs::write(&policy, format!("{preopen}[limits]\n{limits}\n"))?;
        // A file of a guest before would be written in that one's name, and that one is gone.
        let _ = fs::remove_file(data.join("new"));
        // What is in memory is read from no disk.
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "3")?;
        let policy = policy.to_string_lossy();
        let words = [&["run", "--policy", &policy, "/guests/files.wasm"], words].concat();
        let outcome = guarded(&words).finish()?;
        outcome.exits(0)?.prints(prints)?;
        let held = outcome.of_kind("limit").into_iter().cloned().collect::<Vec<Value>>();
        // So much at one MiB a second, of which the first may be free.
        let least = Duration::from_secs(MIB as u64 - 1);
        ensure!(
            held.is_empty() || outcome.time >= least,
            "{limits}: it took {:?}; {held:?}",
            outcome.time
        );
        Ok(held)
    };
    let free = "memory = \"1GiB\"";
    let much = format!("drain /d/much: {} bytes\n", MIB << 20);
    let blocks = (MIB * 16).to_string();
    let fill = ["fill", "/d/new", &blocks];
    for (limit, words, prints) in [
        ("read_bps = \"1MiB\"", &["drain", "/d/much"][..], much.as_str()),
        ("write_bps = \"1MiB\"", &fill[..], "fill /d/new: ok\n"),
    ] {
        ensure!(run(free, words, prints)?.is_empty(), "nothing is bounded");
        let held = run(limit, words, prints)?;
        ensure!(held.len() == 1 && held[0]["limit"] == "disk", "{held:?}");
        let detail = held[0]["detail"].as_str().unwrap_or_default();
        ensure!(detail.starts_with(&limit.replace("= \"", "").replace('"', "")), "{detail}");
        ensure!(run(free, words, prints)?.is_empty(), "nothing is bounded");
    }
    Ok(())
}

/// As many as the policy says can be open, and some more that the worker did not need; not many.
/// However many are refused, there is one record; whoever closes one can open another.
fn open_files(lab: &Lab) -> Result<()> {
    const LIMIT: usize = 30;
    const MORE: usize = 20;
    let folder = lab.folder()?;
    folder.file("data/f", "x")?;
    let preopen = "version = 1\n[[preopen]]\nguest = \"/d\"\nhost = \"data\"\nread = [\"**\"]\n\
                   write = [\"**\"]\n";
    let free = folder.file("free.toml", preopen)?;
    let bounded =
        folder.file("bounded.toml", format!("{preopen}[limits]\nopen_files = {LIMIT}\n"))?;
    let mut words = vec!["/guests/files.wasm"];
    words.extend(["hold", "/d/f"].iter().cycle().take(2 * (LIMIT + MORE)));
    words.extend(["free", "/d/f", "hold", "/d/f"]);
    let hold = |policy: &str| -> Result<(usize, usize)> {
        let outcome = guarded(&[&["run", "--policy", policy], &words[..]].concat()).finish()?;
        outcome.exits(0)?.is_quiet()?;
        let last = "free /d/f: ok\nhold /d/f: ok\n";
        ensure!(outcome.stdout.ends_with(last), "{outcome:?}");
        if outcome.stdout.contains("EIO") {
            outcome.limited_by("open_files")?;
        } else {
            ensure!(outcome.of_kind("limit").is_empty(), "{outcome:?}");
        }
        let count = |answer: &str| {
            outcome.stdout.lines().filter(|line| *line == format!("hold /d/f: {answer}")).count()
        };
        Ok((count("ok") - 1, count("EIO")))
    };
    ensure!(hold(&free)? == (LIMIT + MORE, 0), "{:?}", hold(&free)?);
    let (open, refused) = hold(&bounded)?;
    ensure!(open >= LIMIT && refused > 0 && open + refused == LIMIT + MORE, "{open}, {refused}");
    ensure!(hold(&free)? == (LIMIT + MORE, 0), "again");
    Ok(())
}

/// Output that nobody takes waits in the pipe and in the guest, not in memory that grows: of both
/// limits it meets the one of time.
fn nobody_reads(lab: &Lab) -> Result<()> {
    let limits = "version = 1\n[limits]\nmemory = \"64MiB\"\ntime = \"3s\"\n";
    let policy = lab.folder()?.file("policy.toml", limits)?;
    let copy = |stdout: std::process::Stdio| -> Result<Outcome> {
        let mut program = guarded(&["run", "--policy", &policy, "/guests/streams.wasm"]);
        program.command.stdin(File::open("/dev/zero")?).stdout(stdout);
        program.finish()
    };
    let (reader, writer) = std::io::pipe()?;
    let outcome = copy(writer.into())?;
    // The guest's thread sits in a write, so the runtime cannot end it: the supervisor does.
    outcome.exits(137)?.limited_by("time")?;
    drop(reader);
    // With somebody who takes all, it writes until its time is over.
    let outcome = copy(File::create("/dev/null")?.into())?;
    outcome.exits(134)?.limited_by("time")?;
    Ok(())
}

/// `-W fuel` and `-W timeout`, as `wasmtime run` has them.
fn command_line(_: &Lab) -> Result<()> {
    let fuel = guarded(&["run", "-W", "fuel=1000000", "/guests/endless.wasm"]).finish()?;
    fuel.exits(134)?.limited_by("fuel")?;
    let time = guarded(&["run", "-W", "timeout=1s", "/guests/endless.wasm"]).finish()?;
    time.exits(134)?.limited_by("time")?;
    Ok(())
}
