//! Questions about the session as a whole, which every file may ask; this file calls no other.

use core::net::SocketAddr;
use core::time::Duration;

use super::carried::Carried;
use super::{Connection, State};
use crate::error::{CloseReason, TcpError};
use crate::stats::{Stats, StreamStats, TcpPhase, TcpStats};
use crate::tcp::acks::AckPolicy;
use crate::tcp::{Tcp, TcpState};
use crate::wire::ids::{ConnectionId, SessionId, Side};

impl Connection {
    /// Returns whether this endpoint is the client or the server.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Returns the state of the session.
    pub fn state(&self) -> State {
        if self.ending.is_closed() {
            State::Closed
        } else if self.ending.is_closing() || self.early.is_closing() {
            State::Closing
        } else if !self.established && !self.is_unconfirmed() {
            State::Handshaking
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

    /// Returns why the session ended; `None` if it has not.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.ending.reason()
    }

    /// Returns the live and the joining TCP connections, in the order of their IDs.
    pub fn tcp_connections(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.tcps.ids()
    }

    /// Server: returns the ID of this session, which is the same at all endpoints that share a token secret.
    pub fn session_id(&self) -> Option<SessionId> {
        self.joins.session()
    }

    /// Returns the negotiated application protocol, without the prefix `tcpls+`. Client, before the handshake is complete: that
    /// of early data, if there is any.
    pub fn application_protocol(&self) -> Option<&[u8]> {
        self.identity.application_protocol.as_deref()
    }

    /// Returns the peer's certificate chain in DER, its own first; empty without one, and before the handshake is
    /// complete.
    pub fn peer_certificates(&self) -> &[Vec<u8>] {
        &self.identity.peer_certificates
    }

    /// Returns the server name of the session.
    pub fn server_name(&self) -> Option<&str> {
        self.identity.server_name.as_deref()
    }

    /// Client: returns whether the server accepts joins only at addresses that it advertises
    /// ([`Config::joins_at_advertised_only`](crate::Config::joins_at_advertised_only) at the server).
    pub fn joins_at_advertised_only(&self) -> bool {
        self.control.parameters().joins_at_advertised_only()
    }

    /// Client: returns whether the server accepts joins at `remote` now. A driver does not connect to another address for
    /// one.
    pub fn may_join_at(&self, remote: SocketAddr) -> bool {
        !self.joins_at_advertised_only() || self.control.is_advertised(remote)
    }

    /// Returns the TLS code point of the cipher suite; `None` before the handshake is complete.
    pub fn cipher_suite(&self) -> Option<u16> {
        self.established.then_some(self.identity.suite)
    }

    /// Returns the number of unused tokens.
    ///
    /// Client: each lets one TCP connection join; without any, 1 if a returned token can be used again (see
    /// [`Connection::open_tcp`]). Server: the tokens that the client has.
    pub fn tokens(&self) -> usize {
        self.joins.tokens()
    }

    /// Returns how many TCP connections the session may have at the same time, including joining ones: the smaller of
    /// both endpoints' [`Config::max_tcp_connections`](crate::Config::max_tcp_connections), as far as the peer's is
    /// known. A server retires one for each that joins beyond it.
    pub fn max_tcp_connections(&self) -> usize {
        let limit = self.config.max_tcp_connections as usize;
        let peer = self.control.parameters().max_tcp_connections();
        limit.min(peer.unwrap_or(limit)).max(1)
    }

    /// Returns how long the session is kept without a TCP connection: the shorter of both endpoints'
    /// [`Config::session_timeout`](crate::Config::session_timeout), as far as the peer's is known. It then ends with
    /// [`CloseReason::Stranded`].
    ///
    /// Each endpoint counts from the loss of its own last TCP connection. The peer may detect the loss earlier or later,
    /// by up to the user timeout, so a join at the very end may be refused.
    pub fn session_timeout(&self) -> Duration {
        let own = self.config.session_timeout;
        self.control.parameters().session_timeout().map_or(own, |peer| peer.min(own))
    }

    /// Returns all counters of the session.
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

    /// Returns the counters of one live TCP connection; cheaper than [`Connection::stats`].
    pub fn tcp_stats(&self, tcp: ConnectionId) -> Option<TcpStats> {
        self.tcps.get(tcp).map(|tcp| tcp_stats(tcp, phase_of(tcp)))
    }

    /// Returns the counters of the open streams, in the order of their IDs.
    pub fn stream_stats(&self) -> impl Iterator<Item = StreamStats> + '_ {
        self.streams.stats()
    }

