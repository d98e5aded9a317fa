//! The bpf bench: eBPF tools as guests, beside the same tools written with aya.
//!
//! Runs as root on the host (`cargo xtask bench bpf`); no guest is guarded. Takes the folders of
//! compiled objects and guests, and prints one JSON object a line. What each of them does stands in
//! tests/guests/bpf_bench.c.

mod beside;
mod guest;
mod measures;
mod producer;
mod product;

use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use wasi_guard::protocol::WORKER_NAME;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // The parser is this executable under another name, as in the product.
    if arguments.first().is_some_and(|name| name.as_bytes() == WORKER_NAME.as_bytes()) {
        return wasi_guard::worker::main();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bpf-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [guest::ROLE, channel, window, guest, objects, ref rest @ ..] => {
            let number = |text: &str| text.parse::<i32>().context("a descriptor");
            guest::run((number(channel)?, number(window)?), guest, objects, rest)
        }
        [objects, guests] => measures::run(objects.as_ref(), guests.as_ref()),
        _ => bail!("usage: bpf-bench OBJECTS GUESTS"),
    }
}
