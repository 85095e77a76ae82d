//! The first record of a trace: what the file is, and what times count from.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use tcpls_core::{Side, Time};

/// The schema of the file (main schema, 11).
const FILE_SCHEMA: &str = "urn:ietf:params:qlog:file:sequential";
const SERIALIZATION: &str = "application/qlog+json-seq";
/// The schema of the namespace `tcpls`; another number when `docs/qlog.schema.json` changes incompatibly.
const EVENT_SCHEMA: &str = "urn:uuid:3ef42dbf-2cce-4126-ab69-f988475f8bf5?=tcpls";

/// What the first record of a trace says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Header {
    /// Which endpoint the trace is from.
    pub side: Side,
    /// The origin of the trace's times.
    pub started: Time,
    /// The date and time of `started`; `None` in virtual time.
    pub wall_clock: Option<SystemTime>,
    /// A short name of the trace.
    pub title: Option<String>,
}

impl Header {
    /// A trace of one endpoint that begins at `started`, without date and title.
    pub fn new(side: Side, started: Time) -> Self {
        Self { side, started, wall_clock: None, title: None }
    }

    /// Returns this header with a change: `Header::new(side, now).with(|header| header.title = Some("a test".into()))`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct File<'a> {
            file_schema: &'static str,
            serialization_format: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            title: Option<&'a str>,
            trace: Trace,
        }
        #[derive(Serialize)]
        struct Trace {
            common_fields: CommonFields,
            vantage_point: VantagePoint,
            event_schemas: [&'static str; 1],
        }
        #[derive(Serialize)]
        struct CommonFields {
            time_format: &'static str,
            reference_time: ReferenceTime,
        }
        #[derive(Serialize)]
        struct ReferenceTime {
            clock_type: &'static str,
            epoch: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            wall_clock_time: Option<String>,
        }
        #[derive(Serialize)]
        struct VantagePoint {
            name: &'static str,
            r#type: &'static str,
        }
        let reference_time =
            ReferenceTime { clock_type: "monotonic", epoch: "unknown", wall_clock_time: self.wall_clock.map(date) };
        let side = match self.side {
            Side::Client => "client",
            Side::Server => "server",
        };
        File {
            file_schema: FILE_SCHEMA,
            serialization_format: SERIALIZATION,
            title: self.title.as_deref(),
            trace: Trace {
                common_fields: CommonFields { time_format: "relative_to_epoch", reference_time },
                vantage_point: VantagePoint { name: "tcpls", r#type: side },
                event_schemas: [EVENT_SCHEMA],
            },
        }
        .serialize(serializer)
    }
}

/// Date and time in UTC, with milliseconds (RFC 3339).
pub(super) fn date(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The Gregorian date of a day, counted from 1970-01-01. Years are counted from March, so that a leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097; // days in 400 years
    let day = days + 719_468; // since 0000-03-01
    let (era, of_era) = (day / ERA, day % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153; // 0 is March
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (400 * era + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_rfc_3339() {
        let of = |seconds, millis| date(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis));
        assert_eq!(of(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(of(951_827_696, 7), "2000-02-29T12:34:56.007Z");
        assert_eq!(of(1_709_251_199, 999), "2024-02-29T23:59:59.999Z");
        assert_eq!(of(1_709_251_200, 0), "2024-03-01T00:00:00.000Z");
        assert_eq!(of(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
        assert_eq!(of(1_796_083_199, 0), "2026-11-30T23:59:59.000Z");
    }

    #[test]
    fn every_day_follows_the_day_before() {
        let mut before = civil(0);
        for day in 1..200_000 {
            let date = civil(day);
            let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
            let last = match before.1 {
                2 => 28 + u64::from(leap(before.0)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let next = match before {
                (year, 12, 31) => (year + 1, 1, 1),
                (year, month, day) if day == last => (year, month + 1, 1),
                (year, month, day) => (year, month, day + 1),
            };
            assert_eq!(date, next);
            before = date;
        }
    }
}
