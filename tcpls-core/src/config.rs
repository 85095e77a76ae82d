//! Limits and timeouts of a session. Bounds on memory and work that an application may want to change are fields here,
//! with safe defaults; the others are constants where they apply.

use core::time::Duration;

use crate::error::{Bound, ConfigError};

/// The smallest window or send buffer, in bytes.
const MIN_BUFFER: u64 = 1024;
/// The shortest timeout.
pub(crate) const MIN_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest delay of an acknowledgment, in milliseconds.
pub(crate) const MAX_ACK_DELAY_MS: u64 = 1 << 14;
/// The most tokens that a client stores.
const MAX_SPARE_TOKENS: u64 = 16;
/// The fewest gaps that a stream must be allowed.
const MIN_GAPS: u64 = 8;
/// Gaps that are enough for any window.
const ENOUGH_GAPS: u64 = 1024;
/// Two full records: if full records fill a window, every second one may be missing.
const BYTES_PER_GAP: u64 = 2 * ((1 << 14) - 15);
/// The fewest records per generation of keys: both endpoints need them to change to the next one.
const MIN_KEY_USES: u64 = 32;
/// The overhead, in units, of a session that works normally.
const MIN_OVERHEAD: u64 = 100;

/// When a session has *lanes*: TCP connections that carry no bulk data, so that interactive streams do not wait behind
/// it ([`Connection::wants_lane`]).
///
/// [`Connection::wants_lane`]: crate::connection::Connection::wants_lane
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lanes {
    /// Never. A peer that requests one is not asked to use it, either.
    Off,
    /// While interactive streams and bulk data share a path.
    #[default]
    Auto,
    /// On each path, as long as the session lasts. A server cannot open TCP connections; there it is the same as
    /// `Auto`.
    Always,
}

