//! Loading with less than this process may.

use caps::{CapSet, Capability};

use super::{Failed, Result};

/// What lets a program read all memory, or makes the verifier take it on trust: `perfmon_capable`
/// (linux/capability.h) asks for either of them.
const READ: [Capability; 2] = [Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN];

/// Does something in this thread as if it had no right to read the kernel's memory. What a program
/// could do with that right is more than its helper functions show: it can follow the kernel's own
/// pointers. So the verifier must not believe that its loader has it, where the policy's scope is
/// the guest's.
///
/// # Errors
/// Those of `act`, or if the kernel does not let the right go or come back.
pub(super) fn without_reading_memory<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    let failed = |error| Failed::new(libc::EPERM, format!("load without CAP_PERFMON: {error}"));
    let had = caps::read(None, CapSet::Effective).map_err(failed)?;
    let less = had.iter().copied().filter(|it| !READ.contains(it)).collect();
    caps::set(None, CapSet::Effective, &less).map_err(failed)?;
    let done = act();
    // What stays behind is less than before: later loads fail, and nothing is let through.
    caps::set(None, CapSet::Effective, &had).map_err(failed)?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_is_gone_meanwhile_and_only_in_this_thread() {
        let effective = || caps::read(None, CapSet::Effective).unwrap();
        let before = effective();
        let within = without_reading_memory(|| {
            let other = std::thread::scope(|scope| scope.spawn(effective).join().unwrap());
            Ok((effective(), other))
        });
        let (own, started) = within.unwrap();
        assert!(READ.iter().all(|it| !own.contains(it)), "{own:?}");
        // A thread has what its starter has at that moment.
        assert_eq!(own, started);
        assert_eq!(effective(), before);
        let failed = without_reading_memory::<()>(|| Err(Failed::new(1, "no")));
        assert!(failed.is_err() && effective() == before);
    }
}
