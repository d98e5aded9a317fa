//! Which answer a call gets, of the calls that do not call the guest back.

use super::Broker;
use super::arguments::{Errno, Word};
use super::shapes::Call;
use super::tool::Tool;

/// The answer of a guest without a broker to all calls but [`Call::Load`]: what hosts without
/// policies answer for a handle that is none, and `-EPERM`.
pub(super) const REFUSED: i32 = -libc::EPERM;
/// No object.
const NONE: i64 = 0;

/// Answers a call.
pub(super) fn answer(broker: &mut Broker, call: Call, memory: &mut [u8], words: &[Word]) -> i64 {
    let answered = match broker {
        Broker::Connected(tool) => ask(tool, call, memory, words),
        Broker::Refusing(_) => {
            if let (Call::Load, [_, size]) = (call, words) {
                broker.refused(size.bits());
            }
            Err(libc::EPERM)
        }
    };
    match (call, answered) {
        (_, Ok(number)) => number,
        (Call::Load, Err(_)) => NONE,
        (_, Err(errno)) => -i64::from(errno),
    }
}

fn ask(tool: &mut Tool, call: Call, memory: &mut [u8], words: &[Word]) -> Result<i64, Errno> {
    match (call, words) {
        (Call::Load, &[pointer, size]) => tool.load(memory, pointer, size),
        (Call::Close, &[object]) => tool.close(object).map(i64::from),
        (Call::Attach, &[object, name, target]) => {
            tool.attach(memory, [object, name, target]).map(i64::from)
        }
        (Call::AttachFd, &[object, name, descriptor]) => {
            tool.attach_fd(memory, [object, name, descriptor]).map(i64::from)
        }
        (Call::MapFdByName, &[object, name]) => {
            tool.map_by_name(memory, object, name).map(i64::from)
        }
        (Call::MapOperate, words) => {
            let words = words.try_into().map_err(|_| libc::EINVAL)?;
            tool.operate(memory, words).map(i64::from)
        }
        (Call::BufferLost, &[object, map]) => tool.lost(object, map),
        (Call::LastError, &[pointer, size]) => {
            tool.last_error(memory, pointer, size).map(i64::from)
        }
        // Polls are not answered here, and no shape has another number of words.
        _ => Err(libc::EINVAL),
    }
}
