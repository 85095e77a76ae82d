//! TLS records on the wire (RFC 8446, 5): the header, the inner plaintext, the body of an alert.
//!
//! This file has no keys and no state: the session and the endpoint decide which records are allowed when.
//!
//! ```
//! use tcpls_core::wire::record::{ContentType, HEADER_LEN, RecordHeader, split_inner};
//!
//! // What a socket gave: a whole record, and the first byte of another.
//! let bytes = [&RecordHeader::encode_protected(20)[..], &[0; 20], &[23]].concat();
//! let header = RecordHeader::parse(&bytes)?.expect("the header is complete");
//! assert_eq!((header.content_type, header.record_len()), (ContentType::ApplicationData, 25));
//! let (record, rest) = bytes.split_at(header.record_len());
//! assert_eq!(record.len() - HEADER_LEN, header.len);
//! assert_eq!(RecordHeader::parse(rest)?, None, "more bytes are needed");
//!
//! // What the record holds after decryption: content, content type, padding.
//! assert_eq!(split_inner(&[1, 2, 3, 23, 0, 0]), Some((23, 3)));
//! # Ok::<(), tcpls_core::wire::record::RecordError>(())
//! ```

use core::fmt;

use crate::error::{Alert as AlertDescription, TcpFault};

/// Bytes of a record's header.
pub const HEADER_LEN: usize = 5;

/// The longest plaintext of a record, in bytes (RFC 8446, 5.1).
pub const MAX_PLAINTEXT: usize = 1 << 14;

/// The longest inner plaintext: content, content type and padding, in bytes (RFC 8446, 5.4).
pub const MAX_INNER_PLAINTEXT: usize = MAX_PLAINTEXT + 1;

/// The longest protected record without its header, in bytes (RFC 8446, 5.2).
pub const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;

/// The most stream data that fits in a record, in bytes.
pub const MAX_STREAM_DATA: usize = MAX_PLAINTEXT - super::frame::STREAM_OVERHEAD;

/// The content type of a record (RFC 8446, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ContentType {
    /// 20: ChangeCipherSpec, for middleboxes that expect a resumed TLS 1.2 session; no meaning in TLS 1.3.
    ChangeCipherSpec = 20,
    /// 21
    Alert = 21,
    /// 22
    Handshake = 22,
    /// 23: in a header, any protected record; in an inner plaintext, frames.
    ApplicationData = 23,
}

impl ContentType {
    /// The content type with this number, if TLS 1.3 has one.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            _ => None,
        }
    }
}

/// Why a record's header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes are not a TLS record.
    NotTls,
    /// The record is longer than TLS allows.
    Overflow,
    /// The record is empty, and not application data.
    Empty,
}

impl RecordError {
    /// Returns the alert for this error (RFC 8446, 5.1 and 5.2).
    pub const fn alert(self) -> AlertDescription {
        match self {
            Self::Overflow => AlertDescription::RecordOverflow,
            Self::NotTls | Self::Empty => AlertDescription::UnexpectedMessage,
        }
    }
}

impl From<RecordError> for TcpFault {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::NotTls => Self::NotTls,
            RecordError::Overflow => Self::RecordOverflow,
            RecordError::Empty => Self::UnexpectedRecord,
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "not a TLS record",
            Self::Overflow => "record longer than TLS allows",
            Self::Empty => "empty record",
        })
    }
}

impl core::error::Error for RecordError {}

/// The first 5 bytes of a record. The version's minor number, which TLS 1.3 ignores, is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The content type in the header.
    pub content_type: ContentType,
    /// Bytes that follow the header, at most [`MAX_CIPHERTEXT`].
    pub len: usize,
}

