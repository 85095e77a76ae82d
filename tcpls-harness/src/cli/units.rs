//! Formatting and parsing of sizes, rates and times for people.

use std::time::Duration;

pub use crate::units::{bits_per_second, rate, size, time};

/// The longest time that an option can have.
const MAX_TIME: Duration = Duration::from_secs(365 * 86_400);

/// Bytes of a size such as `64MiB`, `1.5GB`, `200k` or `4096`. Powers of 1024 have an `i`.
///
/// # Errors
/// A description of the syntax error.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a size; write for example 64MiB"))?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        unit => return Err(format!("{unit:?} is not a unit of size; use B, kB, MB, GB, KiB, MiB or GiB")),
    };
    let bytes = number * factor as f64;
    // Beyond 2^53 a float no longer counts single bytes, and such sizes are never intended.
    if bytes > (1u64 << 53) as f64 { Err(format!("{text} is too large")) } else { Ok(bytes as u64) }
}

/// Bytes per second, as a size such as `10MB` or `10MB/s`.
///
/// # Errors
/// A description of the syntax error.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let size = parse_size(text.strip_suffix("/s").unwrap_or(text))?;
    if size == 0 { Err("a rate of 0 would stop everything; leave it out for no limit".to_owned()) } else { Ok(size) }
}

/// A duration such as `500ms`, `30s`, `15min`, `2h` or `7d`.
///
/// # Errors
/// A description of the syntax error.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let wrong = || format!("{text:?} is not a time; write for example 30s, 15min or 2h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let time = number.checked_mul(milliseconds).map(Duration::from_millis);
    time.filter(|time| *time <= MAX_TIME).ok_or_else(|| format!("{text} is too long; the maximum is 365d"))
}

/// A time of seconds or more as `15 min`, `2 h` or `90 s`, as [`parse_duration`] takes it; to the nearest second.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_millis() >= 500);
    match seconds {
        0 => "0 s".to_owned(),
        seconds if seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        let sizes = [("0", 0), ("4096", 4096), ("64MiB", 64 << 20), ("1.5kB", 1500), ("2 g", 2_000_000_000)];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(parse_rate(&format!("{text}/s")).ok(), Some(bytes).filter(|bytes| *bytes > 0), "{text}");
        }
        for text in ["", "MiB", "-1", "1x", "1..2", "99999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        let times = [("250ms", 250), ("30s", 30_000), ("15min", 900_000), ("2h", 7_200_000), ("1d", 86_400_000)];
        for (text, milliseconds) in times {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "1 s", "1m", "99999999999999999999d", "9999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_short() {
        let spans = [(0, "0 s"), (59_999, "1 min"), (90_000, "90 s"), (899_700, "15 min"), (7_200_000, "2 h")];
        for (milliseconds, text) in spans {
            assert_eq!(span(Duration::from_millis(milliseconds)), text);
        }
    }
}
