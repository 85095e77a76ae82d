//! Early data: what a client sends with its ClientHello, and what a server answers before the client's Finished.
//!
//! The records are sealed and opened by the TLS library and have no record numbers. A client keeps what they carried
//! until the server has decided: what was accepted is acknowledged with the first record of TCP connection 0, which
//! follows it in TCP's order; what was rejected is sent again, as if it had never been (`docs/protocol.md`, 2).
//!
//! This file has the state, `output` sends, `input` takes in what was received and what the server decided.

mod input;
mod output;

use super::Connection;
use super::carried::Carried;
use crate::config::Config;
use crate::crypto::{EARLY_DATA, TAG_LEN};
use crate::error::Violation;
use crate::wire::frame::Parameters;
use crate::wire::ids::{ConnectionId, Side};
use crate::wire::record::HEADER_LEN;

/// Records of early data that a client sends at most: servers count their overhead, too, where they skip them.
const MAX_RECORDS: u32 = 64;
/// Session Parameters and the shortest piece of stream data: below this no record is begun.
const MIN_LEFT: usize = 256;
/// Records that a server sends before the client's Finished at most.
const MAX_HALF_RTT_RECORDS: u32 = 1024;
/// Header, content type and tag of a record.
const RECORD_OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;
/// The first byte of [`Terms`] as they are kept with a ticket.
const VERSION: u8 = 1;

/// Bytes of [`Terms`] in front of the application protocol.
pub(super) const TERMS_LEN: usize = 26;

/// What early data relies on: the limits of the server's Session Parameters, which hold for the session of the ticket and
/// for early data that is sent with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    max_data: u64,
    max_stream_data: u64,
    max_streams: u64,
}

impl Terms {
    /// Those that this endpoint grants.
    pub(super) fn of(config: &Config) -> Self {
        Self {
            max_data: config.initial_session_window,
            max_stream_data: config.initial_stream_window,
            max_streams: config.max_streams.into(),
        }
    }

    /// Those that a server has granted.
    pub(super) fn granted(parameters: &Parameters) -> Self {
        Self {
            max_data: parameters.initial_max_data,
            max_stream_data: parameters.initial_max_stream_data,
            max_streams: parameters.max_streams,
        }
    }

    /// Whether these grant no less than `earlier` ones.
    fn hold(&self, earlier: &Self) -> bool {
        self.max_data >= earlier.max_data
            && self.max_stream_data >= earlier.max_stream_data
            && self.max_streams >= earlier.max_streams
    }

    /// Returns the bytes that are kept with a ticket: these, and the application protocol of the session.
    pub(super) fn encode(&self, protocol: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(protocol.is_some())];
        for value in [self.max_data, self.max_stream_data, self.max_streams] {
            bytes.extend_from_slice(&value.to_be_bytes());
        }
        bytes.extend_from_slice(protocol.unwrap_or_default());
        bytes
    }

    /// Reads them; `None` for those of another version.
    fn decode(bytes: &[u8]) -> Option<(Self, Option<Vec<u8>>)> {
        let (&[version, has_protocol], rest) = bytes.split_first_chunk::<2>()?;
        let (values, protocol) = rest.split_at_checked(24)?;
        let (values, _) = values.as_chunks::<8>();
        let &[max_data, max_stream_data, max_streams] = values else { return None };
        let [max_data, max_stream_data, max_streams] = [max_data, max_stream_data, max_streams].map(u64::from_be_bytes);
        let protocol = (has_protocol == 1).then(|| protocol.to_vec());
        (version == VERSION).then_some((Self { max_data, max_stream_data, max_streams }, protocol))
    }
}

/// Returns what a client without an application protocol remembers of a session with a server of this configuration.
#[cfg(feature = "testing")]
pub(crate) fn early_terms(server: &Config) -> Vec<u8> {
    Terms::of(server).encode(None)
}

/// The state of early data, on either side.
#[derive(Default)]
pub(super) struct Early {
    /// Client: what was remembered, until the server rejects early data.
    terms: Option<Terms>,
    /// Client: bytes and records of early data that may still be sent.
    left: (usize, u32),
    /// Client: what was sent.
    carried: Vec<Carried>,
    sent: usize,
    /// Server: early data of this session was accepted, and its handshake is not complete.
    is_unconfirmed: bool,
    half_rtt_records: u32,
    /// Server: early data of a client without TCPLS.
    plain: Vec<u8>,
    /// The application closed the session, with this reason. The session waits for the handshake, to deliver what was
    /// written.
    close: Option<Vec<u8>>,
}

impl Early {
    /// Whether the application has closed the session, which waits for the handshake.
    pub(super) fn is_closing(&self) -> bool {
        self.close.is_some()
    }
}