/// Settings of one endpoint of a session. Every resource that a peer could exhaust is bounded, here or by a constant.
///
/// [`Config::default`] suits bulk transfer and interactive use on the public Internet. [`Config::validate`] rejects
/// windows and buffers below 1 KiB, timeouts below 100 ms, counts of 0, and settings that contradict each other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Initial window of the session in bytes: how many bytes beyond those received the peer may send on all streams
    /// together. The window grows up to [`Config::max_session_window`]; unread streams do not close it.
    pub initial_session_window: u64,
    /// Maximum of the session's window and of the data buffered for reading, in bytes. Other streams continue while
    /// unread ones stay below this bound: with the defaults, while at most 15 streams are unread; with an initial window of
    /// at most this bound / (2 * [`Config::max_streams`]), always.
    pub max_session_window: u64,
    /// Initial window of a stream: bytes that the peer may send before the application reads. With at most 1/32 of
    /// [`Config::max_session_window`], 15 unread streams do not block the others.
    pub initial_stream_window: u64,
    /// Maximum of a stream's window, in bytes. All windows together grow by at most [`Config::max_session_window`] less
    /// [`Config::max_streams`] (at least 16) initial windows, or by half of it if that is more.
    pub max_stream_window: u64,
    /// Streams that the peer may have open at the same time.
    pub max_streams: u32,
    /// Bytes of all streams together that are written and not yet acknowledged; a further write returns `Blocked` until
    /// there is room. This bounds the memory for failover. Beyond the data in flight and the peer's credit, a session
    /// holds at most 64 KiB, and a plain session at most 256 KiB in all.
    pub send_buffer: usize,
    /// The same for one stream.
    pub stream_send_buffer: usize,
    /// Unacknowledged records on one TCP connection before stream data has to wait. The session keeps about 100 bytes
    /// for each. At least 1; a path with a large bandwidth-delay product needs thousands.
    pub max_unacknowledged_records: u32,
    /// Received ranges with gaps between them that one stream may hold. More are a violation by the peer.
    pub max_gaps: usize,

    /// Time after which a session ends that has no open stream and receives no Ping, or that has open streams and
    /// receives nothing. The shorter timeout of both endpoints applies. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// Time without ACK progress after which a TCP connection with outstanding ack-eliciting records is lost. Bytes
    /// that arrive on it, and bytes that the peer's TCP newly acknowledges, restart the time.
    pub user_timeout: Duration,
    /// While streams are open: time without an authentic record after which the session sends a Ping on a TCP
    /// connection. It doubles with each answer, up to 16 times its value, until stream data flows again. A backup gets
    /// none while another TCP connection works. `None`: no Pings, except where the peer reports a backup; then an
    /// endpoint without data to send may not detect a dark path.
    pub probe_after: Option<Duration>,
    /// Maximum delay of an acknowledgment. At most 16 s (2¹⁴ ms).
    pub max_ack_delay: Duration,
    /// Number of ack-eliciting records after which an acknowledgment is sent without delay.
    pub ack_every_records: u32,
    /// TCP connections at the same time, including unused tokens of the client. At least 1. The client always has one
    /// token: if a TCP connection joins beyond the limit, the server retires the one that has been silent longest.
    pub max_tcp_connections: u32,
    /// Whether interactive streams get a TCP connection of their own beside bulk data.
    pub lanes: Lanes,
    /// Server: accepts joins only at addresses that it advertises ([`Connection::advertise`]), and no more at the one that
    /// the client came to: a load balancer is there, which could pass them to another server. A client complies unless it
    /// does not know this.
    ///
    /// [`Connection::advertise`]: crate::connection::Connection::advertise
    pub joins_at_advertised_only: bool,
    /// Server: unused tokens that the client should always have, within [`Config::max_tcp_connections`]. At most 16.
    /// This many TCP connections can join at once, and this many joins may fail before a stranded session cannot
    /// recover.
    pub spare_tokens: u32,
    /// Time limit of the TLS handshake. Bytes in either direction restart it, up to four times its value in all.
    pub handshake_timeout: Duration,
    /// Time limit of a join, up to its first authentic record. Bytes in either direction restart it, up to four times
    /// its value in all.
    pub join_timeout: Duration,
    /// How long a session without a TCP connection waits for a join. The shorter timeout of both endpoints applies;
    /// [`Connection::session_timeout`](crate::Connection::session_timeout) returns it.
    pub session_timeout: Duration,
    /// How long closing may take without progress. Also how long a peer that sent close_notify on one of several TCP
    /// connections may take to deliver its data on the others.
    pub close_timeout: Duration,
    /// How long closing may take in all, even with progress.
    pub close_limit: Duration,
    /// Client: sends records directly behind the ClientHello of a join, without waiting for the ServerHello.
    pub zero_rtt_join: bool,

    /// Maximum of records sealed with one key, over all TCP connections. `None`: the limit of the cipher suite (2²³ for
    /// AES-GCM).
    pub confidentiality_limit: Option<u64>,
    /// Number of records that fail to decrypt, over all TCP connections, at which the session ends. `None`: the limit
    /// of the cipher suite.
    pub integrity_limit: Option<u64>,
    /// Overhead, in units, that a peer may cause beyond its payload before the session ends (enhance your calm). A
    /// record or control frame without payload costs one unit; each KiB of stream data returns one.
    pub overhead_budget: u32,
}

impl Config {
    /// Returns these settings with a change: `Config::default().with(|config| config.max_streams = 10)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_session_window: 2 << 20,
            max_session_window: 32 << 20,
            initial_stream_window: 1 << 20,
            max_stream_window: 16 << 20,
            max_streams: 128,
            send_buffer: 32 << 20,
            stream_send_buffer: 16 << 20,
            max_unacknowledged_records: 16_384,
            max_gaps: 1024,
            idle_timeout: Some(Duration::from_secs(60)),
            user_timeout: Duration::from_secs(10),
            probe_after: Some(Duration::from_secs(2)),
            max_ack_delay: Duration::from_millis(25),
            ack_every_records: 32,
            max_tcp_connections: 8,
            lanes: Lanes::Auto,
            joins_at_advertised_only: false,
            spare_tokens: 4,
            handshake_timeout: Duration::from_secs(10),
            join_timeout: Duration::from_secs(5),
            session_timeout: Duration::from_secs(60),
            close_timeout: Duration::from_secs(5),
            close_limit: Duration::from_secs(600),
            zero_rtt_join: true,
            confidentiality_limit: None,
            integrity_limit: None,
            overhead_budget: 20_000,
        }
    }
}