    pub(super) fn ack_policy(&self) -> AckPolicy {
        AckPolicy { max_delay: self.config.max_ack_delay, every_records: self.config.ack_every_records }
    }

    /// Whether the session is neither closing nor closed.
    pub(super) fn is_open(&self) -> bool {
        !self.ending.is_closing() && !self.ending.is_closed() && !self.early.is_closing()
    }

    /// Whether `Established` was reported: the TLS handshake is complete and, in a TCPLS session, the peer's Session
    /// Parameters have arrived.
    pub(super) fn is_announced(&self) -> bool {
        self.plain || self.control.parameters().is_complete()
    }

    /// Whether the peer can acknowledge no more: it has sent close_notify on each TCP connection.
    #[inline]
    pub(super) fn peer_is_mute(&self) -> bool {
        self.ending.is_half_closed()
            && !self.tcps.is_empty()
            && self.tcps.iter().all(|entry| entry.close_notify_received())
    }

    /// Whether data sent from now on will not be acknowledged: the peer has closed, too, or can acknowledge no more.
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
    /// These are bytes that the peer has not acknowledged and neither endpoint has dropped. The end of a finished
    /// stream counts as one byte. After the end of the session, this is the data lost with it.
    ///
    /// In a plain TLS session, bytes that the socket took count as delivered. If both endpoints close at once, data in
    /// flight is no longer acknowledged, and counts as undelivered.
    pub fn undelivered(&self) -> u64 {
        self.streams.undelivered()
    }

    /// Whether `entry` is stalled and another TCP connection is not: then it carries nothing new, except bulk data of which
    /// it is not relieved.
    pub(super) fn is_bypassed(&self, entry: &Tcp<Carried>) -> bool {
        let is_live = |other: &Tcp<Carried>| other.is_active() && !other.liveness().is_stalled();
        entry.liveness().is_stalled() && self.tcps.iter().any(is_live)
    }

    /// Whether `entry` is stalled and another TCP connection takes over all of its data. A lane does not take over bulk
    /// data.
    pub(super) fn is_relieved(&self, entry: &Tcp<Carried>) -> bool {
        entry.liveness().is_stalled()
            && self.tcps.iter().any(|other| relieves(other, entry) && !other.liveness().is_stalled())
    }

    /// Whether a TCP connection that is neither a backup nor a lane is active and not stalled: then backups carry nothing
    /// but what is about themselves. The peer of a draft-only session does not know which are backups: it puts data on them,
    /// and may read nothing else.
    pub(super) fn spares_backups(&self) -> bool {
        let is_used = |entry: &Tcp<Carried>| {
            let is_live = entry.is_active() && entry.may_seal() && !entry.liveness().is_stalled();
            is_live && !entry.is_backup() && !entry.is_lane()
        };
        !self.control.parameters().is_draft_only() && self.tcps.iter().any(is_used)
    }

    /// Whether `entry` is a backup of which this holds.
    #[inline] // few are backups
    pub(super) fn is_spared(&self, entry: &Tcp<Carried>) -> bool {
        entry.is_backup() && self.spares_backups()
    }

    /// Whether another TCP connection that may carry the same is active and not stalled.
    #[inline] // most sessions have one alone
    pub(super) fn has_other(&self, entry: &Tcp<Carried>) -> bool {
        self.tcps.len() > 1 && self.finds_other(entry)
    }

    fn finds_other(&self, entry: &Tcp<Carried>) -> bool {
        let is_other = |other: &Tcp<Carried>| other.id() != entry.id() && relieves(other, entry);
        self.tcps.iter().any(|other| is_other(other) && !other.liveness().is_stalled())
    }
}

/// Whether `other` may carry what `entry` does, as long as both are live: a lane does not take over bulk data.
fn relieves(other: &Tcp<Carried>, entry: &Tcp<Carried>) -> bool {
    other.is_active() && (entry.is_lane() || !other.is_lane())
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
        stalled: tcp.liveness().is_stalled() && !matches!(phase, TcpPhase::Lost(_)),
        backup: tcp.is_backup(),
        lane: tcp.is_lane(),
        smoothed_rtt: tcp.rtt().smoothed(),
        min_rtt: tcp.rtt().min(),
        bytes_in_flight: tcp.sent().bytes(),
        counters: *tcp.counters(),
    }
}
