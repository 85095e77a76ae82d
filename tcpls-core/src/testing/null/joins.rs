//! Joins that are resumptions, without protection (decision D167): a ClientHello whose ticket is the token, and a flight of the
//! server's that resumes.
//!
//! The key is known from the handshake on: there are no tickets of the session that the client has to wait for.

use super::{ALPN, Early, NullHandshake, SERVER_NAME, message, mix};
use crate::crypto::plaintext_alert;
use crate::error::{Alert, HandshakeError, HandshakeErrorKind};
use crate::wire::hello::{ExtensionTypes, peek_client_hello};
use crate::wire::ids::{Side, Token};
use crate::wire::record::{HEADER_LEN, RecordHeader};

/// The type of the message by which a server resumes.
const RESUMING_FLIGHT: u8 = 9;
/// The length on the wire of a record with EndOfEarlyData, and of one with Finished: as in TLS.
const END_OF_EARLY_DATA: usize = 26;
const FINISHED: usize = 58;

/// What the handshake of a join knows.
pub(super) struct Join {
    key: u64,
    token: Token,
    early_data: bool,
    is_resumed: bool,
}

impl Join {
    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Whether the ClientHello offers the token, and has the checksum that only its ends know.
    fn is_offered_in(&self, record: &[u8]) -> bool {
        let hello = peek_client_hello(record, &ExtensionTypes::default());
        hello.is_ok_and(|hello| hello.is_some_and(|(hello, _)| hello.ticket == Some(self.token)))
    }

    fn is_bound(&self, record: &[u8]) -> bool {
        record.split_last_chunk().is_some_and(|(hello, binder)| *binder == mix(self.key, hello).to_be_bytes())
    }
}

impl NullHandshake {
    /// Starts the handshake of a join of the session with this secret.
    pub(super) fn join(side: Side, secret: u64, token: &[u8; 32], early_data: bool) -> Self {
        let key = mix(secret, b"joins");
        let join = Join { key, token: Token(*token), early_data, is_resumed: false };
        let mut handshake = Self { join: Some(join), ..Self::new(Side::Server, [0; 32]) };
        handshake.side = side;
        if side == Side::Client {
            handshake.out = hello(key, token, early_data);
            handshake.transcript = mix(0, &handshake.out);
        }
        handshake
    }

    /// Server: answers a ClientHello that resumes. Returns false if it does not, and is to be answered as any other.
    pub(super) fn resume(&mut self, record: &[u8]) -> Result<bool, HandshakeError> {
        let Some(join) = self.join.as_mut().filter(|join| join.is_offered_in(record)) else { return Ok(false) };
        if !join.is_bound(record) {
            self.out.extend_from_slice(&plaintext_alert(Alert::IllegalParameter));
            return Err(HandshakeError::new(HandshakeErrorKind::Violation, "the binder is wrong"));
        }
        join.is_resumed = true;
        self.transcript = mix(0, record);
        self.early = Early::skipping();
        self.say(RESUMING_FLIGHT);
        Ok(true)
    }

    /// Client: takes the flight of a server that resumes, and leaves records of the usual lengths to stand in for.
    pub(super) fn hear_resumption(&mut self, record: &[u8]) -> bool {
        let Some(join) = self.join.as_mut().filter(|_| record == message(RESUMING_FLIGHT, self.transcript)) else {
            return false;
        };
        join.is_resumed = true;
        let lengths = [join.early_data.then_some(END_OF_EARLY_DATA), Some(FINISHED)];
        for len in lengths.into_iter().flatten() {
            self.out.extend_from_slice(&RecordHeader::encode_protected(len - HEADER_LEN));
            self.out.resize(self.out.len() + len - HEADER_LEN, 0);
        }
        true
    }
}

/// A ClientHello of TLS 1.3 with all that the server's session checks. Its random comes from the token, which is used once.
fn hello(key: u64, token: &[u8; 32], early_data: bool) -> Vec<u8> {
    let [random, session_id] =
        [1, 2].map(|label| [0, 1, 2, 3].map(|part| mix(mix(key, token), &[label, part]).to_be_bytes()).concat());
    let extension = |ty: u16, body: &[u8]| [&ty.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), body].concat();
    let name_len = SERVER_NAME.len() as u8;
    let name = [&[0, name_len + 3, 0, 0, name_len], SERVER_NAME.as_bytes()].concat();
    let alpn = [&[0, ALPN.len() as u8 + 1, ALPN.len() as u8], ALPN].concat();
    let psk = [&[0, 38, 0, 32], &token[..], &[0; 4], &[0, 9, 8], &[0; 8]].concat();
    let early = if early_data { extension(42, &[]) } else { Vec::new() };
    let extensions =
        [extension(0, &name), extension(16, &alpn), extension(43, &[2, 3, 4]), early, extension(41, &psk)].concat();
    let body = [
        &[3, 3][..],
        &random,
        &[32],
        &session_id,
        &[0, 2, 0x13, 0x01, 1, 0],
        &(extensions.len() as u16).to_be_bytes(),
        &extensions,
    ]
    .concat();
    let header = [22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    let mut record = [&header[..], &body].concat();
    let end = record.len() - 8;
    let binder = mix(key, &record[..end]).to_be_bytes();
    record[end..].copy_from_slice(&binder);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Handshake;

    const TOKEN: [u8; 32] = [7; 32];

    fn ends(client_secret: u64, token: [u8; 32]) -> [NullHandshake; 2] {
        let client = NullHandshake::join(Side::Client, client_secret, &token, true);
        [client, NullHandshake::join(Side::Server, 5, &TOKEN, true)]
    }

    #[test]
    fn both_ends_resume_with_the_token_and_the_secret_of_the_session() {
        let [mut client, mut server] = ends(5, TOKEN);
        let (mut hello, mut flight, mut last) = (Vec::new(), Vec::new(), Vec::new());
        client.write(&mut hello);
        assert_eq!(usize::from(hello[4]) + 5, hello.len());
        server.handle_record(&mut hello).unwrap();
        server.write(&mut flight);
        assert!(server.is_resumed() && !server.is_complete());
        client.handle_record(&mut flight).unwrap();
        client.write(&mut last);
        assert!(client.is_resumed() && client.is_complete());
        assert_eq!(last.len(), END_OF_EARLY_DATA + FINISHED);
    }

    #[test]
    fn changed_hello_and_another_secret_get_an_alert() {
        for (secret, changed) in [(5, true), (6, false)] {
            let [mut client, mut server] = ends(secret, TOKEN);
            let (mut hello, mut answer) = (Vec::new(), Vec::new());
            client.write(&mut hello);
            hello[20] ^= u8::from(changed);
            assert!(server.handle_record(&mut hello).is_err());
            server.write(&mut answer);
            assert_eq!(answer, plaintext_alert(Alert::IllegalParameter));
        }
    }

    #[test]
    fn another_token_gets_the_flight_of_a_new_session() {
        let [mut client, mut server] = ends(5, [8; 32]);
        let mut bytes = Vec::new();
        client.write(&mut bytes);
        server.handle_record(&mut bytes).unwrap();
        bytes.clear();
        server.write(&mut bytes);
        client.handle_record(&mut bytes).unwrap();
        assert!(client.is_complete() && !client.is_resumed() && !server.is_resumed());
    }
}
