//! Takes whole TLS records off the front of a receive buffer. Keeps nothing itself.

use bytes::BytesMut;

use crate::wire::record::{HEADER_LEN, RecordError, RecordHeader};

/// The next complete record with its header, or `None` if it has not all come. Bad headers are found as early as their bytes
/// are there, so that an attacker can't make anyone wait for a record that will be refused.
pub(crate) fn next_record(bytes: &mut BytesMut) -> Result<Option<(RecordHeader, BytesMut)>, RecordError> {
    let Some(header) = RecordHeader::parse(bytes)? else { return Ok(None) };
    let total = HEADER_LEN + header.len;
    if bytes.len() < total {
        return Ok(None);
    }
    Ok(Some((header, bytes.split_to(total))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deframer_returns_complete_records_and_keeps_the_rest() {
        let mut bytes = BytesMut::from(&[23, 3, 3, 0, 2, 0xaa][..]);
        assert!(next_record(&mut bytes).unwrap().is_none());
        assert_eq!(bytes.len(), 6, "nothing is taken of half a record");
        bytes.extend_from_slice(&[0xbb, 23, 3]);
        let (header, record) = next_record(&mut bytes).unwrap().unwrap();
        assert_eq!((header.len, &record[..]), (2, &[23, 3, 3, 0, 2, 0xaa, 0xbb][..]));
        assert_eq!(&bytes[..], [23, 3]);
    }

    #[test]
    fn bad_header_is_an_error_before_the_record_is_complete() {
        assert!(next_record(&mut BytesMut::from(&b"G"[..])).is_err());
        assert!(next_record(&mut BytesMut::from(&[23, 3, 3, 0xff, 0xff][..])).is_err());
    }
}