impl Connection {
    /// Client: returns how many bytes may still be sent as early data, before the handshake is complete.
    ///
    /// 0 if there is none in this session, or it has ended. If it is not 0, streams can be opened and written at once, for
    /// the application protocol that [`Connection::application_protocol`] returns.
    ///
    /// An attacker can send copies of early data: write only what may be repeated. What was written before the handshake
    /// is complete and does not fit is sent afterwards. If the server rejects early data, it is sent again.
    pub fn early_data(&self) -> usize {
        if self.early.left.1 == 0 || self.ending.is_closed() { 0 } else { self.early.left.0.saturating_sub(MIN_LEFT) }
    }

    /// Returns whether the handshake is complete. A session is reported before that only if it has early data, and only to
    /// a server: [`Event::HandshakeConfirmed`](crate::event::Event::HandshakeConfirmed) follows.
    pub fn is_confirmed(&self) -> bool {
        self.established
    }

    /// Client: takes up what was remembered of the session whose ticket is offered.
    pub(super) fn begin_early(&mut self) {
        let state = self.handshake.as_ref().and_then(|tls| tls.early_state());
        let Some((terms, protocol)) = state.and_then(Terms::decode) else { return };
        self.identity.application_protocol = protocol;
        let max_streams = u32::try_from(terms.max_streams).unwrap_or(u32::MAX);
        self.streams.set_peer_limits(terms.max_data, terms.max_stream_data, max_streams);
        self.early.terms = Some(terms);
        self.early.left = (EARLY_DATA, MAX_RECORDS);
    }

    /// Server: early data under other limits than those of now is rejected.
    pub(super) fn set_early_terms(&mut self) {
        let terms = Terms::of(&self.config).encode(None);
        self.handshake.iter_mut().for_each(|tls| tls.set_early_terms(&terms));
    }

    /// Client: what the server grants is kept with the tickets that follow.
    pub(super) fn remember_terms(&mut self) {
        if self.plain || self.side == Side::Server {
            return;
        }
        let granted = self.control.parameters().peer().map(Terms::granted);
        let protocol = self.identity.application_protocol.as_deref();
        let state = granted.map(|terms| terms.encode(protocol)).unwrap_or_default();
        self.keys.iter_mut().for_each(|keys| keys.remember(&state));
    }

    /// Whether stream data can be sent before the handshake is complete.
    pub(super) fn has_early_data(&self, tcp: ConnectionId) -> bool {
        let may_send = match self.side {
            Side::Client => self.early_data() > 0,
            Side::Server => self.early.is_unconfirmed && self.early.half_rtt_records < MAX_HALF_RTT_RECORDS,
        };
        may_send && self.handshake.is_some() && tcp == ConnectionId::FIRST && self.streams.has_data(tcp)
    }

    /// Memory of what was sent or received before the handshake is complete.
    pub(super) fn early_memory(&self) -> usize {
        self.early.plain.capacity() + self.early.carried.capacity() * size_of::<Carried>()
    }

    /// Whether a server has reported the session before its handshake is complete.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.early.is_unconfirmed
    }

    /// Client: the server's Session Parameters arrived. Those that early data relied on hold; if it was rejected, the
    /// streams that are open must be allowed.
    pub(super) fn check_terms(&self, parameters: &Parameters) -> Result<(), Violation> {
        let granted = Terms::granted(parameters);
        let holds = match &self.early.terms {
            Some(terms) => granted.hold(terms),
            None => granted.max_streams >= u64::from(self.streams.opened_here()),
        };
        if holds || self.side == Side::Server { Ok(()) } else { Err(Violation::Parameters) }
    }

    /// Whether the handshake is not complete, and there are streams already.
    pub(super) fn has_data_before_confirmation(&self) -> bool {
        !self.established && self.streams.len() > 0 && (self.is_unconfirmed() || self.early.terms.is_some())
    }

    /// The application closes the session before the handshake is complete: what was written is delivered first. The
    /// timeout of the handshake bounds the wait.
    pub(super) fn close_when_confirmed(&mut self, reason: &[u8]) {
        self.streams.stop_writing();
        self.early.close = Some(reason.to_vec());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_as_written_and_those_of_another_version_are_not() {
        let terms = Terms { max_data: 1, max_stream_data: 1 << 40, max_streams: 3 };
        for protocol in [None, Some(&b""[..]), Some(&b"h2"[..])] {
            let mut bytes = terms.encode(protocol);
            assert_eq!(Terms::decode(&bytes), Some((terms, protocol.map(<[u8]>::to_vec))));
            bytes[0] = 2;
            assert_eq!(Terms::decode(&bytes), None);
            assert_eq!(Terms::decode(&bytes[..20]), None);
        }
    }
}
