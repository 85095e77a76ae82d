//! Conditions of a request, and the part of a file that it is for (RFC 9110, 13 and 14), without sockets.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::Head;

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators {
    /// The entity tag: strong, with its quotes.
    pub etag: String,
    /// When the file was modified, in full seconds; `None` if HTTP can't express it.
    pub modified: Option<SystemTime>,
}

/// What a request gets of a file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// All of it: 200.
    All,
    /// These bytes: 206.
    Part(Range<u64>),
    /// Nothing, because the client has it: 304.
    NotModified,
    /// Nothing, because it is not what the client expects: 412.
    Changed,
    /// Nothing, because it has no such bytes: 416.
    OutOfRange,
}

/// Judges the conditions of a request in their order (RFC 9110, 13.2.2), and returns the part of a file of `len` bytes that
/// it selects.
pub fn select(head: &Head, is_get: bool, validators: &Validators, len: u64) -> Selected {
    let is_later_than = |name| {
        let date = httpdate::parse_http_date(head.field(name)?).ok()?;
        Some(validators.modified? > date)
    };
    match tags(head, "if-match") {
        Some(tags) if !tags.contains_strongly(&validators.etag) => return Selected::Changed,
        None if is_later_than("if-unmodified-since") == Some(true) => return Selected::Changed,
        _ => {}
    }
    match tags(head, "if-none-match") {
        Some(tags) if tags.contains_weakly(&validators.etag) => return Selected::NotModified,
        None if is_later_than("if-modified-since") == Some(false) => return Selected::NotModified,
        _ => {}
    }
    // A date is no strong validator: files may change twice in a second. So a range with one is for all of the file.
    let is_same = head.field("if-range").is_none_or(|tag| tag == validators.etag);
    let mut ranges = head.all("range");
    match (ranges.next(), ranges.next()) {
        (Some(range), None) if is_get && is_same => part(range, len),
        _ => Selected::All,
    }
}

/// The bytes that a Range field selects. What is malformed, or selects several ranges, is ignored, as it may be.
fn part(field: &str, len: u64) -> Selected {
    let Some((unit, range)) = field.split_once('=') else { return Selected::All };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Selected::All;
    }
    match range.trim_matches([' ', '\t']).split_once('-').map(|(first, last)| (number(first), number(last))) {
        Some((Some(Some(first)), Some(None))) if first < len => Selected::Part(first..len),
        Some((Some(Some(first)), Some(Some(last)))) if first <= last && first < len => {
            Selected::Part(first..last.saturating_add(1).min(len))
        }
        Some((Some(Some(first)), Some(last))) if last.is_none_or(|last| first <= last) => Selected::OutOfRange,
        Some((Some(None), Some(Some(0)))) => Selected::OutOfRange,
        // No range describes an empty file.
        Some((Some(None), Some(Some(suffix)))) if len > 0 => Selected::Part(len.saturating_sub(suffix)..len),
        _ => Selected::All,
    }
}

/// A position, which may be left out; `None` if it is none. Positions beyond 2^64 are behind the end of each file.
fn number(text: &str) -> Option<Option<u64>> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX)))
}

/// The entity tags of a field.
struct Tags<'a>(Vec<&'a str>);

/// `None` without that field.
fn tags<'a>(head: &'a Head, name: &'a str) -> Option<Tags<'a>> {
    let mut values = head.all(name).peekable();
    values.peek()?;
    // Commas are permitted within tags. Those of this server have none, so that no part of another tag looks like one.
    Some(Tags(values.flat_map(|value| value.split(',')).map(|tag| tag.trim_matches([' ', '\t'])).collect()))
}

impl Tags<'_> {
    fn contains_strongly(&self, etag: &str) -> bool {
        self.0.iter().any(|tag| *tag == "*" || *tag == etag)
    }

    fn contains_weakly(&self, etag: &str) -> bool {
        self.0.iter().any(|tag| *tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    }
}

