//! From the kernel's clock to the calendar.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use rustix::time::{ClockId, Timespec, clock_gettime};

const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// Now, as RFC 3339 in UTC with microseconds.
pub(super) fn now() -> String {
    text(nanoseconds(clock_gettime(ClockId::Realtime)))
}

/// A time of `CLOCK_BOOTTIME` in nanoseconds, as RFC 3339 in UTC with microseconds. Which time of
/// day it was is asked anew for each record, because the host's clock may be set while a guest
/// runs.
pub(super) fn of_boot(boot: u64) -> String {
    let now = nanoseconds(clock_gettime(ClockId::Realtime));
    let age = nanoseconds(clock_gettime(ClockId::Boottime)) - i128::from(boot);
    text(now - age)
}

fn nanoseconds(time: Timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

/// A time out of jiff's years is the epoch: it comes from a clock that nobody set.
fn text(nanoseconds: i128) -> String {
    let time = Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    PRINTER.timestamp_to_string(&time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits_and_a_z() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456Z");
        assert_eq!(text(i128::MAX), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_boot_time_of_now_is_now() {
        let boot = clock_gettime(ClockId::Boottime);
        let boot = u64::try_from(nanoseconds(boot)).unwrap();
        let before: Timestamp = now().parse().unwrap();
        let then: Timestamp = of_boot(boot).parse().unwrap();
        assert!((then - before).total(jiff::Unit::Second).unwrap().abs() < 60.0);
        let earlier: Timestamp = of_boot(boot - 1_000_000_000).parse().unwrap();
        assert!(earlier < then);
    }
}
