//! What a file server and its client read, as any bytes: requests select what is there, responses are accepted only for the
//! file that was requested, and content in chunks is the same wherever it is cut.

use bytes::Bytes;
use tcpls_harness::files::{BadChunk, Chunked, Have, Selected, Validators, describe, parse, select};
use tcpls_harness::http::{Head, HeadReader};

/// The target `files`: the first byte selects what the others are.
pub fn files(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => request(bytes),
        1 => response(bytes),
        _ => chunks(bytes),
    }
}

/// The length of a file, and the head of a request.
fn request(bytes: &[u8]) {
    let Some((len, bytes)) = bytes.split_first_chunk() else { return };
    let Ok(Some(head)) = HeadReader::default().push(bytes) else { return };
    let Ok(request) = parse(&head) else { return };
    assert!(request.path.starts_with('/') && !request.path.contains('\0'));
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
    let validators = Validators { etag: "\"a\"".to_owned(), modified: Some(modified) };
    let len = u64::from(u16::from_be_bytes(*len));
    let has = |names: [&str; 2]| names.iter().any(|name| head.field(name).is_some());
    match select(&head, request.is_get, &validators, len) {
        Selected::All => {}
        Selected::Part(range) => {
            assert!(request.is_get && range.start < range.end && range.end <= len, "{range:?} of {len}");
            assert_eq!(head.all("range").count(), 1);
            assert!(head.field("if-range").is_none_or(|tag| tag == validators.etag));
        }
        Selected::OutOfRange => assert!(request.is_get && head.all("range").count() == 1),
        Selected::NotModified => assert!(has(["if-none-match", "if-modified-since"])),
        Selected::Changed => assert!(has(["if-match", "if-unmodified-since"])),
    }
}

/// The head of a response to a request for the rest of a file.
fn response(bytes: &[u8]) {
    let Ok(Some(head)) = HeadReader::default().push(bytes) else { return };
    let have = Have { len: 10, etag: "\"a\"".to_owned() };
    if let Ok(described) = describe(&head, Some(&have)) {
        let is_rest = described.start == have.len && described.etag == Some(have.etag.clone());
        assert!(described.start == 0 || (is_rest && described.total > Some(have.len)), "{described:?}");
    }
    let whole = describe(&head, None);
    assert!(whole.is_err() || whole.is_ok_and(|described| described.start == 0 && is_whole(&head)));
}

fn is_whole(head: &Head) -> bool {
    head.status() == Some(200)
}

/// Content in chunks, and the same bytes as content.
fn chunks(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let step = usize::from(*step) + 1;
    let (whole, in_pieces) = (decode(bytes, bytes.len().max(1)), decode(bytes, step));
    match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => assert_eq!(whole, in_pieces),
        // What is in front of the fault may have been delivered.
        (Err(_), Err(_)) => {}
        (whole, in_pieces) => panic!("{whole:?} {in_pieces:?}"),
    }
    let mut encoded = Vec::new();
    for chunk in bytes.chunks(step) {
        encoded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(decode(&encoded, step), Ok((bytes.to_vec(), true)));
}

/// The content, and whether it is complete, if `bytes` arrive in pieces of `step`.
fn decode(bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool), BadChunk> {
    let (mut chunked, mut content) = (Chunked::default(), Vec::new());
    for piece in bytes.chunks(step) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(part) = chunked.next(&mut piece)? {
            assert!(!part.is_empty());
            content.extend_from_slice(&part);
        }
    }
    Ok((content, chunked.is_done()))
}
