//! A TLS-aware middlebox: it passes TCP connections that look like TLS 1.3 from the first byte to the last (RFC 8446, 5
//! and D.4), and ends all others. It has no keys, so it checks hellos, record headers and their order.
//!
//! Stricter than TLS: hellos have to be whole in the first record of their direction, and there is no HelloRetryRequest.

use bytes::{Buf, BytesMut};

use super::hello::{ClientHello, EARLY_DATA, PRE_SHARED_KEY, ServerHello};

const HEADER: usize = 5;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// What a protected record has at least: a content type and a tag; and at most (RFC 8446, 5.2).
const PROTECTED: std::ops::RangeInclusive<usize> = 17..=(1 << 14) + 256;
const MAX_HELLO: usize = 1 << 14;

type Verdict = Result<(), String>;

/// One TCP connection, as the box sees it.
#[derive(Debug, Default)]
pub(super) struct Inspector {
    ways: [Direction; 2],
    offer: Option<Offer>,
}

#[derive(Debug, Default)]
struct Direction {
    /// The received beginning of a record.
    input: BytesMut,
    /// How many bytes of a protected record are still to come.
    skip: usize,
    has_hello: bool,
    has_ccs: bool,
    /// An alert in plaintext: nothing but alerts may follow.
    ended: bool,
}

/// The offers of the ClientHello on which the answer depends.
#[derive(Debug)]
struct Offer {
    session_id: Vec<u8>,
    suites: Vec<u8>,
    resumes: bool,
    early_data: bool,
}

impl Inspector {
    /// Looks at bytes that pass in a direction.
    pub(super) fn look(&mut self, way: usize, bytes: &[u8]) -> Verdict {
        self.ways[way].input.extend_from_slice(bytes);
        loop {
            let direction = &mut self.ways[way];
            let skipped = direction.skip.min(direction.input.len());
            direction.input.advance(skipped);
            direction.skip -= skipped;
            if direction.input.len() < HEADER {
                return Ok(());
            }
            let (kind, len) = header(&direction.input)?;
            if kind == APPLICATION_DATA {
                direction.input.advance(HEADER);
                direction.skip = len;
                self.judge_protected(way)?;
                continue;
            }
            if direction.input.len() < HEADER + len {
                return Ok(());
            }
            let record = direction.input.split_to(HEADER + len);
            self.judge(way, kind, &record[HEADER..])?;
        }
    }

    fn judge_protected(&self, way: usize) -> Verdict {
        let may = self.may_protect(way) && !self.ways[way].ended;
        if may { Ok(()) } else { Err("a protected record where none may be".to_owned()) }
    }

    /// Servers protect what follows their hello, clients what follows the server's, or at once with early data.
    fn may_protect(&self, way: usize) -> bool {
        self.ways[1].has_hello || (way == 0 && self.offer.as_ref().is_some_and(|offer| offer.early_data))
    }

    /// A record in plaintext.
    fn judge(&mut self, way: usize, kind: u8, content: &[u8]) -> Verdict {
        let may_protect = self.may_protect(way);
        let direction = &mut self.ways[way];
        match kind {
            HANDSHAKE if direction.has_hello || direction.ended => Err("a second message in clear".to_owned()),
            HANDSHAKE if way == 0 => self.judge_client_hello(content),
            HANDSHAKE => self.judge_server_hello(content),
            CHANGE_CIPHER_SPEC if direction.has_ccs || !may_protect || content != [1] => {
                Err("a ChangeCipherSpec where none may be".to_owned())
            }
            CHANGE_CIPHER_SPEC => {
                direction.has_ccs = true;
                Ok(())
            }
            // Servers give up on clients that say nothing, and may say so.
            _ if way == 0 && self.offer.is_none() => Err("an alert where none may be".to_owned()),
            _ => {
                direction.ended = true;
                Ok(())
            }
        }
    }

    fn judge_client_hello(&mut self, content: &[u8]) -> Verdict {
        let hello = ClientHello::parse(content).filter(ClientHello::is_tls_1_3);
        let hello = hello.ok_or("what comes first is no ClientHello of TLS 1.3")?;
        self.offer = Some(Offer {
            session_id: hello.session_id.to_vec(),
            suites: hello.suites.to_vec(),
            resumes: hello.offers(PRE_SHARED_KEY),
            early_data: hello.offers(PRE_SHARED_KEY) && hello.offers(EARLY_DATA),
        });
        self.ways[0].has_hello = true;
        Ok(())
    }

    fn judge_server_hello(&mut self, content: &[u8]) -> Verdict {
        let hello = ServerHello::parse(content).filter(ServerHello::is_tls_1_3);
        let fits = |hello: &ServerHello<'_>, offer: &Offer| {
            hello.session_id == offer.session_id
                && offer.suites.chunks(2).any(|suite| suite == hello.suite)
                && (offer.resumes || !hello.has(PRE_SHARED_KEY))
        };
        if !hello.zip(self.offer.as_ref()).is_some_and(|(hello, offer)| fits(&hello, offer)) {
            return Err("no ServerHello of TLS 1.3 that answers the ClientHello".to_owned());
        }
        self.ways[1].has_hello = true;
        Ok(())
    }
}

