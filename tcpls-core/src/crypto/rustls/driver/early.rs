//! Early data in a handshake of rustls: what rustls does not report, and a work-around for what it counts twice.

use std::collections::VecDeque;

use rustls::unbuffered::ConnectionState;

use super::{Driver, RECORD_OVERHEAD, Tls};
use crate::crypto::rustls::MAX_EARLY_DATA;
use crate::crypto::{EARLY_DATA, EarlyData};
use crate::wire::hello::{ExtensionTypes, peek_client_hello};
use crate::wire::record::{ContentType, HEADER_LEN};

/// The record of EndOfEarlyData (RFC 8446, 4.5): its message has a header alone. No other record of a client's flight is
/// as long.
const END_OF_EARLY_DATA: usize = RECORD_OVERHEAD + 4;
/// Bytes of rejected early data that are skipped, record headers not counted.
const MAX_SKIPPED: usize = MAX_EARLY_DATA as usize;

/// Early data, on either side.
pub(super) struct Early {
    /// Server: whether the ClientHello was looked at.
    hello_seen: bool,
    /// Whether the ClientHello offers early data.
    offered: bool,
    accepted: bool,
    /// Client: bytes sealed. Server: bytes skipped.
    bytes: usize,
    /// Server: record contents that the session has not fetched.
    received: VecDeque<Vec<u8>>,
}

impl Early {
    /// `offered`: the ClientHello of this client offers early data.
    pub(super) fn new(offered: bool) -> Self {
        Self { hello_seen: false, offered, accepted: false, bytes: 0, received: VecDeque::new() }
    }

    /// Client: returns how many bytes may still be sealed.
    pub(super) fn left(&self) -> usize {
        EARLY_DATA.saturating_sub(self.bytes)
    }

    /// Client: looks at bytes of its flight: EndOfEarlyData shows that the server has accepted early data.
    pub(super) fn note_sent(&mut self, bytes: &[u8]) {
        let is_protected = bytes.first() == Some(&(ContentType::ApplicationData as u8));
        self.accepted |= self.offered && is_protected && bytes.len() == END_OF_EARLY_DATA;
    }

    /// Server: early data is accepted. Returns where received record contents go.
    pub(super) fn accepted(&mut self) -> &mut VecDeque<Vec<u8>> {
        self.accepted = true;
        &mut self.received
    }

    pub(super) fn take_received(&mut self) -> Option<Vec<u8>> {
        self.received.pop_front()
    }

    pub(super) fn outcome(&self) -> EarlyData {
        match (self.offered, self.accepted) {
            (false, _) => EarlyData::None,
            (true, false) => EarlyData::Rejected,
            (true, true) => EarlyData::Accepted,
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.received.iter().map(Vec::capacity).sum()
    }
}

impl<T: Tls> Driver<T> {
    /// Server: notes whether the client offers early data.
    pub(super) fn look_at_hello(&mut self) {
        if !self.early.hello_seen
            && T::IS_SERVER
            && let Ok(Some((hello, _))) = peek_client_hello(&self.incoming, &ExtensionTypes::default())
        {
            (self.early.hello_seen, self.early.offered) = (true, hello.early_data);
        }
    }

    /// Server: drops a record of rejected early data, which rustls skips, but leaves in its input, and counts again with
    /// each step. A whole record that stays in the input is nothing else, except the beginning of a message that spans
    /// records: only a chain of certificates is that long, and its records are too long to be early data.
    pub(super) fn drop_skipped(&mut self, record: &[u8]) {
        let is_protected = record.first() == Some(&(ContentType::ApplicationData as u8));
        let skipped = self.early.bytes + record.len().saturating_sub(HEADER_LEN);
        if T::IS_SERVER
            && self.early.offered
            && is_protected
            && self.incoming.len() == record.len()
            && skipped <= MAX_SKIPPED
        {
            self.early.bytes = skipped;
            self.incoming.clear();
        }
    }

    /// Client: seals early data, by rustls's own keys.
    pub(super) fn seal_early(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> bool {
        let Ok(ConnectionState::TransmitTlsData(data)) = self.tls.process(&mut self.incoming).state else {
            return false;
        };
        let start = out.len();
        out.resize(start + plaintext.len() + RECORD_OVERHEAD, 0);
        let sealed = T::encrypt_early(data, plaintext, &mut out[start..]);
        out.truncate(start + sealed.unwrap_or_default());
        self.early.bytes = if sealed.is_some() { self.early.bytes + plaintext.len() } else { EARLY_DATA };
        sealed.is_some()
    }
}
