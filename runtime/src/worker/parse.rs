//! Role Parse: the BPF objects that a guest wants loaded, one after the other, with nothing else in
//! reach.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use wasi_guard_broker::{
    broker::Parser as _,
    parser::ObjectParser,
    protocol::{PARSER_WINDOW, ParseReply, ParseRequest},
    window::Window,
};

use super::failure::{Failure, Step as _};
use super::seccomp::{self, List};
use super::{Descriptors, harden, landlock, tell};
use crate::protocol::{Channel, ChannelError, FromWorker, ParseConfig, Seccomp};

/// Parses objects until nobody asks any more; the result is the exit code of the process.
///
/// # Errors
/// The step that failed.
pub fn serve(
    channel: &Channel,
    config: &ParseConfig,
    mut descriptors: Descriptors,
) -> Result<i32, Failure> {
    // Asked of the kernel once: by calls that the list does not have, and before 6.4 by a file that
    // is not to be opened any more when this process cannot be looked into.
    let _ = rustix::param::page_size();
    let window = Window::from_fd(descriptors.take(config.window)?, PARSER_WINDOW);
    let types = match config.types {
        Some(number) => Some(read_all(&File::from(descriptors.take(number)?))?),
        None => None,
    };
    let mut layers =
        harden::harden(channel, harden::Strictness::WhatTheCallerMay, &config.identity)?;
    harden::limit_parser()?;
    // As for the compiler: a second lock on the same door.
    layers.landlock = landlock::confine_compiler()?;
    layers.seccomp = Seccomp::Enforce;
    seccomp::install(List::Parse).step("install the seccomp filter")?;
    tell(channel, &FromWorker::Hardened { layers })?;

    let mut parser = ObjectParser::new(types);
    loop {
        let ParseRequest { bytes } = match channel.receive(None) {
            Ok(request) => request,
            Err(ChannelError::Closed) => return Ok(0),
            Err(error) => return Err(error).step("hear from the broker"),
        };
        let object = window.read(bytes).step("read the object")?;
        let reply = match parser.parse(&object) {
            Ok(image) => ParseReply(Ok(window.write(&image).step("hand over what was parsed")?)),
            Err(why) => ParseReply(Err(why)),
        };
        channel.send(&reply).step("answer the broker")?;
    }
}

/// A file of the kernel's, which has no size.
fn read_all(file: &File) -> Result<Vec<u8>, Failure> {
    /// More than any kernel's types have.
    const MOST: u64 = 64 << 20;
    let step = "read the kernel's types";
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read_at(&mut buffer, bytes.len() as u64).step(step)?;
        if length == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if bytes.len() as u64 > MOST {
            return Err(Failure::new(step).because("there is no end of them"));
        }
    }
}
