//! Validity periods of certificates, and dates for people.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::der::{Reader, SEQUENCE};

/// When a certificate is valid, in seconds since 1970, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl Validity {
    /// Reads it out of a certificate (RFC 5280, section 4.1); `None` if that is no certificate.
    pub(crate) fn of(certificate: &[u8]) -> Option<Self> {
        let mut validity = Reader::new(Reader::of_certificate(certificate)?.element(SEQUENCE)?);
        Some(Self { not_before: read_time(&mut validity)?, not_after: read_time(&mut validity)? })
    }

    /// Returns when it ends, if that is within 14 days: `expires 2026-03-01 (in 3 days)`.
    pub(crate) fn expiry(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let left = self.not_after.checked_sub(now).filter(|left| *left < SOON && now >= self.not_before)?;
        Some(format!("expires {} (in {})", date(self.not_after), days(left)))
    }

    /// Returns why it is not valid today, if it is not: `expired 2026-03-01 (272 days ago)`.
    pub(crate) fn complaint(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if now > self.not_after {
            Some(expired(self.not_after, now))
        } else if now < self.not_before {
            Some(not_yet_valid(self.not_before, now))
        } else {
            None
        }
    }
}

/// The message that a certificate was valid until `not_after`.
pub(crate) fn expired(not_after: u64, now: u64) -> String {
    format!("expired {} ({} ago)", date(not_after), days(now.saturating_sub(not_after)))
}

/// The message that a certificate will be valid from `not_before` on.
pub(crate) fn not_yet_valid(not_before: u64, now: u64) -> String {
    format!("is not valid before {} (in {})", date(not_before), days(not_before.saturating_sub(now)))
}

fn days(seconds: u64) -> String {
    match seconds / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

const DAY: u64 = 86_400;
/// How long before its end a certificate is to be renewed.
const SOON: u64 = 14 * DAY;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `YYMMDDhhmmssZ` with years from 1950 to 2049, or `YYYYMMDDhhmmssZ`.
fn read_time(reader: &mut Reader<'_>) -> Option<u64> {
    let (tag, text) = reader.any()?;
    let (year, rest) = text.split_at_checked(if tag == GENERALIZED_TIME { 4 } else { 2 })?;
    let year = match (tag, number(year)?) {
        (UTC_TIME, year) => year + if year < 50 { 2000 } else { 1900 },
        (GENERALIZED_TIME, year) => year,
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| rest.get(at..at + 2).and_then(number));
    let days = days_until(year, month?, day?)?;
    days.checked_mul(DAY)?.checked_add(hour? * 3600 + minute? * 60 + second?)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| Some(number * 10 + u64::from(char::from(*digit).to_digit(10)?)))
}

/// Days from 1970 to a date, which may be any but for its month; `None` if it is before.
fn days_until(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    days.checked_sub(DAYS_TO_1970)
}

/// Days from 1 March of year 0 to 1970, both included.
const DAYS_TO_1970: u64 = 719_469;

/// A time in seconds since 1970 as `2026-03-01`.
pub(crate) fn date(seconds: u64) -> String {
    let day = seconds / DAY;
    // No year is longer than 366 days: the year that this gives is never too late.
    let mut year = 1970 + day / 366;
    while days_until(year + 1, 1, 1).is_some_and(|begin| begin <= day) {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days_until(year, *month, 1).is_some_and(|begin| begin <= day)).unwrap_or(1);
    let begin = days_until(year, month, 1).unwrap_or_default();
    format!("{year:04}-{month:02}-{:02}", day - begin + 1)
}

/// A time as RFC 3339 writes it: `2026-03-01T12:34:56.789Z`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{:03}Z", date(seconds), since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_772_323_200, "2026-03-01"),
            (1_798_761_599, "2026-12-31"),
            (4_107_542_400, "2100-03-01"),
            (253_402_300_799, "9999-12-31"),
        ];
        for (seconds, text) in dates {
            assert_eq!(date(seconds), text);
            let [year, month, day] = text.split('-').map(|part| part.parse().unwrap()).collect::<Vec<_>>()[..] else {
                panic!("{text}");
            };
            assert_eq!(days_until(year, month, day), Some(seconds / DAY), "{text}");
        }
    }

    #[test]
    fn timestamps_are_those_of_rfc_3339() {
        let time = UNIX_EPOCH + std::time::Duration::from_millis(1_772_323_200_000 + 45_296_007);
        assert_eq!(timestamp(time), "2026-03-01T12:34:56.007Z");
        assert_eq!(timestamp(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }

    fn certificate(from: i32, to: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from, 1, 2);
        parameters.not_after = rcgen::date_time_ymd(to, 3, 1);
        parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn validity_is_read_from_certificates() {
        for (from, to) in [(1975, 2049), (2026, 2050), (2000, 4096)] {
            let validity = Validity::of(&certificate(from, to)).unwrap();
            assert_eq!(date(validity.not_before), format!("{from}-01-02"));
            assert_eq!(date(validity.not_after), format!("{to}-03-01"));
        }
    }

    #[test]
    fn invalid_certificate_has_no_validity() {
        let certificate = certificate(2000, 2026);
        for len in 0..200 {
            _ = Validity::of(&certificate[..len]);
            let mut spoilt = certificate.clone();
            spoilt[len] ^= 0xff;
            _ = Validity::of(&spoilt);
        }
        assert_eq!(Validity::of(b"no certificate"), None);
        assert_eq!(Validity::of(&[]), None);
    }

    #[test]
    fn expiry_message_has_date_and_number_of_days() {
        let validity = Validity::of(&certificate(2026, 2026)).unwrap();
        let at = |seconds| UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        assert_eq!(validity.complaint(at(1_770_000_000)), None);
        let expired = validity.complaint(at(1_772_323_200 + 272 * DAY)).unwrap();
        assert_eq!(expired, "expired 2026-03-01 (272 days ago)");
        let early = validity.complaint(at(1_767_312_000 - DAY)).unwrap();
        assert_eq!(early, "is not valid before 2026-01-02 (in 1 day)");
        assert_eq!(validity.expiry(at(1_772_323_200 - 3 * DAY)).unwrap(), "expires 2026-03-01 (in 3 days)");
        for time in [1_772_323_200 - 15 * DAY, 1_772_323_200 + DAY] {
            assert_eq!(validity.expiry(at(time)), None);
        }
    }
}
