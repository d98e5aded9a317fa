//! What the host (`cargo xtask vm`) and the agent inside a VM say to each other over one
//! virtio-serial port: frames of one byte kind, a little-endian `u32` length and that many bytes.
//!
//! One port for everything keeps standard output, standard error and the end of a command in
//! the order in which they happened.

use std::io::{self, Read, Write};

/// Longest payload of a frame in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// One message between the host and the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Agent: the machine is set up. Carries the kernel's release, as `uname -r` prints it.
    Ready(String),
    /// Agent: bytes that the command wrote to its standard output.
    Stdout(Vec<u8>),
    /// Agent: bytes that the command wrote to its standard error.
    Stderr(Vec<u8>),
    /// Agent: the command ended with this status; 128 + N where signal N ended it.
    Exit(u32),
    /// Agent: the kernel or the agent failed; nothing after this can be trusted.
    Fault(String),
    /// Host: run this program with these arguments (at least the program's name).
    Run(Vec<String>),
}

impl Frame {
    /// Writes the frame. A payload longer than [`MAX_PAYLOAD`] is `InvalidInput`.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let joined;
        let status;
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Ready(text) => (b'r', text.as_bytes()),
            Self::Stdout(bytes) => (b'o', bytes),
            Self::Stderr(bytes) => (b'e', bytes),
            Self::Exit(value) => {
                status = value.to_le_bytes();
                (b'x', &status)
            }
            Self::Fault(text) => (b'f', text.as_bytes()),
            Self::Run(words) => {
                if words.iter().any(|word| word.contains('\0')) {
                    return Err(invalid("a word of a command contains a NUL byte"));
                }
                joined = words.join("\0");
                (b'R', joined.as_bytes())
            }
        };
        let length = u32::try_from(payload.len())
            .ok()
            .filter(|_| payload.len() <= MAX_PAYLOAD)
            .ok_or_else(|| invalid("a frame's payload is too long"))?;
        let mut frame = Vec::with_capacity(payload.len() + 5);
        frame.push(kind);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(payload);
        to.write_all(&frame)?;
        to.flush()
    }

    /// Reads the next frame; `UnexpectedEof` where the other side is gone.
    pub fn read_from(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(malformed("a frame's length is out of range"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        match head[0] {
            b'r' => Ok(Self::Ready(text(payload)?)),
            b'o' => Ok(Self::Stdout(payload)),
            b'e' => Ok(Self::Stderr(payload)),
            b'x' => match <[u8; 4]>::try_from(payload) {
                Ok(status) => Ok(Self::Exit(u32::from_le_bytes(status))),
                Err(_) => Err(malformed("an exit frame does not hold four bytes")),
            },
            b'f' => Ok(Self::Fault(String::from_utf8_lossy(&payload).into_owned())),
            b'R' => Ok(Self::Run(text(payload)?.split('\0').map(str::to_owned).collect())),
            _ => Err(malformed("a frame of an unknown kind")),
        }
    }
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| malformed("a frame's text is not UTF-8"))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_the_wire() {
        let frames = [
            Frame::Ready("6.1.0".into()),
            Frame::Stdout(vec![0, 255, 10]),
            Frame::Stderr(Vec::new()),
            Frame::Exit(137),
            Frame::Fault("oops".into()),
            Frame::Run(vec!["sh".into(), "-c".into(), String::new()]),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write_to(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        for frame in &frames {
            assert_eq!(&Frame::read_from(&mut from).unwrap(), frame);
        }
        assert_eq!(Frame::read_from(&mut from).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nonsense_is_refused() {
        for wire in [&b"?\0\0\0\0"[..], b"x\x01\0\0\0a", b"o\xff\xff\xff\xff"] {
            let mut from = wire;
            assert_eq!(Frame::read_from(&mut from).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
