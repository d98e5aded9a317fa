//! Messages: four bytes of length, then postcard.

use std::io;
use std::os::fd::AsFd;

use rustix::io::{Errno, read, write};
use serde::{Serialize, de::DeserializeOwned};

/// Longest message; a script that fills a pipe is the longest there is.
const LONGEST: usize = 1 << 20;

/// Sends one message.
///
/// # Errors
/// If it is too long, or cannot be written.
pub fn send(output: impl AsFd, message: &impl Serialize) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > LONGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let framed = [&(bytes.len() as u32).to_ne_bytes(), bytes.as_slice()].concat();
    let mut rest = framed.as_slice();
    while !rest.is_empty() {
        match write(&output, rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The next message; none if the other end has closed.
///
/// # Errors
/// If reading fails, or it is no such message.
pub fn receive<T: DeserializeOwned>(input: impl AsFd) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    if !fill(&input, &mut length)? {
        return Ok(None);
    }
    let length = u32::from_ne_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    if !fill(&input, &mut bytes)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map(Some).map_err(io::Error::other)
}

/// Reads all of `bytes`; false if there is nothing more to read.
fn fill(input: impl AsFd, mut bytes: &mut [u8]) -> io::Result<bool> {
    let wanted = bytes.len();
    while !bytes.is_empty() {
        match read(&input, &mut *bytes) {
            Ok(0) if bytes.len() == wanted => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Race, Rounds, Script, call, engine};

    #[test]
    fn messages_come_as_they_were_sent_and_then_an_end() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut script = Script::default();
        let text = script.text("hello");
        call!(script, SYS_write, 1, text, 5);
        send(&writer, &script).unwrap();
        drop(writer);
        assert_eq!(receive::<Script>(&reader).unwrap(), Some(script));
        assert_eq!(receive::<Script>(&reader).unwrap(), None);
    }

    #[test]
    fn half_a_message_and_a_long_one_are_errors() {
        for bytes in [&[9, 0, 0, 0, 1][..], &[1, 0][..], &[255, 255, 255, 255][..]] {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            write(&writer, bytes).unwrap();
            drop(writer);
            assert!(receive::<Script>(&reader).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn results_become_arguments_and_failures_are_answers() {
        let mut script = Script { thread: true, ..Script::default() };
        let pair = script.zeros(8);
        let text = script.text("abc");
        let place = script.zeros(3);
        call!(script, SYS_pipe2, pair, libc::O_CLOEXEC);
        call!(script, SYS_write, crate::Value::Word(pair, 4), text, 3);
        let got = call!(script, SYS_read, crate::Value::Word(pair, 0), place, 3);
        call!(script, SYS_close, crate::Value::Word(pair, 0));
        call!(script, SYS_close, crate::Value::Word(pair, 4));
        call!(script, SYS_lseek, -1, got, 0);
        script.keep(place);
        let Answer { results, kept, rounds } = engine::run(script);
        let badf = -i64::from(libc::EBADF);
        assert_eq!(results, [0, 3, 3, 0, 0, badf]);
        assert_eq!(kept, [b"abc"]);
        assert!(rounds.is_empty());
    }

    #[test]
    fn rounds_that_end_alike_are_counted_together() {
        let mut script = Script::default();
        let shows = script.zeros(4);
        script.put_word(shows, 0, 5);
        let steps = script.side(0);
        let race = Race { rival: Vec::new(), steps, rounds: 3, decides: 0, shows };
        script.race = Some(race);
        let rounds = engine::run(script).rounds;
        assert_eq!(rounds, [Rounds { result: 0, shown: 5u32.to_ne_bytes().to_vec(), count: 3 }]);
    }

    #[test]
    fn what_a_script_makes_wrong_is_an_answer() {
        let mut script = Script::default();
        script.put(crate::Buffer(7), 0, 1);
        let short = script.zeros(4);
        script.put(short, 0, 1);
        call!(script, SYS_close, crate::Value::Given(3));
        script.keep(crate::Buffer(7));
        let fault = -i64::from(libc::EFAULT);
        assert_eq!(
            engine::run(script),
            Answer { results: vec![fault; 3], kept: vec![vec![]], rounds: Vec::new() }
        );
    }

    #[test]
    fn children_end_at_once() {
        let mut script = Script::default();
        let child = call!(script, SYS_fork);
        call!(script, SYS_wait4, child, 0, 0, 0);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let child = call!(script, SYS_clone, flags, 0, 0, 0, 0);
        call!(script, SYS_wait4, child, 0, 0, 0);
        let results = engine::run(script).results;
        assert!(results[0] > 0 && results[0] == results[1], "{results:?}");
        assert!(results[2] > 0 && results[2] == results[3], "{results:?}");
    }
}
