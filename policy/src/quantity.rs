//! Sizes (`"256MiB"`) and durations (`"500ms"`).

use std::time::Duration;

const SIZES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
/// In milliseconds. `ms` is asked for before `m` and `s`, of which it ends in one.
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// `256MiB` to bytes; `Err` is a hint.
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
    quantity(text, &SIZES).ok_or("write a whole number with B, KiB, MiB or GiB, as in \"256MiB\"")
}

/// `30s` to a duration; `Err` is a hint.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    quantity(text, &TIMES)
        .map(Duration::from_millis)
        .ok_or("write a whole number with ms, s, m or h, as in \"30s\"")
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(known, _)| *known == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
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
    }
}
