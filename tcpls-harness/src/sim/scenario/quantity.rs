//! Times, sizes and rates in scenario files: strings such as "10ms", "60MB", "25Mbit/s". Printed values can be read
//! again without loss.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Bytes per second, written in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

type Units = [(&'static str, f64)];

const TIMES: &Units = &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3600e9)];
const SIZES: &Units = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
];
/// In bytes per second.
const RATES: &Units = &[("bit/s", 0.125), ("kbit/s", 125.0), ("Mbit/s", 125e3), ("Gbit/s", 125e6)];

fn parse(text: &str, units: &Units) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let factor = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
    match (number.parse::<f64>(), factor) {
        // Beyond 2^53 a float no longer counts one by one, and such numbers are never intended.
        (Ok(number), Some(factor)) if number * factor <= (1u64 << 53) as f64 => Ok((number * factor).round() as u64),
        (Ok(_), Some(_)) => Err(format!("{text:?} is too large")),
        _ => Err(format!("{text:?} is not a number with a unit ({})", names())),
    }
}

/// The largest unit in which the value is a whole number.
fn print(value: u64, units: &Units, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whole = |factor: f64| value as f64 % factor == 0.0;
    let large = units.iter().rfind(|(_, factor)| value > 0 && whole(*factor) && value as f64 >= *factor);
    let (name, factor) = large.unwrap_or(&units[0]);
    write!(f, "{}{name}", value as f64 / factor)
}

macro_rules! as_text {
    ($($name:ident, $units:ident, $of:expr, $from:expr;)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let of: fn($name) -> u64 = $of;
                print(of(*self), $units, f)
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                parse(text, $units).map($from)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text! {
    Span, TIMES, |span| u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX), |nanos| Span(Duration::from_nanos(nanos));
    Size, SIZES, |size| size.0, Size;
    Rate, RATES, |rate| rate.0, Rate;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        assert_eq!("1.5s".parse(), Ok(Span(Duration::from_millis(1500))));
        assert_eq!("60 MB".parse(), Ok(Size(60_000_000)));
        assert_eq!("25Mbit/s".parse(), Ok(Rate(3_125_000)));
        for bad in ["", "5", "ms", "-1s", "1 fortnight", "99999999999h"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn printed_quantities_can_be_read_again() {
        for nanos in [0, 1, 999, 1_500_000, 60_000_000_000, 12_345_678_901, 3_600_000_000_000] {
            let span = Span(Duration::from_nanos(nanos));
            assert_eq!(span.to_string().parse(), Ok(span), "{span}");
        }
        for bytes in [0, 7, 1_000, 65_536, 60_000_000, 123_456_789] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
            assert_eq!(Rate(bytes).to_string().parse(), Ok(Rate(bytes)));
        }
        assert_eq!(Span(Duration::from_millis(90)).to_string(), "90ms");
    }
}
