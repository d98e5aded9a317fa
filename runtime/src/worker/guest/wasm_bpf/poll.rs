//! `wasm_bpf_buffer_poll`: samples on their way to the guest's callback.
//!
//! Whatever the callback does, it finds a consistent state: nothing is borrowed while it runs, and
//! afterwards everything is looked up anew. It may poll, close the object, let the memory grow.

use std::time::{Duration, Instant};

use wasmtime::{Caller, Memory, Ref, TypedFunc};

use super::super::module::Host;
use super::arguments::{Errno, Poll, Word};
use super::link::Exports;
use super::tool::{Buffer, Tool};

/// How long one question may wait if the guest has a time limit, which is looked at in between.
const SLICE: Duration = Duration::from_millis(50);

/// The guest's export that tinygo's form calls.
const WRAPPED: &str = "go-callback";

/// Context, place of the sample, its size.
type Callback = TypedFunc<(i32, u32, u32), i32>;

/// A poll that is well formed.
struct Ready {
    poll: Poll,
    buffer: Buffer,
    callback: Callback,
    memory: Memory,
}

/// Polls: object, map, the callback's place in the table unless it is an export, context, data,
/// size, timeout. Answers what the callback did if that was not 0, else 0, or a negative errno.
///
/// # Errors
/// What ended the callback, which ends the guest.
pub(super) async fn poll(
    caller: &mut Caller<'_, Host>,
    exports: &Exports,
    words: &[Word],
) -> wasmtime::Result<i32> {
    match ready(caller, exports, words) {
        Ok(ready) => {
            let answer = deliver(caller, &ready).await;
            if let Some(tool) = caller.data_mut().bpf().tool() {
                tool.leave();
            }
            answer
        }
        Err(errno) => Ok(-errno),
    }
}

/// Looks at all arguments. What it answers was entered and is to be left.
fn ready(caller: &mut Caller<'_, Host>, exports: &Exports, words: &[Word]) -> Result<Ready, Errno> {
    let (object, map, place, rest) = match *words {
        [object, map, place, ref rest @ ..] if rest.len() == 4 => (object, map, Some(place), rest),
        [object, map, ref rest @ ..] => (object, map, None, rest),
        _ => return Err(libc::EINVAL),
    };
    let rest = rest.try_into().map_err(|_| libc::EINVAL)?;
    let memory = exports.memory(caller);
    let bytes = memory.map_or(0, |memory| memory.data_size(&*caller));
    let poll = Poll::read(bytes, place, rest)?;
    let callback = callback(caller, exports, poll.callback).ok_or(libc::EINVAL)?;
    let tool = tool(caller)?;
    let buffer = tool.buffer(object, map)?;
    tool.enter()?;
    // A poll for data has a place for it, so that there is a memory.
    let memory = memory.ok_or(libc::EFAULT)?;
    Ok(Ready { poll, buffer, callback, memory })
}

/// The function at a place of the guest's table, or the export that takes its place.
fn callback(
    caller: &mut Caller<'_, Host>,
    exports: &Exports,
    place: Option<u32>,
) -> Option<Callback> {
    let function = match place {
        None => caller.get_export(WRAPPED)?.into_func()?,
        Some(place) => match exports.table(caller)?.get(&mut *caller, u64::from(place))? {
            Ref::Func(Some(function)) => function,
            _ => return None,
        },
    };
    function.typed(&*caller).ok()
}

async fn deliver(caller: &mut Caller<'_, Host>, ready: &Ready) -> wasmtime::Result<i32> {
    let Ready { poll, buffer, callback, .. } = ready;
    let start = poll.data.start as u32;
    let mut delivered = false;
    loop {
        while let Some(size) = match next(caller, ready) {
            Ok(size) => size,
            Err(errno) => return Ok(-errno),
        } {
            delivered = true;
            let answer = callback.call_async(&mut *caller, (poll.context, start, size)).await?;
            if answer != 0 {
                return Ok(answer);
            }
        }
        let Ok(tool) = tool(caller) else { return Ok(-libc::EIO) };
        // Nothing more of it, or its object was closed meanwhile.
        if delivered && !tool.queue(*buffer).is_some_and(|it| it.more) {
            return Ok(0);
        }
        let timeout = if delivered { 0 } else { poll.timeout };
        match fetch(caller, ready, timeout).await {
            Ok(true) => {}
            Ok(false) => return Ok(0),
            Err(errno) => return Ok(-errno),
        }
    }
}

/// Puts the next sample that waits into its place, and answers how much of it.
fn next(caller: &mut Caller<'_, Host>, ready: &Ready) -> Result<Option<u32>, Errno> {
    let (memory, host) = ready.memory.data_and_store_mut(&mut *caller);
    let queue = host.bpf().tool().and_then(|tool| tool.queue(ready.buffer));
    let Some(queue) = queue else { return Ok(None) };
    let Some(sample) = queue.front() else { return Ok(None) };
    let size = ready.poll.place(memory, sample)?;
    queue.pop();
    Ok(Some(size))
}

/// Waits for samples, and answers whether there are any now.
async fn fetch(caller: &mut Caller<'_, Host>, ready: &Ready, timeout: i32) -> Result<bool, Errno> {
    let Ready { poll, buffer, .. } = ready;
    let room = poll.data.len();
    // The worker has nothing else to do, but a blocked thread cannot look at the clock.
    if !tool(caller)?.timed || timeout == 0 {
        return tool(caller)?.fetch(*buffer, room, timeout);
    }
    let limit = u64::try_from(timeout).ok().map(Duration::from_millis);
    let start = Instant::now();
    loop {
        let left = limit.map_or(SLICE, |limit| limit.saturating_sub(start.elapsed()));
        // In whole milliseconds, of which a beginning one is one: at the end it is 0.
        let wait = left.min(SLICE).as_micros().div_ceil(1000) as i32;
        if tool(caller)?.fetch(*buffer, room, wait)? {
            return Ok(true);
        }
        if wait == 0 {
            return Ok(false);
        }
        tokio::task::yield_now().await;
    }
}

fn tool<'a>(caller: &'a mut Caller<'_, Host>) -> Result<&'a mut Tool, Errno> {
    caller.data_mut().bpf().tool().ok_or(libc::EPERM)
}
