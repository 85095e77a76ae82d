//! Early data in a handshake of rustls: what rustls does not report, and a work-around for what it counts twice.

use std::collections::VecDeque;

use rustls::unbuffered::ConnectionState;

use super::{Driver, Phase, RECORD_OVERHEAD, Tls};
use crate::crypto::rustls::MAX_EARLY_DATA;
use crate::crypto::{EARLY_DATA, EarlyData, TAG_LEN};
use crate::error::HandshakeError;
use crate::wire::hello::{ExtensionTypes, peek_client_hello};
use crate::wire::record::{ContentType, HEADER_LEN};

/// The record of EndOfEarlyData (RFC 8446, 4.5): its message has a header alone. No other message is as short, and the
/// shortest fragment that rustls makes of a message has 27 bytes.
const END_OF_EARLY_DATA: usize = RECORD_OVERHEAD + 4;
/// Bytes of rejected early data that are skipped, record headers not counted.
const MAX_SKIPPED: usize = MAX_EARLY_DATA as usize;

/// Early data, on either side.
pub(super) struct Early {
    /// Server: the ClientHello, until all of it is there. rustls reassembles its own copy in place.
    hello: Vec<u8>,
    /// Server: whether the ClientHello was looked at. Client: whether the first record behind it was.
    seen: bool,
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
        Self { hello: Vec::new(), seen: false, offered, accepted: false, bytes: 0, received: VecDeque::new() }
    }

    /// Client: returns how many bytes may still be sealed.
    pub(super) fn left(&self) -> usize {
        EARLY_DATA.saturating_sub(self.bytes)
    }

    /// Client: looks at a record of its flight. If the server has accepted early data, EndOfEarlyData is the first that
    /// is protected. A later one can be as long: the end of a message that spans records.
    pub(super) fn note_sent(&mut self, record: &[u8]) {
        if is_protected(record) && !self.seen {
            self.seen = true;
            self.accepted = self.offered && record.len() == END_OF_EARLY_DATA;
        }
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
        self.hello.capacity() + self.received.iter().map(Vec::capacity).sum::<usize>()
    }
}

impl<T: Tls> Driver<T> {
    /// Client: withdraws the early data that the ClientHello does not offer, since rustls has not used the ticket: it
    /// was too old, or of another configuration.
    pub(super) fn check_offer(&mut self) -> Result<(), HandshakeError> {
        if self.phase != Phase::Early {
            return Ok(());
        }
        if let Ok(ConnectionState::TransmitTlsData(data)) = self.tls.process(&mut self.incoming).state
            && T::offers_early_data(data)
        {
            return Ok(());
        }
        (self.early.offered, self.phase) = (false, Phase::Blocked);
        self.tls.withdraw_early();
        self.run()
    }

    /// Server: notes whether the client offers early data. `record` is the next of its first message.
    pub(super) fn look_at_hello(&mut self, record: &[u8]) {
        if self.early.seen || !T::IS_SERVER {
            return;
        }
        self.early.hello.extend_from_slice(record);
        let offered = match peek_client_hello(&self.early.hello, &ExtensionTypes::default()) {
            Ok(None) => return,
            Ok(Some((hello, _))) => hello.early_data,
            Err(_) => false,
        };
        (self.early.seen, self.early.offered, self.early.hello) = (true, offered, Vec::new());
    }

    /// Server: drops a record of rejected early data, which rustls skips, but leaves in its input, and counts again with
    /// each step. A fragment of a message stays there, too, and rustls comes back to it: its last byte, the content
    /// type, is not zero, whereas a record that cannot be opened was filled with zeros by the AEADs of ring and
    /// aws-lc-rs. What other AEADs leave is not dropped; less early data can be rejected with those.
    pub(super) fn drop_skipped(&mut self, record: &[u8]) {
        let skipped = self.early.bytes + record.len().saturating_sub(HEADER_LEN);
        if T::IS_SERVER
            && self.early.offered
            && !self.early.accepted
            && is_protected(record)
            && self.incoming.len() == record.len()
            && has_zeros(&self.incoming)
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

fn is_protected(record: &[u8]) -> bool {
    record.first() == Some(&(ContentType::ApplicationData as u8))
}

/// Whether the content of a record is nothing but zeros, its header and tag aside.
fn has_zeros(record: &[u8]) -> bool {
    let content = record.len().checked_sub(TAG_LEN).and_then(|end| record.get(HEADER_LEN..end));
    content.is_none_or(|content| content.iter().all(|byte| *byte == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_early_data_is_the_first_protected_record_of_the_flight() {
        let (hello, data, end) = ([22; 200], [23; END_OF_EARLY_DATA + 32], [23; END_OF_EARLY_DATA]);
        for (records, outcome) in [
            ([&hello[..], &end, &data], EarlyData::Accepted),
            ([&hello, &data, &end], EarlyData::Rejected),
            ([&hello, &data, &data], EarlyData::Rejected),
        ] {
            let mut early = Early::new(true);
            records.iter().for_each(|record| early.note_sent(record));
            assert_eq!(early.outcome(), outcome);
        }
    }
}
