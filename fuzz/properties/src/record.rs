//! Any bytes are a record header, too few, or an error; any inner plaintext has a content type or is all padding.

use tcpls_core::wire::record::{Alert, MAX_CIPHERTEXT, RecordHeader, split_inner};

/// The target `record`: the input is a record's beginning, an inner plaintext and an alert.
pub fn record(bytes: &[u8]) {
    if let Ok(Some(header)) = RecordHeader::parse(bytes) {
        assert!(header.len <= MAX_CIPHERTEXT);
    }
    match split_inner(bytes) {
        Some((content_type, len)) => {
            assert_eq!(bytes[len], content_type);
            assert!(content_type != 0 && bytes[len + 1..].iter().all(|byte| *byte == 0));
        }
        None => assert!(bytes.iter().all(|byte| *byte == 0)),
    }
    let _ = Alert::parse(bytes);
}
