//! Sizes (`"256MiB"`) and durations (`"500ms"`).

use std::time::Duration;

const SIZES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
/// In milliseconds. `ms` is asked for before `m` and `s`, of which it ends in one.
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

const TOO_LARGE: &str = "the number is too large; leave the key out for no bound";

/// `256MiB` to bytes; `Err` is a hint.
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
    let form = "write a whole number with B, KiB, MiB or GiB, as in \"256MiB\"";
    quantity(text, &SIZES, form)
}

/// `30s` to a duration; `Err` is a hint.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let form = "write a whole number with ms, s, m or h, as in \"30s\"";
    quantity(text, &TIMES, form).map(Duration::from_millis)
}

fn quantity(text: &str, units: &[(&str, u64)], form: &'static str) -> Result<u64, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let known = units.iter().find(|(known, _)| *known == unit.trim_start());
    let (_, factor) = known.filter(|_| digits > 0).ok_or(form)?;
    // Digits alone fail to be a number only by being too many.
    number.parse::<u64>().ok().and_then(|it| it.checked_mul(*factor)).ok_or(TOO_LARGE)
}

/// Bytes as people write them: the largest unit that divides them.
pub fn size_text(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes >= *factor && bytes.is_multiple_of(*factor);
    let (unit, factor) =
        SIZES.iter().filter(fits).max_by_key(|(_, factor)| *factor).copied().unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("256MiB"), Ok(256 << 20));
        assert_eq!(size("1 GiB"), Ok(1 << 30));
        assert_eq!(size("7B"), Ok(7));
        for bad in ["", "MiB", "1", "1MB", "1.5GiB", "-1B", "99999999999GiB", "1mib"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(size("17179869184GiB"), Err(TOO_LARGE));
        assert_eq!(size_text(64 << 10), "64KiB");
        assert_eq!(size_text(1025), "1025B");
    }

    #[test]
    fn durations_have_one_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "1", "1min", "1.5s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("99999999999999999999s"), Err(TOO_LARGE));
    }
}
