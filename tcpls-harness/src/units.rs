//! Sizes, rates and times as people read them.

#![cfg_attr(not(feature = "cli"), allow(unreachable_pub, reason = "the command's `units` has them for everyone"))]

use std::time::Duration;

/// Bytes as `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Bits per second, of bytes in a time; 0 in no time.
pub fn bits_per_second(bytes: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { bytes as f64 * 8.0 / time.as_secs_f64() }
}

/// Bits per second as `1.5 Gbit/s`.
pub fn rate(bits_per_second: f64) -> String {
    match bits_per_second {
        rate if rate >= 1e9 => format!("{:.2} Gbit/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.1} Mbit/s", rate / 1e6),
        rate => format!("{:.1} kbit/s", rate / 1e3),
    }
}

/// A time as `12.3 ms` or `4.56 s`.
pub fn time(time: Duration) -> String {
    match time {
        time if time < Duration::from_millis(1) => format!("{} µs", time.as_micros()),
        time if time < Duration::from_secs(1) => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        time => format!("{:.2} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(256 << 20), "256.0 MiB");
        assert_eq!(rate(bits_per_second(25_000_000, Duration::from_secs(1))), "200.0 Mbit/s");
        assert_eq!(rate(bits_per_second(1, Duration::ZERO)), "0.0 kbit/s");
        assert_eq!(time(Duration::from_micros(12_340)), "12.3 ms");
    }
}