impl RecordHeader {
    /// Reads the header at the start of `bytes`; returns `Ok(None)` if it is valid so far, but incomplete.
    ///
    /// # Errors
    ///
    /// The bytes cannot be the start of a valid header.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, RecordError> {
        let Some(&number) = bytes.first() else { return Ok(None) };
        let content_type = ContentType::from_u8(number).ok_or(RecordError::NotTls)?;
        if bytes.get(1).is_some_and(|&major| major != 3) {
            return Err(RecordError::NotTls);
        }
        let Some(&high) = bytes.get(3) else { return Ok(None) };
        let low = bytes.get(4);
        // Without its last byte, this is the least that the length can be.
        let len = usize::from(u16::from_be_bytes([high, low.copied().unwrap_or(0)]));
        if len > MAX_CIPHERTEXT {
            return Err(RecordError::Overflow);
        }
        if low.is_none() {
            return Ok(None);
        }
        if len == 0 && content_type != ContentType::ApplicationData {
            return Err(RecordError::Empty);
        }
        Ok(Some(Self { content_type, len }))
    }

    /// Bytes of the complete record, its header included.
    pub const fn record_len(&self) -> usize {
        HEADER_LEN + self.len
    }

    /// Checks the length of a plaintext record, whose limit is lower than that of [`RecordHeader::parse`].
    ///
    /// # Errors
    ///
    /// [`RecordError::Overflow`] if the record is longer than [`MAX_PLAINTEXT`].
    pub const fn check_plaintext(&self) -> Result<(), RecordError> {
        if self.len > MAX_PLAINTEXT { Err(RecordError::Overflow) } else { Ok(()) }
    }

    /// The header of a protected record of `len` bytes, tag included: at most [`MAX_CIPHERTEXT`]. It is the record's
    /// additional data as well (RFC 8446, 5.2).
    pub const fn encode_protected(len: usize) -> [u8; HEADER_LEN] {
        debug_assert!(len <= MAX_CIPHERTEXT);
        let [high, low] = (len as u16).to_be_bytes();
        [ContentType::ApplicationData as u8, 3, 3, high, low]
    }
}

/// Splits an inner plaintext (content, content type, zeros) and returns the content type and the content's length.
///
/// `None` if all of it is zero: such a record has no content type, which is an `unexpected_message` (RFC 8446, 5.4).
pub fn split_inner(plaintext: &[u8]) -> Option<(u8, usize)> {
    let at = plaintext.iter().rposition(|&byte| byte != 0)?;
    Some((*plaintext.get(at)?, at))
}

/// The body of an alert record (RFC 8446, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// 1 for warning, 2 for fatal; TLS 1.3 ignores it.
    pub level: u8,
    /// The description code.
    pub description: u8,
}

impl Alert {
    /// Reads an alert; `None` unless it is exactly 2 bytes.
    pub const fn parse(body: &[u8]) -> Option<Self> {
        match *body {
            [level, description] => Some(Self { level, description }),
            _ => None,
        }
    }

    /// Whether it is close_notify: the sender sends no more data (draft, 4.5).
    pub const fn is_close_notify(&self) -> bool {
        self.description == AlertDescription::CloseNotify as u8
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(content_type: ContentType, len: usize) -> Result<Option<RecordHeader>, RecordError> {
        Ok(Some(RecordHeader { content_type, len }))
    }

    #[test]
    fn headers_of_all_four_types_are_read() {
        assert_eq!(RecordHeader::parse(&[20, 3, 3, 0, 1]), header(ContentType::ChangeCipherSpec, 1));
        assert_eq!(RecordHeader::parse(&[21, 3, 1, 0, 2]), header(ContentType::Alert, 2));
        assert_eq!(RecordHeader::parse(&[22, 3, 1, 2, 3, 99]), header(ContentType::Handshake, 0x203));
        assert_eq!(RecordHeader::parse(&[23, 3, 3, 0x41, 0]), header(ContentType::ApplicationData, MAX_CIPHERTEXT));
        assert_eq!(RecordHeader::parse(&[23, 3, 3, 0, 0]), header(ContentType::ApplicationData, 0));
    }

    #[test]
    fn headers_of_the_vectors_are_read_or_refused_as_expected() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../testdata/vectors.json")).unwrap();
        let vectors = file["record_headers"].as_array().unwrap();
        assert!(vectors.len() >= 13);
        for vector in vectors {
            let bytes = hex::decode(vector["hex"].as_str().unwrap()).unwrap();
            let parsed = RecordHeader::parse(&bytes);
            match (vector["error"].as_str(), vector["length"].as_u64()) {
                (Some("not_tls"), _) => assert_eq!(parsed, Err(RecordError::NotTls), "{vector}"),
                (Some("overflow"), _) => assert_eq!(parsed, Err(RecordError::Overflow), "{vector}"),
                (Some("empty"), _) => assert_eq!(parsed, Err(RecordError::Empty), "{vector}"),
                (Some(other), _) => panic!("an unknown error, {other}"),
                (None, None) => assert_eq!(parsed, Ok(None), "{vector}"),
                (None, Some(len)) => {
                    let content_type = ContentType::from_u8(vector["content_type"].as_u64().unwrap() as u8).unwrap();
                    assert_eq!(parsed, header(content_type, len as usize), "{vector}");
                    if content_type == ContentType::ApplicationData {
                        assert_eq!(RecordHeader::encode_protected(len as usize), bytes[..], "{vector}");
                    }
                }
            }
        }
    }

    #[test]
    fn part_of_a_good_header_is_no_error() {
        let whole = [23, 3, 3, 0x41, 0];
        for cut in 0..whole.len() {
            assert_eq!(RecordHeader::parse(&whole[..cut]), Ok(None), "{cut} bytes");
        }
    }