impl Config {
    /// Checks that these settings are valid. [`Connection::client`] and [`Connection::server`] call it: a session with
    /// an invalid configuration ends at once, with [`CloseReason::Config`].
    ///
    /// [`Connection::client`]: crate::connection::Connection::client
    /// [`Connection::server`]: crate::connection::Connection::server
    /// [`CloseReason::Config`]: crate::error::CloseReason::Config
    ///
    /// # Errors
    /// Returns the first setting that is too small or too large, or contradicts another.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.check_windows()?;
        self.check_counts()?;
        self.check_times()
    }

    fn check_windows(&self) -> Result<(), ConfigError> {
        ConfigError::at_least("initial_session_window", self.initial_session_window, MIN_BUFFER, "bytes")?;
        ConfigError::at_least("initial_stream_window", self.initial_stream_window, MIN_BUFFER, "bytes")?;
        if self.max_session_window < self.initial_session_window {
            return Err(ConfigError::new("max_session_window", Bound::NotBelow("initial_session_window")));
        }
        if self.max_stream_window < self.initial_stream_window {
            return Err(ConfigError::new("max_stream_window", Bound::NotBelow("initial_stream_window")));
        }
        ConfigError::at_least("send_buffer", self.send_buffer as u64, MIN_BUFFER, "bytes")?;
        ConfigError::at_least("stream_send_buffer", self.stream_send_buffer as u64, MIN_BUFFER, "bytes")
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        ConfigError::at_least("max_streams", self.max_streams.into(), 1, "stream")?;
        ConfigError::at_least("max_unacknowledged_records", self.max_unacknowledged_records.into(), 1, "record")?;
        let gaps = (self.max_stream_window / BYTES_PER_GAP).clamp(MIN_GAPS, ENOUGH_GAPS);
        ConfigError::at_least("max_gaps", self.max_gaps as u64, gaps, "gaps for such windows")?;
        ConfigError::at_least("ack_every_records", self.ack_every_records.into(), 1, "record")?;
        ConfigError::at_least("max_tcp_connections", self.max_tcp_connections.into(), 1, "TCP connection")?;
        if u64::from(self.spare_tokens) > MAX_SPARE_TOKENS {
            return Err(ConfigError::new("spare_tokens", Bound::AtMost(MAX_SPARE_TOKENS, "tokens")));
        }
        let key_uses = self.confidentiality_limit.unwrap_or(u64::MAX);
        ConfigError::at_least("confidentiality_limit", key_uses, MIN_KEY_USES, "records")?;
        ConfigError::at_least("integrity_limit", self.integrity_limit.unwrap_or(u64::MAX), 1, "record")?;
        ConfigError::at_least("overhead_budget", self.overhead_budget.into(), MIN_OVERHEAD, "units")
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        for (field, time) in [
            ("idle_timeout", self.idle_timeout),
            ("user_timeout", Some(self.user_timeout)),
            ("probe_after", self.probe_after),
            ("handshake_timeout", Some(self.handshake_timeout)),
            ("join_timeout", Some(self.join_timeout)),
            ("close_timeout", Some(self.close_timeout)),
        ] {
            ConfigError::lasts(field, time.unwrap_or(Duration::MAX), MIN_TIMEOUT)?;
        }
        ConfigError::lasts("close_limit", self.close_limit, Duration::from_millis(1))?;
        if self.max_ack_delay > Duration::from_millis(MAX_ACK_DELAY_MS) {
            return Err(ConfigError::new("max_ack_delay", Bound::AtMost(MAX_ACK_DELAY_MS, "ms")));
        }
        // With a longer delay, the peer would time out TCP connections that work: the shorter user timeout applies
        // to both.
        if self.max_ack_delay >= self.user_timeout {
            return Err(ConfigError::new("max_ack_delay", Bound::Below("user_timeout")));
        }
        if self.idle_timeout.is_some_and(|idle| self.max_ack_delay >= idle) {
            return Err(ConfigError::new("max_ack_delay", Bound::Below("idle_timeout")));
        }
        Ok(())
    }
}