/// Returns `time` without fractions of a second, if HTTP can express it: not before 1970. A time in the future is `now`, as
/// RFC 9110, 8.8.2.1 requires.
pub(super) fn full_seconds(time: SystemTime, now: SystemTime) -> Option<SystemTime> {
    let since = time.min(now).duration_since(UNIX_EPOCH).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadReader;

    const LEN: u64 = 1000;

    fn judge(fields: &str, is_get: bool) -> Selected {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = HeadReader::default().push(request.as_bytes()).unwrap().unwrap();
        // Sun, 06 Nov 1994 08:49:37 GMT
        let modified = Some(UNIX_EPOCH + Duration::from_secs(784_111_777));
        select(&head, is_get, &Validators { etag: "\"5-a\"".to_owned(), modified }, LEN)
    }

    fn get(fields: &str) -> Selected {
        judge(fields, true)
    }

    #[test]
    fn one_range_selects_a_part() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("BYTES=990-", 990..LEN),
            ("bytes=990-2000", 990..LEN),
            ("bytes=0-99999999999999999999999", 0..LEN),
            ("bytes=-1", LEN - 1..LEN),
            ("bytes=-5000", 0..LEN),
        ] {
            assert_eq!(get(&format!("Range: {range}\r\n")), Selected::Part(part), "{range}");
        }
        for range in ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(get(&format!("Range: {range}\r\n")), Selected::OutOfRange, "{range}");
        }
        for range in ["bytes=0-1,5-6", "bytes=2-1", "bytes=2000-1000", "bytes=-", "bytes", "lines=0-1", "bytes=+1-2"] {
            assert_eq!(get(&format!("Range: {range}\r\n")), Selected::All, "{range}");
        }
        assert_eq!(get("Range: bytes=0-1\r\nRange: bytes=3-4\r\n"), Selected::All);
        assert_eq!(judge("Range: bytes=0-0\r\n", false), Selected::All, "HEAD");
        assert_eq!(part("bytes=-5", 0), Selected::All, "no range describes an empty file");
        assert_eq!(part("bytes=0-", 0), Selected::OutOfRange);
    }

    #[test]
    fn range_applies_only_to_the_state_that_the_client_has() {
        let with = |tag| get(&format!("Range: bytes=5-\r\nIf-Range: {tag}\r\n"));
        assert_eq!(with("\"5-a\""), Selected::Part(5..LEN));
        for other in ["W/\"5-a\"", "\"5-b\"", "5-a", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(with(other), Selected::All, "{other}");
        }
    }

    #[test]
    fn clients_that_have_the_file_get_304() {
        for fields in [
            "If-None-Match: \"5-a\"\r\n",
            "If-None-Match: \"x,y\", W/\"5-a\"\r\n",
            "If-None-Match: \"x\"\r\nIf-None-Match: \"5-a\"\r\n",
            "If-None-Match: *\r\nRange: bytes=0-1\r\n",
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "If-Modified-Since: Sunday, 06-Nov-94 08:49:38 GMT\r\n",
        ] {
            assert_eq!(get(fields), Selected::NotModified, "{fields}");
        }
        for fields in [
            "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
            "If-Modified-Since: yesterday\r\n",
        ] {
            assert_eq!(get(fields), Selected::All, "{fields}");
        }
    }

    #[test]
    fn clients_that_expect_another_state_get_412() {
        for fields in [
            "If-Match: \"x\"\r\n",
            "If-Match: W/\"5-a\"\r\n",
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
            "If-Match: \"x\"\r\nIf-None-Match: \"5-a\"\r\n",
        ] {
            assert_eq!(get(fields), Selected::Changed, "{fields}");
        }
        for fields in [
            "If-Match: *\r\n",
            "If-Match: \"x\", \"5-a\"\r\nIf-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n",
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        ] {
            assert_eq!(get(fields), Selected::All, "{fields}");
        }
    }

    #[test]
    fn dates_that_http_cannot_express_are_left_out() {
        let now = UNIX_EPOCH + Duration::from_millis(5500);
        assert_eq!(full_seconds(UNIX_EPOCH - Duration::from_secs(1), now), None);
        assert_eq!(
            full_seconds(UNIX_EPOCH + Duration::from_millis(1999), now),
            Some(UNIX_EPOCH + Duration::from_secs(1))
        );
        assert_eq!(
            full_seconds(UNIX_EPOCH + Duration::from_secs(1 << 40), now),
            Some(UNIX_EPOCH + Duration::from_secs(5))
        );
    }
}