    #[test]
    fn non_tls_bytes_are_refused_at_the_first_invalid_byte() {
        for first in (0..=255).filter(|first| !(20..=23).contains(first)) {
            assert_eq!(RecordHeader::parse(&[first]), Err(RecordError::NotTls));
        }
        for major in (0..=255).filter(|&major| major != 3) {
            assert_eq!(RecordHeader::parse(&[22, major]), Err(RecordError::NotTls));
        }
        assert_eq!(RecordHeader::parse(b"GET / HTTP/1.1\r\n"), Err(RecordError::NotTls));
    }

    #[test]
    fn a_record_that_is_too_long_is_refused_before_its_length_is_all_there() {
        assert_eq!(RecordHeader::parse(&[23, 3, 3, 0x41]), Ok(None));
        assert_eq!(RecordHeader::parse(&[23, 3, 3, 0x41, 1]), Err(RecordError::Overflow));
        assert_eq!(RecordHeader::parse(&[23, 3, 3, 0x42]), Err(RecordError::Overflow));
    }

    #[test]
    fn only_application_data_may_be_empty() {
        for content_type in 20..=22 {
            assert_eq!(RecordHeader::parse(&[content_type, 3, 3, 0, 0]), Err(RecordError::Empty));
        }
    }

    #[test]
    fn the_bound_of_records_in_clear_is_lower() {
        let header = |len| RecordHeader { content_type: ContentType::Handshake, len };
        assert_eq!(header(MAX_PLAINTEXT).check_plaintext(), Ok(()));
        assert_eq!(header(MAX_PLAINTEXT + 1).check_plaintext(), Err(RecordError::Overflow));
    }

    #[test]
    fn header_of_a_protected_record_has_version_tls_1_2() {
        assert_eq!(RecordHeader::encode_protected(0x1234), [0x17, 3, 3, 0x12, 0x34]);
        assert_eq!(RecordHeader::encode_protected(MAX_CIPHERTEXT), [0x17, 3, 3, 0x41, 0]);
    }

    #[test]
    fn padding_is_stripped_up_to_the_content_type() {
        assert_eq!(split_inner(&[1, 0, 2, 23]), Some((23, 3)));
        assert_eq!(split_inner(&[1, 0, 0, 23, 0, 0]), Some((23, 3)));
        assert_eq!(split_inner(&[21, 0]), Some((21, 0)));
        assert_eq!(split_inner(&[0; 40]), None);
        assert_eq!(split_inner(&[]), None);
    }

    #[test]
    fn a_record_holds_16369_bytes_of_stream_data() {
        assert_eq!(MAX_STREAM_DATA, 16369);
    }

    #[test]
    fn an_alert_is_exactly_two_bytes() {
        assert_eq!(Alert::parse(&[2, 47]), Some(Alert { level: 2, description: 47 }));
        assert_eq!(Alert::parse(&[2]), None);
        assert_eq!(Alert::parse(&[2, 47, 0]), None);
        assert!(Alert { level: 2, description: 0 }.is_close_notify());
        assert!(!Alert { level: 1, description: 90 }.is_close_notify());
    }

    #[test]
    fn errors_describe_their_cause() {
        let words = [RecordError::NotTls, RecordError::Overflow, RecordError::Empty].map(|error| error.to_string());
        assert_eq!(words, ["not a TLS record", "record longer than TLS allows", "empty record"]);
    }

    proptest! {
        #[test]
        fn a_valid_header_gives_the_length_of_its_record(record in crate::testing::strategies::record()) {
            let header = RecordHeader::parse(&record).unwrap().expect("the header is complete");
            prop_assert_eq!((header.content_type as u8, header.record_len()), (record[0], record.len()));
        }

        #[test]
        fn any_bytes_are_a_header_an_error_or_too_few(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            match RecordHeader::parse(&bytes) {
                Ok(Some(header)) => prop_assert!(bytes.len() >= HEADER_LEN && header.len <= MAX_CIPHERTEXT),
                Ok(None) => prop_assert!(bytes.len() < HEADER_LEN),
                Err(_) => prop_assert!(!bytes.is_empty()),
            }
        }

        #[test]
        fn inner_plaintext_is_split_again(
            content in proptest::collection::vec(any::<u8>(), 0..50),
            content_type in 1u8..,
            padding in 0usize..50,
        ) {
            let mut inner = content.clone();
            inner.push(content_type);
            inner.resize(inner.len() + padding, 0);
            prop_assert_eq!(split_inner(&inner), Some((content_type, content.len())));
        }
    }
}
