//! A module that takes over its compiler: valid Wasm, whose only section is a script.

use std::io;
use std::os::fd::BorrowedFd;

use crate::script::Script;
use crate::{engine, send};

/// Magic number and version of a module, and the number of a custom section.
const HEAD: &[u8] = b"\0asm\x01\0\0\0\0";
/// Bytes of the section's length, however short it is: LEB128 may be padded.
const LENGTH: usize = 5;
/// The section's name, with its length.
const NAME: &[u8] = b"\x12wasi-guard-captive";

/// The module with this script.
///
/// # Errors
/// If the script cannot be written.
pub fn module(script: &Script) -> io::Result<Vec<u8>> {
    let script = postcard::to_stdvec(script).map_err(io::Error::other)?;
    let section = [NAME, &script].concat();
    let septet = |at: usize| {
        let more = if at + 1 < LENGTH { 0x80 } else { 0 };
        (section.len() >> (7 * at)) as u8 & 0x7f | more
    };
    let length: Vec<u8> = (0..LENGTH).map(septet).collect();
    Ok([HEAD, &length, &section].concat())
}

/// Runs the script in a module and answers on `output`. Any other module does nothing.
///
/// # Errors
/// If writing fails, or the section holds no script.
pub fn serve_module(module: &[u8], output: BorrowedFd<'_>) -> io::Result<()> {
    let section = module.strip_prefix(HEAD).and_then(|rest| rest.get(LENGTH..));
    let Some(script) = section.and_then(|section| section.strip_prefix(NAME)) else {
        return Ok(());
    };
    let script = postcard::from_bytes(script).map_err(io::Error::other)?;
    send(output, &engine::run(script))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::{Answer, call, receive};

    #[test]
    fn the_script_of_a_module_is_run_and_other_modules_do_nothing() {
        let mut script = Script::default();
        call!(script, SYS_close, -1);
        let module = module(&script).unwrap();
        // The padded length is that of what follows it.
        let length = module.len() - HEAD.len() - LENGTH;
        assert_eq!(usize::from(module[9] & 0x7f) | usize::from(module[10] & 0x7f) << 7, length);
        assert_eq!(module[9..14].iter().map(|byte| byte >> 7).sum::<u8>(), 4);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        serve_module(&module, writer.as_fd()).unwrap();
        serve_module(b"\0asm\x01\0\0\0", writer.as_fd()).unwrap();
        serve_module(b"(module)", writer.as_fd()).unwrap();
        drop(writer);
        let answer: Option<Answer> = receive(&reader).unwrap();
        assert_eq!(answer.unwrap().results, [-i64::from(libc::EBADF)]);
        assert!(receive::<Answer>(&reader).unwrap().is_none());
    }
}
