//! What fuzz/ reaches of the inside. Not for others: it changes with what it opens.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use wasi_guard_enforce::records::Denial;
use wasi_guard_policy::{Mode, Policy};

use crate::audit::{About, Auditor, Sink};

// Of the worker, which is not built here, the part that knows no wasmtime.
#[path = "worker/guest/wasm_bpf/arguments/mod.rs"]
mod arguments;

use arguments::{Operation, Poll, Sizes, Word};

/// The arguments of a `wasm_bpf` import.
#[derive(Clone, Copy, Debug)]
pub enum BpfCall {
    /// Pointer and size of an object.
    Object,
    /// Pointer to a name.
    Name,
    /// Pointer to a target.
    Target,
    /// Descriptor of a preopen.
    Preopen,
    /// Command, key, value, next key, flags; of a map with these sizes of keys and values.
    Operate(u32, u32),
    /// Callback, context, data, size, timeout; a sample is delivered.
    Poll,
    /// Pointer and size for the last error; a text is put there.
    LastError,
}

/// What a call's arguments mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BpfArguments {
    /// Memory that is read.
    pub reads: Vec<Range<usize>>,
    /// Memory that is or will be written.
    pub writes: Vec<Range<usize>>,
    /// Name or target.
    pub text: Option<String>,
    /// Number of a preopen, or how much was put.
    pub number: Option<u32>,
}

/// Understands the arguments of a call of `wasm_bpf`, of 64 bits each where `wide`, as the worker
/// does. `given` is what the call puts into the memory, if it puts anything.
///
/// # Errors
/// The errno that the guest gets.
pub fn bpf_arguments(
    memory: &mut [u8],
    call: BpfCall,
    words: [i64; 5],
    wide: bool,
    given: &[u8],
) -> Result<BpfArguments, i32> {
    let words = words.map(|it| if wide { Word::Wide(it) } else { Word::Narrow(it as i32) });
    let [one, two, three, four, five] = words;
    let length = memory.len();
    let mut all = BpfArguments::default();
    match call {
        BpfCall::Object => all.reads.push(arguments::object(length, one, two)?),
        BpfCall::Name => all.text = Some(arguments::text(memory, one)?.to_owned()),
        BpfCall::Target => all.text = arguments::target(memory, one)?.map(str::to_owned),
        BpfCall::Preopen => all.number = arguments::preopen(one.narrow()?)?,
        BpfCall::Operate(key, value) => {
            match Operation::read(length, Sizes { key, value }, words)? {
                Operation::Lookup { key, value, .. } => {
                    all.reads.push(key);
                    all.writes.push(value);
                }
                Operation::Update { key, value, .. } => all.reads.extend([key, value]),
                Operation::Delete { key } => all.reads.push(key),
                Operation::NextKey { key, next } => {
                    all.reads.extend(key);
                    all.writes.push(next);
                }
            }
        }
        BpfCall::Poll => {
            let poll = Poll::read(length, Some(one), [two, three, four, five])?;
            all.number = Some(poll.place(memory, given)?);
            all.writes.push(poll.data);
        }
        BpfCall::LastError => {
            let text = String::from_utf8_lossy(given);
            let put = arguments::put_text(memory, one, two, &text)?;
            all.number = u32::try_from(put).ok();
            all.writes.push(arguments::span(length, one.bits(), two.bits())?);
        }
    }
    Ok(all)
}

/// What the audit writes about a denial: a line with its end.
#[must_use]
pub fn audit_line(denial: &Denial, policy: &Policy) -> Vec<u8> {
    let lines = Lines::default();
    let about = About {
        policy: "app.toml".into(),
        policy_digest: String::new(),
        module: "app.wasm".into(),
        module_digest: String::new(),
        mode: Mode::Enforce,
    };
    Auditor::new(Sink::test(lines.clone()), about).denial(denial, policy);
    let written = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    written.clone()
}

/// Keeps what is written.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
