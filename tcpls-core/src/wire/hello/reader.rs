//! Finds a hello in a sequence of plaintext records that may split it anywhere, within a bound.
//!
//! [`MAX_HELLO`] bounds memory and work: it counts record headers, too, and empty records are refused, so that many
//! tiny records cost no more than one hello. The session or endpoint limits the time.

#[cfg(any(test, feature = "testing"))]
use bytes::{Buf, BytesMut};

use super::*;
use crate::wire::record::{HEADER_LEN, RecordHeader};

/// Bytes of a handshake message's header: its type and a length of 24 bits (RFC 8446, 4).
const MESSAGE_HEADER_LEN: usize = 4;

/// Collects one handshake message out of records.
#[derive(Clone, Debug, Default)]
pub struct HelloReader {
    message: Vec<u8>,
    /// Bytes of the records taken so far.
    taken: usize,
}

impl HelloReader {
    /// For tests, which read a hello piece by piece; the endpoint peeks, the session reads complete records.
    ///
    /// Takes complete records from the start of `bytes`, up to the one that completes the message, and returns that with
    /// its header of 4 bytes; [`split_message`] parts the two. `Ok(None)` if it needs more bytes.
    ///
    /// After a message the reader is as good as new. Whatever comes after its last record stays in `bytes`.
    ///
    /// # Errors
    ///
    /// All except those of the message's content. A record that is not a handshake record stays in `bytes`, so that the
    /// caller can inspect it (for example an alert); the reader must not be used again.
    #[cfg(any(test, feature = "testing"))]
    pub fn push(&mut self, bytes: &mut BytesMut) -> Result<Option<Vec<u8>>, HelloError> {
        while let Some(len) = self.take_record(bytes)? {
            bytes.advance(len);
            if self.is_complete()? {
                return Ok(Some(core::mem::take(self).message));
            }
        }
        Ok(None)
    }

    /// Takes the record at the start of `bytes` and returns its length, if it is there in full.
    fn take_record(&mut self, bytes: &[u8]) -> Result<Option<usize>, HelloError> {
        let Some(header) = RecordHeader::parse(bytes)? else { return Ok(None) };
        if header.content_type != ContentType::Handshake {
            return Err(HelloError::Unexpected);
        }
        header.check_plaintext()?;
        let taken = self.taken + header.record_len();
        if taken > MAX_HELLO {
            return Err(HelloError::TooLong);
        }
        let Some(fragment) = bytes.get(HEADER_LEN..header.record_len()) else { return Ok(None) };
        self.message.extend_from_slice(fragment);
        self.taken = taken;
        Ok(Some(header.record_len()))
    }

    /// Whether the message is there in full. It has to end where a record ends: in real handshakes keys change after
    /// a hello (RFC 8446, 5.1).
    fn is_complete(&self) -> Result<bool, HelloError> {
        let Some((&[_, a, b, c], body)) = self.message.split_first_chunk::<MESSAGE_HEADER_LEN>() else {
            return Ok(false);
        };
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        if len > MAX_HELLO {
            return Err(HelloError::TooLong);
        }
        if body.len() > len { Err(HelloError::Unexpected) } else { Ok(body.len() == len) }
    }
}

/// Looks for a ClientHello at the start of `bytes` and takes nothing. Returns it with how many bytes its records take,
/// or `Ok(None)` if it needs more bytes.
///
/// Each call starts over: the bound of [`MAX_HELLO`] keeps that cheap even if a byte comes at a time.
///
/// # Errors
///
/// The bytes cannot be the start of a valid ClientHello; at the latest after [`MAX_HELLO`] bytes.
pub fn peek_client_hello(bytes: &[u8], ext: &ExtensionTypes) -> Result<Option<(ClientHello, usize)>, HelloError> {
    let mut reader = HelloReader::default();
    while reader.take_record(bytes.get(reader.taken..).unwrap_or_default())?.is_some() {
        if reader.message.first() != Some(&CLIENT_HELLO) {
            return Err(HelloError::Unexpected);
        }
        if reader.is_complete()? {
            let (_, body) = split_message(&reader.message)?;
            return Ok(Some((parse_client_hello(body, ext)?, reader.taken)));
        }
    }
    Ok(None)
}

/// Parts a whole handshake message into its type and its body.
///
/// # Errors
///
/// [`HelloError::Decode`] if the length in the header is not that of the body.
pub fn split_message(message: &[u8]) -> Result<(u8, &[u8]), HelloError> {
    let (&[ty, a, b, c], body) = message.split_first_chunk::<MESSAGE_HEADER_LEN>().ok_or(HelloError::Decode)?;
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    if body.len() == len { Ok((ty, body)) } else { Err(HelloError::Decode) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_failed_stays_within_the_bound() {
        let (mut reader, mut buffer) = (HelloReader::default(), BytesMut::new());
        buffer.extend_from_slice(&[22, 3, 1, 0, 4, CLIENT_HELLO, 0xff, 0xff, 0xff]);
        assert_eq!(reader.push(&mut buffer), Err(HelloError::TooLong));
        for _ in 0..100 {
            buffer.extend_from_slice(&[22, 3, 1, 3, 0xe8]);
            buffer.extend_from_slice(&[0; 1000]);
            assert_eq!(reader.push(&mut buffer), Err(HelloError::TooLong));
        }
        assert!(reader.message.len() <= MAX_HELLO);
    }
}
