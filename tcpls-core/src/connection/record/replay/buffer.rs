//! Makes the bytes that a driver had received: the same lengths, and for each record what the recording has of it.

use bytes::{BufMut, BytesMut};

use super::super::format::Malformed;
use super::super::item::Item;
use super::tls::tag;
use crate::crypto::TAG_LEN;
use crate::wire::record::{HEADER_LEN, MAX_CIPHERTEXT};

/// The longest buffer of a driver, and the most that an application offers in one call, in bytes.
pub(in crate::connection) const MAX_BUFFER: usize = 64 << 20;

/// Returns a buffer of `len` bytes whose records are those of a call.
pub(super) fn received(items: &[Item], len: usize) -> Result<BytesMut, Malformed> {
    if len > MAX_BUFFER {
        return Err(Malformed("a buffer is longer than 64 MiB"));
    }
    let mut buffer = BytesMut::with_capacity(len);
    let mut records = items.iter();
    // The beginning of the longest record, which is not there to its end.
    let mut rest = [23, 3, 3, 0x41, 0x00];
    while let Some(item) = records.next() {
        match item {
            Item::Record { content_type, len: body } => {
                if *body > MAX_CIPHERTEXT || buffer.len() + HEADER_LEN + body > len {
                    return Err(Malformed("a record is longer than its buffer"));
                }
                let [high, low] = (*body as u16).to_be_bytes();
                buffer.put_slice(&[*content_type, 3, 3, high, low]);
                put_body(opened(records.as_slice()), *body, &mut buffer)?;
            }
            Item::BadHeader { error } => {
                rest = match error {
                    1 => [0; 5],
                    2 => [23, 3, 3, 0xff, 0xff],
                    3 => [22, 3, 3, 0, 0],
                    _ => return Err(Malformed("unknown error of a header")),
                };
            }
            _ => {}
        }
    }
    let left = len - buffer.len();
    buffer.put_slice(&rest[..left.min(rest.len())]);
    buffer.put_bytes(0, len - buffer.len());
    Ok(buffer)
}

/// What became of the record in front of these items, if it opened.
fn opened(items: &[Item]) -> Option<&Item> {
    let is_next = |item: &&Item| !matches!(item, Item::Record { .. } | Item::BadHeader { .. });
    items.iter().take_while(is_next).find(|item| matches!(item, Item::Opened { .. } | Item::OpenedInvalid { .. }))
}

fn put_body(opened: Option<&Item>, len: usize, buffer: &mut BytesMut) -> Result<(), Malformed> {
    match opened {
        Some(Item::Opened { generation, content_type, padding, content }) => {
            if content.0.len() + 1 + padding + TAG_LEN != len {
                return Err(Malformed("a record and its content do not have the same length"));
            }
            buffer.put_slice(&content.0);
            buffer.put_u8(*content_type);
            buffer.put_bytes(0, *padding);
            buffer.put_slice(&tag(Some(*generation)));
        }
        Some(Item::OpenedInvalid { generation }) => {
            let inner = len.checked_sub(TAG_LEN).ok_or(Malformed("a record is shorter than its tag"))?;
            buffer.put_bytes(0, inner);
            buffer.put_slice(&tag(Some(*generation)));
        }
        _ => {
            let tag = tag(None);
            buffer.put_bytes(0, len.saturating_sub(TAG_LEN));
            buffer.put_slice(&tag[..len.min(TAG_LEN)]);
        }
    }
    Ok(())
}
