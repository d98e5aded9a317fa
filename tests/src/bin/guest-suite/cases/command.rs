//! A guest is a command: arguments, environment, streams, exit codes as `wasmtime run` has them.

use std::process::Stdio;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::Case;
use crate::lab::Lab;
use crate::program::guarded;

pub(super) const CASES: &[Case] = &[
    Case { name: "hello", run: hello },
    Case { name: "component", run: component },
    Case { name: "streams", run: streams },
    Case { name: "trap", run: trap },
    Case { name: "nothing_is_inherited_that_was_not_asked_for", run: nothing_is_inherited },
    Case { name: "a_closed_stdout_is_the_guests_error", run: closed_stdout },
    Case { name: "modules_that_cannot_run_are_refused", run: modules_that_cannot_run },
];

fn hello(_: &Lab) -> Result<()> {
    let outcome = guarded(&["run", "/guests/hello.wasm"]).finish()?;
    outcome.exits(0)?.prints("hello\n")?.is_quiet()?.denials(&[])?;
    let start = &outcome.of_kind("start")[0];
    for layer in ["bpf-lsm", "no-new-privs", "no-capabilities", "seccomp"] {
        let layers = start["layers"].as_array().map_or(&[][..], Vec::as_slice);
        ensure!(layers.iter().any(|it| it == layer), "{layer} is not in force: {start}");
    }
    ensure!(start["mode"] == "enforce" && start["policy"] == "(command line)", "{start}");
    Ok(())
}

/// WASI 0.2.
fn component(_: &Lab) -> Result<()> {
    let outcome = guarded(&["run", "/guests/component.wat"]).finish()?;
    outcome.exits(0)?.prints("hello from a component\n")?.is_quiet()?.denials(&[])?;
    Ok(())
}

fn streams(_: &Lab) -> Result<()> {
    let mut program = guarded(&[
        "run",
        "--env",
        "GREETING=good day",
        "--env=PASSED_ON",
        "/guests/streams.wasm",
        "--dir",
        "two words",
        "",
    ])
    .stdin("line one\nline two");
    program.command.env("PASSED_ON", "value").env("KEPT", "back");
    let outcome = program.finish()?;
    outcome.exits(7)?.prints(
        "arg streams.wasm\narg --dir\narg two words\narg \n\
         env GREETING=good day\nenv PASSED_ON=value\nline one\nline two",
    )?;
    ensure!(outcome.says == "done", "stderr is the guest's: {outcome:?}");
    ensure!(outcome.of_kind("end")[0]["exit_code"] == 7, "{outcome:?}");
    let named = guarded(&["run", "--argv0", "other", "/guests/streams.wasm"]).finish()?;
    named.exits(7)?.prints("arg other\n")?;
    Ok(())
}

fn trap(_: &Lab) -> Result<()> {
    let outcome = guarded(&["run", "/guests/trap.wasm"]).finish()?;
    outcome
        .exits(134)?
        .prints("before\n")?
        .says("Error: failed to run main module `/guests/trap.wasm`")?
        .says("wasm trap: wasm `unreachable` instruction executed")?;
    ensure!(outcome.of_kind("end")[0]["exit_code"] == 134, "{outcome:?}");
    Ok(())
}

/// No directory, no environment, no descriptor besides the three.
fn nothing_is_inherited(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    folder.file("file", "text")?;
    let mut program = guarded(&["run", "/guests/files.wasm", "read", "file", "list", "/"]);
    program.command.current_dir(folder.path(""));
    let outcome = program.finish()?;
    // WASI itself has nothing to look in, thus the kernel has nothing to deny.
    outcome.exits(0)?.denials(&[])?;
    ensure!(!outcome.stdout.contains("text") && !outcome.stdout.contains(": ok"), "{outcome:?}");
    Ok(())
}

/// As under `wasmtime run` 48: the guest is told of an I/O error and ends as it likes; no signal.
fn closed_stdout(_: &Lab) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut program = guarded(&["run", "/guests/hello.wasm"]);
    program.command.stdout(Stdio::from(writer));
    let outcome = program.finish()?;
    outcome.exits(1)?.says("stdout: I/O error")?.denials(&[])?;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full")?;
    let mut program = guarded(&["run", "/guests/hello.wasm"]);
    program.command.stdout(Stdio::from(full));
    program.finish()?.exits(1)?.says("stdout: No space left on device")?;
    Ok(())
}

fn modules_that_cannot_run(lab: &Lab) -> Result<()> {
    let folder = lab.folder()?;
    let whole = std::fs::read("/guests/hello.wasm")?;
    let truncated = folder.file("truncated.wasm", &whole[..whole.len() / 2])?;
    let text = folder.file("text.wasm", "not wasm")?;
    let unknown = folder
        .file("unknown.wat", "(module (import \"a\" \"b\" (func)) (func (export \"_start\")))")?;
    let missing = folder.text("missing.wasm");
    for module in [&truncated, &text, &unknown, &missing] {
        let outcome = guarded(&["run", module]).finish()?;
        outcome.exits(125)?.prints("")?.says("error: could not ")?;
        ensure!(outcome.records.is_empty(), "{outcome:?}");
        lab.check_clean()?;
    }
    // The next one is not disturbed.
    let good = guarded(&["run", "/guests/hello.wasm"]).finish()?;
    good.exits(0)?.denials(&[] as &[serde_json::Value])?;
    ensure!(good.of_kind("end")[0] == &json!(good.records.last()), "one run, one audit");
    Ok(())
}