/// Type and length of the record that begins here, if it can be TLS.
fn header(bytes: &[u8]) -> Result<(u8, usize), String> {
    let (kind, minor) = (bytes[0], bytes[2]);
    let len = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
    let version = bytes[1] == 3 && (minor == 3 || (minor == 1 && kind == HANDSHAKE));
    let sane = match kind {
        CHANGE_CIPHER_SPEC => len == 1,
        ALERT => len == 2,
        HANDSHAKE => (1..=MAX_HELLO).contains(&len),
        APPLICATION_DATA => PROTECTED.contains(&len),
        _ => false,
    };
    if version && sane { Ok((kind, len)) } else { Err(format!("no record begins with {:02x?}", &bytes[..HEADER])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3], &(content.len() as u16).to_be_bytes()[..], content].concat()
    }

    fn hello(kind: u8, suites: &[u8], extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[9; 32]);
        body.extend_from_slice(&[0]);
        body.extend_from_slice(suites);
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(extensions);
        record(HANDSHAKE, &[&[kind, 0, 0, body.len() as u8], &body[..]].concat())
    }

    const KEY_SHARE: [u8; 4] = [0, 51, 0, 0];
    const PROTECTED_RECORD: [u8; 24] = [23, 3, 3, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn client_hello(early: bool) -> Vec<u8> {
        let early: &[u8] = if early { &[0, 42, 0, 0, 0, 41, 0, 0] } else { &[] };
        hello(1, &[0, 2, 0x13, 1, 1, 0], &[&[0, 43, 0, 3, 2, 3, 4], &KEY_SHARE[..], early].concat())
    }

    fn server_hello(suite: u8) -> Vec<u8> {
        hello(2, &[0x13, suite, 0], &[&[0, 43, 0, 2, 3, 4], &KEY_SHARE[..]].concat())
    }

    fn ccs() -> Vec<u8> {
        record(CHANGE_CIPHER_SPEC, &[1])
    }

    /// Whether all this is let through, in pieces of `piece` bytes.
    fn passes(flights: &[(usize, Vec<u8>)], piece: usize) -> bool {
        let mut inspector = Inspector::default();
        flights.iter().all(|(way, bytes)| bytes.chunks(piece).all(|bytes| inspector.look(*way, bytes).is_ok()))
    }

    #[test]
    fn tls_like_bytes_pass_in_pieces_of_any_size() {
        let data = || PROTECTED_RECORD.to_vec();
        let full = [(0, client_hello(false)), (1, server_hello(1)), (1, ccs()), (1, data()), (0, ccs()), (0, data())];
        let early = [(0, client_hello(true)), (0, ccs()), (0, data()), (1, server_hello(1)), (1, data())];
        let late = [(1, record(ALERT, &[1, 0]))];
        let refused = [(0, client_hello(true)), (0, data()), (1, record(ALERT, &[2, 47])), (0, data())];
        for piece in [1, 2, 7, 1000] {
            assert!([&full[..], &early, &late, &refused].into_iter().all(|flights| passes(flights, piece)), "{piece}");
        }
    }

    #[test]
    fn non_tls_tcp_connection_is_reset() {
        let (hello, data) = (|| (0, client_hello(false)), || PROTECTED_RECORD.to_vec());
        let mut long = hello();
        long.1.splice(3..5, [0xff, 0xff]);
        let mut old = hello();
        let version = old.1.windows(2).position(|pair| pair == [3, 4]).unwrap();
        old.1[version + 1] = 3;
        for wrong in [
            vec![(0, b"GET / HTTP/1.1\r\n".to_vec())],
            vec![(0, data())],
            vec![(1, server_hello(1))],
            vec![(0, record(ALERT, &[1, 0]))],
            vec![long],
            vec![old],
            vec![hello(), (0, data())],
            vec![hello(), (0, ccs())],
            vec![hello(), (0, client_hello(false))],
            vec![hello(), (1, data())],
            vec![hello(), (1, server_hello(2))],
            vec![hello(), (1, server_hello(1)), (1, server_hello(1))],
            vec![hello(), (1, server_hello(1)), (1, ccs()), (1, ccs())],
            vec![hello(), (1, server_hello(1)), (0, record(APPLICATION_DATA, &[0; 16]))],
            vec![hello(), (1, record(ALERT, &[2, 47])), (1, data())],
            vec![hello(), (1, server_hello(1)), (1, record(24, &[0; 20]))],
        ] {
            assert!(!passes(&wrong, 1000), "{wrong:02x?}");
        }
    }
}
