//! Runs a script, one step after the other. Nothing that a script says makes it panic: what is
//! wrong with it is answered with EFAULT.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::script::{Answer, Buffer, Call, Race, Rounds, Script, Step, Value};
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
    let Script { buffers, steps, kept, given, race, .. } = script;
    let room = Room { memory: buffers.into_iter().map(Memory::new).collect(), given };
    let mut results = Vec::new();
    room.run(&steps, &mut results);
    let rounds = race.map(|race| room.race(&race, &results)).unwrap_or_default();
    let kept = kept.iter().map(|buffer| room.memory(*buffer).map(Memory::copy).unwrap_or_default());
    let kept = kept.collect();
    Answer { results, kept, rounds }
}

struct Room {
    memory: Vec<Memory>,
    given: Vec<u64>,
}

impl Room {
    /// Runs steps, whose results come behind those that there are.
    fn run(&self, steps: &[Step], results: &mut Vec<i64>) {
        for step in steps {
            let result = match step {
                Step::Call(call) => self.call(call, results),
                Step::Put(buffer, offset, width, value) => {
                    self.put(*buffer, *offset, *width, *value, results)
                }
            };
            results.push(result.unwrap_or(FAULT));
        }
    }

    /// A race without a rival, because no thread can be made, has no rounds.
    fn race(&self, race: &Race, before: &[i64]) -> Vec<Rounds> {
        let (running, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut rounds = Vec::new();
        thread::scope(|scope| {
            let rival = thread::Builder::new().name("rival".to_owned());
            let rival = rival.spawn_scoped(scope, || {
                while !over.load(Ordering::Relaxed) {
                    self.run(&race.rival, &mut before.to_vec());
                    running.store(true, Ordering::Relaxed);
                }
            });
            if rival.is_err() {
                return;
            }
            while !running.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            for _ in 0..race.rounds {
                self.round(race, before.to_vec(), &mut rounds);
            }
            over.store(true, Ordering::Relaxed);
        });
        rounds
    }

    fn round(&self, race: &Race, mut results: Vec<i64>, rounds: &mut Vec<Rounds>) {
        let first = results.len();
        let Some(shows) = self.memory(race.shows) else { return };
        shows.clear();
        self.run(&race.steps, &mut results);
        let result = results.get(first + usize::from(race.decides)).copied().unwrap_or(FAULT);
        let (result, shown) = (result.min(0), shows.copy());
        match rounds.iter_mut().find(|it| it.result == result && it.shown == shown) {
            Some(alike) => alike.count += 1,
            None => rounds.push(Rounds { result, shown, count: 1 }),
        }
    }

    fn memory(&self, buffer: Buffer) -> Option<&Memory> {
        self.memory.get(usize::from(buffer.0))
    }

    fn value(&self, value: Value, results: &[i64]) -> Option<u64> {
        Some(match value {
            Value::Number(number) => number,
            Value::Address(buffer) => self.memory(buffer)?.address(),
            Value::Result(step) => *results.get(usize::from(step))? as u64,
            Value::Word(buffer, offset) => self.memory(buffer)?.word(usize::from(offset))?,
            Value::OwnPid => u64::from(std::process::id()),
            Value::OwnThread => rustix::thread::gettid().as_raw_nonzero().get() as u64,
            Value::Given(place) => *self.given.get(usize::from(place))?,
        })
    }

    fn put(
        &self,
        buffer: Buffer,
        offset: u16,
        width: u8,
        value: Value,
        results: &[i64],
    ) -> Option<i64> {
        let bytes = self.value(value, results)?.to_ne_bytes();
        let bytes = bytes.get(..usize::from(width))?;
        self.memory(buffer)?.write(usize::from(offset), bytes).then_some(0)
    }

    fn call(&self, call: &Call, results: &[i64]) -> Option<i64> {
        let mut arguments = [0; 6];
        for (place, value) in arguments.iter_mut().zip(&call.arguments) {
            *place = self.value(*value, results)?;
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
