//! What holds of the session as a whole: questions that every file asks, and that ask no file in turn.

use super::control::Carried;
use super::{Connection, State};
use crate::error::{CloseReason, TcpError};
use crate::stats::{Stats, TcpPhase, TcpStats};
use crate::tcp::acks::AckPolicy;
use crate::tcp::{Tcp, TcpState};
use crate::wire::ids::{ConnectionId, SessionId, Side};

impl Connection {
    /// Which end this is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The state of the session.
    pub fn state(&self) -> State {
        if self.ending.is_closed() {
            State::Closed
        } else if !self.established {
            State::Handshaking
        } else if self.ending.is_closing() {
            State::Closing
        } else if let Some(until) = self.stranded_until {
            State::Stranded { until }
        } else if self.plain {
            State::Plain
        } else if self.is_announced() {
            State::Established
        } else {
            State::Handshaking
        }
    }

    /// Why the session ended; `None` as long as it has not.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ending.reason()
    }

    /// The live TCP connections, in the order of their IDs; those that are still opening too.
    pub fn tcp_connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.tcps.ids()
    }

    /// Server: how endpoints that share a token secret name this session.
    pub fn session_id(&self) -> Option<SessionId> {
        self.joins.session()
    }

    /// The application protocol that was agreed, without the `tcpls+` in front.
    pub fn application_protocol(&self) -> Option<&[u8]> {
        self.identity.application_protocol.as_deref()
    }

    /// The peer's certificates in DER, its own first; empty if it showed none or the handshake is not over.
    pub fn peer_certificates(&self) -> &[Vec<u8>] {
        &self.identity.peer_certificates
    }

    /// The server name that the session was opened with.
    pub fn server_name(&self) -> Option<&str> {
        self.identity.server_name.as_deref()
    }

    /// The TLS code point of the cipher suite in use; `None` before the handshake is complete.
    pub fn cipher_suite(&self) -> Option<u16> {
        self.established.then_some(self.identity.suite)
    }

    /// Client: tokens that it has shown to no server yet, each of which lets one TCP connection join; once there are none, 1 if
    /// one that was shown in vain is worth another try (see [`Connection::open_tcp`]). Server: tokens in the client's hands.
    pub fn tokens(&self) -> usize {
        self.joins.tokens()
    }

    /// How many TCP connections the session may have at the same time, joining ones too: the smaller of both sides'
    /// [`Config::max_tcp_connections`](crate::Config::max_tcp_connections), as far as the peer's own is known. A server
    /// leaves one for each that joins beyond.
    pub fn max_tcp_connections(&self) -> usize {
        let limit = self.config.max_tcp_connections as usize;
        let peer = self.control.parameters().max_tcp_connections();
        limit.min(peer.unwrap_or(limit)).max(1)
    }

    /// Counters of everything, as they are now.
    pub fn stats(&self) -> Stats {
        let live = self.tcps.iter().map(|tcp| tcp_stats(tcp, phase_of(tcp)));
        let lost = self.lost.values().map(|lost| tcp_stats(&lost.tcp, TcpPhase::Lost(lost.fault)));
        let mut tcp: Vec<TcpStats> = live.chain(lost).collect();
        tcp.sort_by_key(|stats| stats.tcp);
        Stats {
            tcp,
            frames_sent: self.frames_sent.clone(),
            frames_received: self.frames_received.clone(),
            streams_open: self.streams.len(),
            bytes_to_send: self.streams.buffered_to_send(),
            bytes_to_read: self.streams.buffered_to_read(),
            frames_due: self.control.frames_due(),
            tokens: self.tokens(),
            limits: self.limits,
            key_updates: self.key_updates,
        }
    }

    /// One live TCP connection's counters; cheaper than [`Connection::stats`].
    pub fn tcp_stats(&self, tcp: ConnectionId) -> Option<TcpStats> {
        self.tcps.get(tcp).map(|tcp| tcp_stats(tcp, phase_of(tcp)))
    }

    pub(super) fn ack_policy(&self) -> AckPolicy {
        AckPolicy { max_delay: self.config.max_ack_delay, every_records: self.config.ack_every_records }
    }

    /// Whether the session is neither closing nor closed.
    pub(super) fn is_open(&self) -> bool {
        !self.ending.is_closing() && !self.ending.is_closed()
    }

    /// Whether the driver knows of the session: the TLS handshake is complete, and the peer's Session Parameters are known
    /// where there are any.
    pub(super) fn is_announced(&self) -> bool {
        self.plain || self.control.parameters().is_complete()
    }

    /// Whether the peer can acknowledge nothing any more: it sent close_notify on each TCP connection.
    #[inline]
    pub(super) fn peer_is_mute(&self) -> bool {
        self.ending.is_half_closed()
            && !self.tcps.is_empty()
            && self.tcps.iter().all(|entry| entry.close_notify_received())
    }

    /// Whether what is still to be sent will never be acknowledged: the peer has closed too, or said all it had to say.
    pub(super) fn ends_unacknowledged(&self) -> bool {
        self.ending.is_crossing() || self.peer_is_mute()
    }

    pub(super) fn check_tcp(&self, tcp: ConnectionId) -> Result<(), TcpError> {
        if !self.is_open() {
            Err(TcpError::Closed)
        } else if self.plain {
            Err(TcpError::Plain)
        } else if !self.tcps.contains(tcp) {
            Err(TcpError::Unknown)
        } else {
            Ok(())
        }
    }

    /// Returns how many written bytes are not delivered, as far as this endpoint knows.
    ///
    /// These are bytes that the peer has not acknowledged and neither side has given up. The end of a finished stream
    /// counts as one. Once the session is over, this is what was lost with it.
    ///
    /// On a plain TLS session, bytes that the socket took count as delivered. If both ends close at once, data under way
    /// is not acknowledged any more, and counts as undelivered.
    pub fn undelivered(&self) -> u64 {
        self.streams.undelivered()
    }

    /// Whether `entry` is stalled and another TCP connection is not: then it carries nothing new.
    pub(super) fn is_bypassed(&self, entry: &Tcp<Carried>) -> bool {
        entry.liveness().is_stalled()
            && self.tcps.iter().any(|other| other.is_active() && !other.liveness().is_stalled())
    }

    /// Whether another TCP connection is in use and answers.
    pub(super) fn has_other(&self, entry: &Tcp<Carried>) -> bool {
        self.tcps.iter().any(|other| other.id() != entry.id() && other.is_active() && !other.liveness().is_stalled())
    }
}

fn phase_of(tcp: &Tcp<Carried>) -> TcpPhase {
    match tcp.state() {
        TcpState::Handshaking | TcpState::Opening(_) => TcpPhase::Opening,
        TcpState::Active => TcpPhase::Active,
        TcpState::Retiring(_) => TcpPhase::Retiring,
    }
}

fn tcp_stats(tcp: &Tcp<Carried>, phase: TcpPhase) -> TcpStats {
    TcpStats {
        tcp: tcp.id(),
        phase,
        backup: tcp.is_backup(),
        smoothed_rtt: tcp.rtt().smoothed(),
        min_rtt: tcp.rtt().min(),
        bytes_in_flight: tcp.sent().bytes(),
        counters: *tcp.counters(),
    }
}
