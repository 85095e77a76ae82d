//! The Session Parameters of both ends (`docs/protocol.md`, 4): each end sends its own once, and waits for the other's.

use core::time::Duration;

use crate::config::{Config, Lanes, MAX_ACK_DELAY_MS};
use crate::error::Violation;
use crate::time::Time;
use crate::wire::frame::Parameters;

/// How long the peer may send frames without Session Parameters: these may be in flight on a slow TCP connection, or be
/// sent again after its loss.
pub(in crate::connection) const PARAMETERS_TIMEOUT: Duration = Duration::from_secs(30);

/// The parameters that were sent and received.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::connection) struct ParameterExchange {
    is_sent: bool,
    /// The session has only the draft's frames, and so no parameters (decision D142).
    is_draft_only: bool,
    /// Since when the peer sends frames and no Session Parameters.
    awaited_since: Option<Time>,
    peer: Option<Parameters>,
    /// Server: whether it takes joins that are resumptions.
    resumed_joins: bool,
    /// Server: the number of its instance.
    instance: u64,
}

impl ParameterExchange {
    /// Returns this endpoint's parameters, which are sent now.
    pub(super) fn send(&mut self, config: &Config) -> Parameters {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.is_sent = true;
        Parameters {
            initial_max_data: config.initial_session_window,
            initial_max_stream_data: config.initial_stream_window,
            max_streams: u64::from(config.max_streams),
            idle_timeout_ms: config.idle_timeout.map_or(0, millis),
            user_timeout_ms: millis(config.user_timeout),
            max_ack_delay_ms: millis(config.max_ack_delay),
            max_tcp_connections: u64::from(config.max_tcp_connections),
            lanes: u64::from(config.lanes != Lanes::Off),
            session_timeout_ms: millis(config.session_timeout),
            drain: 1,
            resumed_joins: u64::from(self.resumed_joins),
            instance: self.instance,
            advertised_only: u64::from(config.joins_at_advertised_only),
            option_requests: 1,
        }
    }

    /// The endpoints have agreed on the draft's frames alone: neither sends parameters.
    pub(super) fn leave_out(&mut self) {
        (self.is_sent, self.is_draft_only) = (true, true);
    }

    /// What holds for a peer that sends none; its windows are TCP's.
    pub(super) fn assume_absent(&mut self) {
        self.peer.get_or_insert_with(Parameters::default);
    }

    /// Whether the session has only the draft's frames.
    #[inline]
    pub(in crate::connection) fn is_draft_only(&self) -> bool {
        self.is_draft_only
    }

    /// The peer's parameters arrived; returns whether for the first time. They may be repeated after a loss, but never
    /// change.
    pub(super) fn handle(&mut self, parameters: Parameters) -> Result<bool, Violation> {
        match self.peer {
            Some(known) if known == parameters => Ok(false),
            Some(_) => Err(Violation::Parameters),
            None => {
                self.peer = Some(parameters);
                self.awaited_since = None;
                Ok(true)
            }
        }
    }

    /// Frames of the peer arrived: its parameters are expected.
    #[inline]
    pub(super) fn handle_frames(&mut self, now: Time) {
        if self.peer.is_none() {
            self.awaited_since.get_or_insert(now);
        }
    }

    /// No TCP connection is left on which they could arrive.
    pub(super) fn stop_waiting(&mut self) {
        self.awaited_since = None;
    }

    /// Whether this endpoint's were sent.
    pub(in crate::connection) fn is_sent(&self) -> bool {
        self.is_sent
    }

    /// Returns the peer's, once they are known.
    pub(in crate::connection) fn peer(&self) -> Option<&Parameters> {
        self.peer.as_ref()
    }

    /// Whether the peer's are known.
    #[inline]
    pub(in crate::connection) fn is_complete(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether the peer sends frames and no Session Parameters.
    pub(in crate::connection) fn is_awaited(&self) -> bool {
        self.awaited_since.is_some()
    }

    /// Whether it has done so for too long.
    pub(in crate::connection) fn is_withheld(&self, now: Time) -> bool {
        self.awaited_since.is_some_and(|since| since + PARAMETERS_TIMEOUT <= now)
    }

    /// How many TCP connections the peer allows, if that is known.
    pub(in crate::connection) fn max_tcp_connections(&self) -> Option<usize> {
        self.peer.and_then(|peer| usize::try_from(peer.max_tcp_connections).ok())
    }

    /// Whether the peer keeps bulk data off lanes.
    pub(in crate::connection) fn peer_knows_lanes(&self) -> bool {
        self.peer.is_some_and(|peer| peer.lanes == 1)
    }

    /// Whether the peer understands Drain.
    pub(in crate::connection) fn peer_knows_drain(&self) -> bool {
        self.peer.is_some_and(|peer| peer.drain == 1)
    }

    /// Whether the peer answers requests for TCP options.
    pub(in crate::connection) fn peer_answers_option_requests(&self) -> bool {
        self.peer.is_some_and(|peer| peer.option_requests == 1)
    }

    /// Server: takes joins that are resumptions.
    pub(super) fn take_resumed_joins(&mut self) {
        self.resumed_joins = true;
    }

    /// Whether the server, this endpoint or the peer, takes joins that are resumptions.
    pub(in crate::connection) fn has_resumed_joins(&self) -> bool {
        self.resumed_joins || self.peer.is_some_and(|peer| peer.resumed_joins == 1)
    }

    /// Server: the number of the instance that has the session.
    pub(super) fn name_instance(&mut self, instance: u64) {
        self.instance = instance;
    }

    /// Client: the number of the instance that has the session, if the server says so.
    pub(in crate::connection) fn peer_instance(&self) -> Option<u64> {
        self.peer.map(|peer| peer.instance).filter(|instance| *instance != 0)
    }

    /// Whether the peer, a server, accepts joins only at addresses that it advertises.
    pub(in crate::connection) fn joins_at_advertised_only(&self) -> bool {
        self.peer.is_some_and(|peer| peer.advertised_only == 1)
    }

    /// Returns the peer's user timeout, if that is known.
    pub(in crate::connection) fn user_timeout(&self) -> Option<Duration> {
        let millis = self.peer.map_or(0, |peer| peer.user_timeout_ms);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Returns how long the peer keeps a session without a TCP connection, if it says so.
    pub(in crate::connection) fn session_timeout(&self) -> Option<Duration> {
        let millis = self.peer.map_or(u64::MAX, |peer| peer.session_timeout_ms);
        (millis < u64::MAX).then(|| Duration::from_millis(millis))
    }

    /// Returns the peer's maximum delay of an acknowledgment.
    pub(in crate::connection) fn max_ack_delay(&self) -> Duration {
        Duration::from_millis(self.peer.map_or(0, |peer| peer.max_ack_delay_ms.min(MAX_ACK_DELAY_MS)))
    }
}
