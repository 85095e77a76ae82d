//! A middlebox that removes extensions from the ClientHello and corrects the lengths, so that the server gets a valid
//! hello of a client that did not offer TCPLS.

use bytes::{BufMut, BytesMut};

use super::hello::{ALPN, ClientHello};
use crate::sim::scenario::Extension;

const HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
/// The code points of `tcpls` and `tcpls_join`, as docs/protocol.md has them (D1).
const TCPLS: [u16; 2] = [0xff60, 0xff61];

/// See the module's description.
#[derive(Debug)]
pub(super) struct Stripper {
    extension: Extension,
    /// The received beginning of the first record; `None` once it is forwarded.
    first: Option<BytesMut>,
}

impl Stripper {
    pub(super) fn new(extension: Extension) -> Self {
        Self { extension, first: Some(BytesMut::new()) }
    }

    /// Returns the bytes for the server; `last`: no more bytes follow.
    pub(super) fn pass(&mut self, bytes: BytesMut, last: bool) -> BytesMut {
        let Some(mut first) = self.first.take() else { return bytes };
        first.extend_from_slice(&bytes);
        let len = if first.len() < HEADER {
            usize::MAX
        } else {
            HEADER + usize::from(u16::from_be_bytes([first[3], first[4]]))
        };
        let may_be_hello = first.first().is_none_or(|kind| *kind == HANDSHAKE);
        if first.len() < len && may_be_hello && !last {
            self.first = Some(first);
            return BytesMut::new();
        }
        self.strip(&first, len).unwrap_or(first)
    }

    /// The same with a hello that lacks the extension; `None` if it is no hello.
    fn strip(&self, bytes: &[u8], len: usize) -> Option<BytesMut> {
        let (record, rest) = bytes.split_at_checked(len)?;
        let message = &record[HEADER..];
        let hello = ClientHello::parse(message)?;
        let mut extensions = Vec::new();
        for (kind, body) in hello.extensions.iter().filter(|(kind, _)| !self.is_stripped(*kind)) {
            extensions.put_u16(*kind);
            extensions.put_u16(body.len() as u16);
            extensions.put_slice(body);
        }
        let body = hello.head - 4 + 2 + extensions.len();
        let mut out = BytesMut::new();
        out.put_slice(&record[..3]);
        out.put_u16((4 + body) as u16);
        out.put_u8(message[0]);
        out.put_uint(body as u64, 3);
        out.put_slice(&message[4..hello.head]);
        out.put_u16(extensions.len() as u16);
        out.put_slice(&extensions);
        out.put_slice(rest);
        Some(out)
    }

    fn is_stripped(&self, kind: u16) -> bool {
        match self.extension {
            Extension::Alpn => kind == ALPN,
            Extension::Tcpls => TCPLS.contains(&kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello with these extensions, each with a body of two bytes.
    fn hello(kinds: &[u16]) -> Vec<u8> {
        let extensions: Vec<u8> = kinds.iter().flat_map(|kind| [(kind >> 8) as u8, *kind as u8, 0, 2, 7, 7]).collect();
        let mut body = vec![3; 34];
        body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0, 0, extensions.len() as u8]);
        body.extend_from_slice(&extensions);
        [&[22, 3, 1, 0, 4 + body.len() as u8, 1, 0, 0, body.len() as u8], &body[..]].concat()
    }

    fn stripped(extension: Extension, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut stripper = Stripper::new(extension);
        let mut out: Vec<u8> = bytes.chunks(piece).flat_map(|bytes| stripper.pass(bytes.into(), false)).collect();
        out.extend(stripper.pass(BytesMut::new(), true));
        out
    }

    #[test]
    fn stripped_hello_lacks_only_the_extension() {
        let (with, follows) = (hello(&[43, ALPN, 51, 0xff60, 0xff61]), b"and more".to_vec());
        for piece in [1, 3, 1000] {
            let all = [with.clone(), follows.clone()].concat();
            let without_alpn = [hello(&[43, 51, 0xff60, 0xff61]), follows.clone()].concat();
            assert_eq!(stripped(Extension::Alpn, &all, piece), without_alpn);
            let without_tcpls = [hello(&[43, ALPN, 51]), follows.clone()].concat();
            assert_eq!(stripped(Extension::Tcpls, &all, piece), without_tcpls);
        }
    }

    #[test]
    fn bytes_that_are_not_a_hello_pass_unchanged() {
        let cut = &hello(&[ALPN])[..20];
        for bytes in [&b"GET / HTTP/1.1"[..], &[22, 3, 3, 0, 2, 9, 9, 1], cut, &[22]] {
            assert_eq!(stripped(Extension::Alpn, bytes, 4), bytes);
        }
    }
}
