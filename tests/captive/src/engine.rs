//! Runs a script, one step after the other. Nothing that a script says makes it panic: what is
//! wrong with it is answered with EFAULT.

use std::thread;

use crate::script::{Answer, Buffer, Call, Script, Step, Value};
use crate::sys::{self, Memory};

const FAULT: i64 = -(libc::EFAULT as i64);

/// Runs it.
pub(crate) fn run(script: Script) -> Answer {
    if !script.thread {
        return obey(script);
    }
    let second = thread::Builder::new().name("second".to_owned()).spawn(move || obey(script));
    // A thread that cannot be started is an answer without results.
    second.ok().and_then(|second| second.join().ok()).unwrap_or_default()
}

fn obey(script: Script) -> Answer {
    let Script { buffers, steps, kept, given, .. } = script;
    let mut room =
        Room { memory: buffers.into_iter().map(Memory::new).collect(), given, results: Vec::new() };
    for step in &steps {
        let result = match step {
            Step::Call(call) => room.call(call),
            Step::Put(buffer, offset, width, value) => room.put(*buffer, *offset, *width, *value),
        };
        room.results.push(result.unwrap_or(FAULT));
    }
    let kept = kept.iter().map(|buffer| room.memory(*buffer).map(Memory::copy).unwrap_or_default());
    let kept = kept.collect();
    Answer { results: room.results, kept }
}

struct Room {
    memory: Vec<Memory>,
    given: Vec<u64>,
    results: Vec<i64>,
}

impl Room {
    fn memory(&self, buffer: Buffer) -> Option<&Memory> {
        self.memory.get(usize::from(buffer.0))
    }

    fn value(&self, value: Value) -> Option<u64> {
        Some(match value {
            Value::Number(number) => number,
            Value::Address(buffer) => self.memory(buffer)?.address(),
            Value::Result(step) => *self.results.get(usize::from(step))? as u64,
            Value::Word(buffer, offset) => self.memory(buffer)?.word(usize::from(offset))?,
            Value::OwnPid => u64::from(std::process::id()),
            Value::OwnThread => rustix::thread::gettid().as_raw_nonzero().get() as u64,
            Value::Given(place) => *self.given.get(usize::from(place))?,
        })
    }

    fn put(&self, buffer: Buffer, offset: u16, width: u8, value: Value) -> Option<i64> {
        let bytes = self.value(value)?.to_ne_bytes();
        let bytes = bytes.get(..usize::from(width))?;
        self.memory(buffer)?.write(usize::from(offset), bytes).then_some(0)
    }

    fn call(&self, call: &Call) -> Option<i64> {
        let mut arguments = [0; 6];
        for (place, value) in arguments.iter_mut().zip(&call.arguments) {
            *place = self.value(*value)?;
        }
        let mut result = 0;
        for _ in 0..call.times {
            result = sys::enter(call.entry, call.number, arguments);
            if result < 0 {
                break;
            }
        }
        Some(result)
    }
}
